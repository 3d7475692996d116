package routing

// Rules: the redirect, or the weighted backends, of a request that matched.

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Rule decides what happens to the requests that it matches: they are redirected if Redirect is set, else
// forwarded to the backend that Pick returns.
type Rule struct {
	// Index is its place in [Table.Rules].
	Index int
	// Name is unique in the table and stable over reloads. Metrics and logs use it.
	Name string
	// Source is that of its route in the specification, and Section its own name there, or its index.
	Source, Section string
	// Redirect, if set, answers the request without a backend.
	Redirect *Redirect
	// ResponseHeaders apply to responses that the proxy sends itself, like a redirect. For a backend's
	// response use [Backend.ResponseHeaders].
	ResponseHeaders message.HeaderEdits
	// Mirrors are those of the rule. A backend may have more.
	Mirrors  []*Mirror
	Timeouts Timeouts

	backends []*Backend
	total    uint64 // sum of weights
	step     uint64 // coprime to total, so that picks are spread
	picked   *atomic.Uint64
}

// Timeouts of a rule, as HTTPRouteTimeouts of Gateway API. 0 means no timeout.
type Timeouts struct {
	// Request bounds the time until the client has the whole answer. Then the answer is 504.
	Request time.Duration
	// BackendRequest bounds one attempt at a backend.
	BackendRequest time.Duration
}

// Backend is one of the weighted backends of a rule. Its filters are already merged: those of the rule, then
// its own.
type Backend struct {
	// Name is service:port, for metrics and logs.
	Name string
	// Port holds the endpoints. It is nil if the service or its port is missing.
	Port *Port
	// RequestHeaders are the edits of the rule and then of the backend.
	RequestHeaders message.HeaderEdits
	// ResponseHeaders are the edits of the backend and then of the rule.
	ResponseHeaders message.HeaderEdits
	// Rewrite is the rewrite of the rule and then of the backend.
	Rewrite Rewrite
	// Mirrors are those of this backend only, in addition to those of the rule.
	Mirrors []*Mirror

	upto uint64 // sum of the weights up to and with this one
}

// Pick chooses the backend of the next request by weight: if the weights add up to n, then of n consecutive
// requests each backend gets exactly its weight, spread evenly. status is 0, or 500 if the rule has no
// backend or if the chosen backend has no Port.
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

// spread sets the backends with their weights. It drops backends of weight 0.
func (r *Rule) spread(backends []*Backend, weights []uint64) {
	for i, b := range backends {
		if weights[i] == 0 {
			continue
		}
		r.total += weights[i]
		b.upto = r.total
		r.backends = append(r.backends, b)
	}
	// A step near the golden section of the total spreads consecutive picks.
	for r.step = r.total*618/1000 + 1; r.total > 0 && gcd(r.step, r.total) != 1; r.step++ {
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
