package certs

// The API server's clock, by which certificates are judged.

import (
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// clockTolerance is how far the API server's clock may be from the local one before it is used instead: the
// Date header has whole seconds, and an answer takes time to arrive.
const clockTolerance = 5 * time.Second

// ServerClock is a clock with the time of the API server. The API server checks mirrorgate's certificates, so
// its clock decides when they are due: a local clock that jumps must neither make certificates from the
// future nor drop a CA that is still in use.
type ServerClock struct {
	clock.WithTicker
	latest atomic.Pointer[answer]
}

// answer is when the API server answered, by the local clock and by its own.
type answer struct{ local, server time.Time }

// NewServerClock returns a clock that has the time of the local clock until Wrap sees an answer.
func NewServerClock(local clock.WithTicker) *ServerClock { return &ServerClock{WithTicker: local} }

// Now returns the time of the latest answer plus the time that has passed since. The monotonic clock measures
// it, so that a change of the local clock between two answers has no effect.
func (c *ServerClock) Now() time.Time {
	now := c.WithTicker.Now()
	if latest := c.latest.Load(); latest != nil {
		return latest.server.Add(now.Sub(latest.local))
	}
	return now.Round(0)
}

// Wrap takes the time from the Date header (RFC 9110, 6.6.1) of every answer. It is for rest.Config.Wrap.
func (c *ServerClock) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err != nil {
			return resp, err
		}
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			local := c.WithTicker.Now()
			if local.Round(0).Sub(date).Abs() < clockTolerance {
				date = local.Round(0)
			}
			c.latest.Store(&answer{local, date})
		}
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
