// Package logging decides which failures are worth a line in the log.
package logging

import (
	"sync"
	"time"
)

// OnChange keeps a failure that lasts from being logged at every retry. The zero value is ready for use, also
// concurrently.
type OnChange struct {
	// Remind is after how long the same failure is worth another line, never when 0.
	Remind time.Duration

	mu     sync.Mutex
	text   string
	logged time.Time
}

// Log reports whether err is worth a line in the log: it differs from the error of the latest call, or Remind
// has passed since the latest line. A nil error is worth none, and makes the next error worth one.
func (o *OnChange) Log(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.text, o.logged = "", time.Time{}
		return false
	}
	now := time.Now()
	if !o.logged.IsZero() && err.Error() == o.text && (o.Remind == 0 || now.Sub(o.logged) <= o.Remind) {
		return false
	}
	o.text, o.logged = err.Error(), now
	return true
}

// Pace keeps a condition that many notice, in different words, to one line in a time. It is ready for use with Every
// set, also concurrently.
type Pace struct {
	// Every is the least time between two lines.
	Every time.Duration

	mu     sync.Mutex
	logged time.Time
}

// Due reports whether a line is due.
func (p *Pace) Due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.logged.IsZero() && now.Sub(p.logged) <= p.Every {
		return false
	}
	p.logged = now
	return true
}
