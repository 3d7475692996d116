package routing

// What a rule does with a request that it matched.

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Rule is what happens to the requests of one rule. Either Redirect is set, or Pick says
// where the request goes.
type Rule struct {
	// Index is its place in [Table.Rules].
	Index int
	// Name is unique in the table and stays the same over reloads: for metrics and logs.
	Name string
	// Redirect, if set, answers the request; there is no backend.
	Redirect *Redirect
	// ResponseHeaders apply to an answer that the proxy gives itself for this rule
	// (a redirect). For that of a backend use [Backend.ResponseHeaders].
	ResponseHeaders message.HeaderEdits
	// Mirrors are those of the rule; a backend may have more.
	Mirrors  []*Mirror
	Timeouts Timeouts

	backends []*Backend
	total    uint64 // sum of weights
	step     uint64 // coprime to total, to spread picks
	picked   *atomic.Uint64
}

// Timeouts of a rule; 0 is none. See HTTPRouteTimeouts of Gateway API.
type Timeouts struct {
	// Request is how long the client waits for the whole answer: 504 afterwards.
	Request time.Duration
	// BackendRequest is how long one attempt at a backend may take.
	BackendRequest time.Duration
}

// Backend is one of the weighted places a rule sends requests to, with everything that
// happens to a request on its way there: the filters of the rule and then its own are
// already merged.
type Backend struct {
	// Name is service:port, for metrics and logs.
	Name string
	// Port is where the endpoints are. Nil if the service or its port is missing.
	Port *Port
	// RequestHeaders are the edits of rule and backend in one.
	RequestHeaders message.HeaderEdits
	// ResponseHeaders are the edits of backend and rule in one.
	ResponseHeaders message.HeaderEdits
	// Rewrite of host and path by rule and backend.
	Rewrite Rewrite
	// Mirrors of this backend alone, beside those of the rule.
	Mirrors []*Mirror

	upto uint64 // sum of the weights up to and with this one
}

// Pick chooses the backend of the next request by weight: of as many consecutive requests
// as the weights sum up to, each backend gets exactly its weight, spread evenly. If the
// choice cannot be served, status is the answer: 500 if there is no backend, or a missing
// one was chosen, which is returned nevertheless. Otherwise status is 0.
func (r *Rule) Pick() (b *Backend, status int) {
	switch len(r.backends) {
	case 0:
		return nil, http.StatusInternalServerError
	case 1:
		b = r.backends[0]
	default:
		n := (r.picked.Add(1) - 1) % r.total
		at := n * r.step % r.total
		for _, b = range r.backends {
			if at < b.upto {
				break
			}
		}
	}
	if b.Port == nil {
		return b, http.StatusInternalServerError
	}
	return b, 0
}

// spread prepares the weights: it drops backends of weight 0, which get nothing.
func (r *Rule) spread(backends []*Backend, weights []uint64) {
	for i, b := range backends {
		if weights[i] == 0 {
			continue
		}
		r.total += weights[i]
		b.upto = r.total
		r.backends = append(r.backends, b)
	}
	// About the golden section of the total: neighbours in time lie far apart.
	for r.step = r.total*618/1000 + 1; r.total > 0 && gcd(r.step, r.total) != 1; r.step++ {
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
