package shadow

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
)

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &routing.DefaultLimits.Penalty
		var b breaker
		sent := func(ok bool, why string) {
			t.Helper()
			assert.Equal(t, !ok, b.open(time.Now()), why)
			assert.Equal(t, ok, b.claim(time.Now()), why)
		}
		b.report(p, false)
		b.report(p, false)
		sent(true, "two failures are none")
		b.report(p, false)
		sent(false, "three in a row")
		time.Sleep(p.Pause) //nolint:forbidigo // inside the bubble
		assert.False(t, b.open(time.Now()), "a copy may be made")
		sent(true, "one probe, though another copy was made that may never be sent")
		sent(false, "and no more")
		b.release()
		sent(true, "it was not sent after all: another probe")
		b.report(p, false)
		sent(false, "it failed as well")
		time.Sleep(p.Pause) //nolint:forbidigo // inside the bubble
		sent(true, "the next probe")
		b.report(p, true)
		sent(true, "healed")
		sent(true, "for all")
		for range p.LongFailures {
			b.report(p, false)
		}
		time.Sleep(p.LongPause - time.Millisecond) //nolint:forbidigo // inside the bubble
		sent(false, "many failures pause for longer")
		time.Sleep(time.Millisecond) //nolint:forbidigo // inside the bubble
		sent(true, "but not for ever")
	})
}
