package shadow

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
)

// breaker is the circuit breaker of one target: after failures in a row nothing is sent for a while, then
// one probe; a success lets everything through again.
type breaker struct {
	// failures in a row; while it is 0 nobody takes the lock.
	failures atomic.Int64

	mu        sync.Mutex
	openUntil time.Time
	probing   bool
}

// open says whether a copy need not be made. It claims nothing: it may take long until the client
// has sent its request.
func (b *breaker) open(now time.Time) bool {
	if b.failures.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.probing || now.Before(b.openUntil)
}

// claim says whether a copy may be sent now; after a pause it becomes the probe, until report.
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

// release gives back what claim granted: the copy was not sent after all.
func (b *breaker) release() {
	if b.failures.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// report tells how sending a copy ended.
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
