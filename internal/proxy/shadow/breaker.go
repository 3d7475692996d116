package shadow

// The circuit breaker of a target: a failing variant gets no copies for a while.

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
)

// breaker opens after failures in a row: no copy is sent until a pause is over, and then one copy as a probe.
// A success closes the breaker.
type breaker struct {
	// failures counts failures in a row. While it is 0 the mutex is not used.
	failures atomic.Int64

	mu        sync.Mutex
	openUntil time.Time
	probing   bool
}

// open reports whether making a copy is pointless. It does not claim the probe, because the client may take
// long to send its request.
func (b *breaker) open(now time.Time) bool {
	if b.failures.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.probing || now.Before(b.openUntil)
}

// claim reports whether a copy may be sent now. The first copy after a pause is the probe: until report or
// release no other copy is sent.
func (b *breaker) claim(now time.Time) bool {
	if b.failures.Load() == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.probing || now.Before(b.openUntil) {
		return false
	}
	b.probing = !b.openUntil.IsZero()
	return true
}

// release undoes claim for a copy that was not sent after all.
func (b *breaker) release() {
	if b.failures.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// report records whether sending a copy succeeded.
func (b *breaker) report(p *routing.Penalty, ok bool) {
	if ok && b.failures.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if ok {
		b.failures.Store(0)
		b.openUntil = time.Time{}
		return
	}
	now := time.Now()
	failures := int(b.failures.Add(1))
	switch {
	case p.LongFailures > 0 && failures >= p.LongFailures:
		b.openUntil = now.Add(p.LongPause)
	case p.Failures > 0 && failures >= p.Failures:
		b.openUntil = now.Add(p.Pause)
	}
}
