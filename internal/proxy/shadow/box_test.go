package shadow

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/proxy/rules"
)

func TestBox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &rules.DefaultPenalty
		var b box
		admit := func(ok, probe bool, why string) {
			t.Helper()
			gotOK, gotProbe := b.admit(p, time.Now())
			assert.Equal(t, []bool{ok, probe}, []bool{gotOK, gotProbe}, why)
		}
		b.report(p, false)
		b.report(p, false)
		admit(true, false, "two failures are none")
		b.report(p, false)
		admit(false, false, "three in a row")
		assert.True(t, b.shut(time.Now()))
		time.Sleep(p.Pause) //nolint:forbidigo // inside the bubble
		admit(true, true, "one probe")
		admit(false, false, "and no more")
		b.giveBack()
		admit(true, true, "unless it was never sent")
		b.report(p, false)
		admit(false, false, "it failed as well")
		time.Sleep(p.Pause) //nolint:forbidigo // inside the bubble
		admit(true, true, "the next probe")
		b.report(p, true)
		admit(true, false, "healed")
		for range p.LongFailures {
			b.report(p, false)
		}
		time.Sleep(p.LongPause - time.Millisecond) //nolint:forbidigo // inside the bubble
		admit(false, false, "many failures pause for longer")
		time.Sleep(time.Millisecond) //nolint:forbidigo // inside the bubble
		admit(true, true, "but not for ever")
	})
}

func TestComparisonMeets(t *testing.T) {
	for name, first := range map[string]bool{"primary first": true, "variant first": false} {
		t.Run(name, func(t *testing.T) {
			reports := 0
			c := &Comparison{Report: func(primary, variant int, ratio float64) {
				reports++
				assert.Equal(t, []int{200, 503}, []int{primary, variant})
				assert.InDelta(t, 3, ratio, 1e-9)
			}}
			if first {
				c.Primary(200, time.Second)
			}
			c.variant(503, 3*time.Second)
			if !first {
				assert.Zero(t, reports)
				c.Primary(200, time.Second)
			}
			assert.Equal(t, 1, reports)
		})
	}
}
