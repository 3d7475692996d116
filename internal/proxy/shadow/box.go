package shadow

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/rules"
)

// box is the penalty box of one target: after failures in a row nothing is sent for a while, then
// one probe; a success lets everything through again.
type box struct {
	// failures in a row; while it is 0 nobody takes the lock.
	failures atomic.Int64

	mu      sync.Mutex
	until   time.Time
	probing bool
}

// admit says whether a copy may be made, and whether it is the probe.
func (b *box) admit(p *rules.Penalty, now time.Time) (ok, probe bool) {
	failures := int(b.failures.Load())
	if failures == 0 || p.Failures == 0 || failures < p.Failures {
		return true, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) || b.probing {
		return false, false
	}
	b.probing = true
	return true, true
}

// shut says whether copies that were admitted before must not be sent now.
func (b *box) shut(now time.Time) bool {
	if b.failures.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.until)
}

// giveBack is for a probe that was never sent.
func (b *box) giveBack() {
	b.mu.Lock()
	b.probing = false
	b.mu.Unlock()
}

// report tells how sending a copy ended.
func (b *box) report(p *rules.Penalty, ok bool) {
	if ok && b.failures.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if ok {
		b.failures.Store(0)
		b.until = time.Time{}
		return
	}
	now := time.Now()
	failures := int(b.failures.Add(1))
	switch {
	case p.LongFailures > 0 && failures >= p.LongFailures:
		b.until = now.Add(p.LongPause)
	case p.Failures > 0 && failures >= p.Failures:
		b.until = now.Add(p.Pause)
	}
}
