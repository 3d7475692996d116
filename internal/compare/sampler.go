package compare

// Why this file exists: the requests that are compared are drawn. A burst of one request must count once, a control
// is load on the primary and has a cap, and an endpoint that is called rarely must not wait for weeks.

import (
	"sync"
	"time"
)

const (
	// DefaultControls is the most controls a second.
	DefaultControls = 5
	// slots is the size of the table of requests that were drawn. Two requests with one slot lose samples.
	slots = 1 << 16
	// boostShare is the share of the cap that is kept for endpoints that were seen rarely, and rareBelow the number of
	// compared requests below which one is.
	boostShare = 0.2
	rareBelow  = 400
)

// Draw is the decision about one request.
type Draw uint8

// The decisions. A boosted request counts for its endpoint and not for the mirror as a whole.
const (
	NotDrawn Draw = iota
	Uniform
	Boosted
)

// Sampler draws requests. It is safe for concurrent use.
type Sampler struct {
	share  float64
	window time.Duration
	random func() float64

	mu      sync.Mutex
	uniform bucket
	boost   bucket
	drawn   [slots]uint32 // the block, from 1, in which a request of this slot was drawn
	begin   time.Time
}

// bucket admits a rate, with a second's worth at once.
type bucket struct {
	rate, tokens float64
	at           time.Time
}

func (b *bucket) take(now time.Time) bool {
	if b.rate <= 0 {
		return true // no cap
	}
	if now.After(b.at) {
		b.tokens = min(max(b.rate, 1), b.tokens+b.rate*now.Sub(b.at).Seconds())
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// NewSampler returns a sampler that draws a share of requests, at most cap a second unless that is 0, and none twice
// within the window. random returns numbers from 0 to below 1.
func NewSampler(share, perSecond float64, window time.Duration, random func() float64, now time.Time) *Sampler {
	return &Sampler{
		share: share, window: max(window, time.Millisecond), random: random, begin: now,
		uniform: bucket{rate: perSecond * (1 - boostShare), tokens: 1, at: now}, boost: bucket{rate: perSecond * boostShare, tokens: 1, at: now},
	}
}

// Draw decides about a request. rare is asked, at most once, whether its endpoint was seen rarely.
func (s *Sampler) Draw(now time.Time, rare func() bool) Draw {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.random() < s.share && s.uniform.take(now) {
		return Uniform
	}
	if s.share > 0 && s.boost.rate > 0 && s.boost.tokens+s.boost.rate*now.Sub(s.boost.at).Seconds() >= 1 && rare() && s.boost.take(now) {
		return Boosted
	}
	return NotDrawn
}

// Fresh reports whether no equal request was drawn within the window, and notes it if so.
func (s *Sampler) Fresh(hash uint64, now time.Time) bool {
	block := uint32(now.Sub(s.begin)/(s.window/4)) + 1 //nolint:gosec // centuries
	slot := &s.drawn[hash%slots]
	s.mu.Lock()
	defer s.mu.Unlock()
	if *slot != 0 && block-*slot <= 4 {
		return false
	}
	*slot = block
	return true
}

// Rare reports whether few requests of an endpoint have been compared. A request must not wait for the answer: while
// the counts are busy the endpoint is not rare.
func (c *Comparer) Rare(r *Request) bool {
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	path, collapsed := c.templates.Of(r.Path)
	if collapsed {
		c.rename()
	}
	e := c.totals.Endpoints[Key{Rule: r.Rule, Method: methodName(r.Method), Path: path}]
	return e == nil || e.Triples.Whole.Total()+e.Pairs.Whole.Total() < rareBelow
}
