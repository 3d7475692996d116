package shadow

// Comparing the answers of primary and variant.

import (
	"sync"
	"time"
)

// Comparison compares the answers of primary and variant to one request. The later answer calls Report;
// without both answers it is not called.
type Comparison struct {
	// Report gets both statuses, and the variant's latency divided by the primary's: 0 if one of them
	// answered before it had received the whole request.
	Report func(primary, variant int, ratio float64)

	mu     sync.Mutex
	other  bool
	status int
	took   time.Duration
}

// Primary records the answer of the primary. took is the time from the end of the request to the head of the
// final response, 0 if the head came first.
func (c *Comparison) Primary(status int, took time.Duration) {
	if s, t, ok := c.meet(status, took); ok {
		c.Report(status, s, ratio(t, took))
	}
}

// variant records the answer of the variant, as Primary does.
func (c *Comparison) variant(status int, took time.Duration) {
	if s, t, ok := c.meet(status, took); ok {
		c.Report(s, status, ratio(took, t))
	}
}

// meet stores the first answer, and returns it to the caller that has the second.
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
