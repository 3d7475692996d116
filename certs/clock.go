package certs

import (
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// tolerated is how far the API server's clock may be from ours before it counts:
// it is told in whole seconds, and an answer takes its time.
const tolerated = 5 * time.Second

// ServerClock tells the time of the API server. It is the API server that judges
// our certificates, so its clock decides when they are due: one of ours that
// jumps must neither make certificates from the future nor drop a CA that is
// still in use.
type ServerClock struct {
	clock.WithTicker
	last atomic.Pointer[answer]
}

// answer is when the API server answered, by our clock and by its own.
type answer struct{ own, server time.Time }

// NewServerClock returns a clock that says our own time until Wrap sees an answer.
func NewServerClock(own clock.WithTicker) *ServerClock { return &ServerClock{WithTicker: own} }

// Now is the time of the last answer and what has passed since: by the monotonic
// clock, so that setting ours is not even noticed between two answers.
func (c *ServerClock) Now() time.Time {
	now := c.WithTicker.Now()
	if last := c.last.Load(); last != nil {
		return last.server.Add(now.Sub(last.own))
	}
	return now.Round(0)
}

// Wrap learns the time from the Date header (RFC 9110, 6.6.1) of every answer;
// it fits rest.Config.Wrap.
func (c *ServerClock) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err != nil {
			return resp, err
		}
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			own := c.WithTicker.Now()
			if own.Round(0).Sub(date).Abs() < tolerated {
				date = own.Round(0)
			}
			c.last.Store(&answer{own, date})
		}
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
