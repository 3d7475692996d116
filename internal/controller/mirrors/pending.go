package mirrors

// The flips that are under way: since when, for the metric of their duration, and after how many attempts.

import (
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// pendingFlips are the routes that may have to be flipped. The zero value is ready for use.
type pendingFlips struct {
	mu     sync.Mutex
	routes map[route.Key]*pendingFlip
}

type pendingFlip struct {
	// since is the time of the first event, or the end of a grace in the future.
	since    time.Time
	attempts int
}

// notice starts the clock of a route, unless it runs already.
func (p *pendingFlips) notice(key route.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.routes[key] == nil || p.routes[key].since.After(now) {
		p.set(key, now)
	}
}

// noticeAfter starts the clock of a route when a grace ends, since its end is the event that moves the
// mirror.
func (p *pendingFlips) noticeAfter(key route.Key, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(key, time.Now().Add(grace))
}

// fail counts an attempt in vain and returns how many there were.
func (p *pendingFlips) fail(key route.Key) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	flip := p.routes[key]
	if flip == nil {
		flip = p.set(key, time.Now())
	}
	flip.attempts++
	return flip.attempts
}

// remove ends a flip and returns it, or nil if there is none.
func (p *pendingFlips) remove(key route.Key) *pendingFlip {
	p.mu.Lock()
	defer p.mu.Unlock()
	flip := p.routes[key]
	delete(p.routes, key)
	return flip
}

func (p *pendingFlips) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.routes)
}

// set begins a flip. The caller holds the lock.
func (p *pendingFlips) set(key route.Key, since time.Time) *pendingFlip {
	if p.routes == nil {
		p.routes = map[route.Key]*pendingFlip{}
	}
	flip := &pendingFlip{since: since}
	p.routes[key] = flip
	return flip
}
