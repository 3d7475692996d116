package shadow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

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
