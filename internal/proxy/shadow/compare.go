package shadow

import (
	"sync"
	"time"
)

// Comparison brings together how the primary and how the variant answered one request. The later
// of the two reports; without an answer of both there is nothing to compare.
type Comparison struct {
	// Report gets both statuses, and the variant's latency divided by the primary's: 0 if one of the
	// two answered before it had the whole request.
	Report func(primary, variant int, ratio float64)

	mu     sync.Mutex
	other  bool
	status int
	took   time.Duration
}

// Primary tells how the primary answered. took is from the request sent to the final head, 0 if that
// came earlier.
func (c *Comparison) Primary(status int, took time.Duration) {
	if s, t, ok := c.meet(status, took); ok {
		c.Report(status, s, ratio(t, took))
	}
}

func (c *Comparison) variant(status int, took time.Duration) {
	if s, t, ok := c.meet(status, took); ok {
		c.Report(s, status, ratio(took, t))
	}
}

// meet keeps the first answer, and returns it to the second.
func (c *Comparison) meet(status int, took time.Duration) (int, time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.other {
		return c.status, c.took, true
	}
	c.other, c.status, c.took = true, status, took
	return 0, 0, false
}

func ratio(variant, primary time.Duration) float64 {
	if primary <= 0 {
		return 0
	}
	return float64(max(variant, 0)) / float64(primary)
}
