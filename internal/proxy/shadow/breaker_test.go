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
		sent(true, "two failures do not open the breaker")
		b.report(p, false)
		sent(false, "three failures in a row open the breaker")
		time.Sleep(p.Pause) //nolint:forbidigo // inside the bubble
		assert.False(t, b.open(time.Now()), "a copy may be made after the pause")
		sent(true, "one probe may be sent, although another copy was made that may never be sent")
		sent(false, "no second copy besides the probe")
		b.release()
		sent(true, "the probe was not sent after all, so another copy becomes the probe")
		b.report(p, false)
		sent(false, "the probe failed")
		time.Sleep(p.Pause) //nolint:forbidigo // inside the bubble
		sent(true, "the next probe after the pause")
		b.report(p, true)
		sent(true, "a success closes the breaker")
		sent(true, "for all copies")
		for range p.LongFailures {
			b.report(p, false)
		}
		time.Sleep(p.LongPause - time.Millisecond) //nolint:forbidigo // inside the bubble
		sent(false, "many failures cause the longer pause")
		time.Sleep(time.Millisecond) //nolint:forbidigo // inside the bubble
		sent(true, "a probe after the longer pause")
	})
}
