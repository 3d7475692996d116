package routing

// Mirrors: which requests are copied, how the copy differs, and the limits of its cost.

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Mirror copies a fraction of the requests of a rule, or of one of its backends, to a target.
type Mirror struct {
	// Index is its place in [Table.Mirrors].
	Index int
	// Name is unique in the table and stays the same over reloads.
	Name string
	// Rule is the rule it belongs to, for metrics and logs.
	Rule *Rule
	// Target is where copies go.
	Target *MirrorTarget
	// Headers are all edits between the client's request and the copy: those of the rule (and of the backend,
	// if the mirror belongs to a backend), then the mirror's own.
	Headers message.HeaderEdits
	// Rewrite of host and path is that of the rule (and backend). AppendHost applies after it.
	Rewrite Rewrite
	// MaxBody is the largest body that is copied, in bytes. A request with a larger body is not mirrored.
	MaxBody int64
	// Timeout bounds the time from sending the copy until its answer has been read.
	Timeout time.Duration
	// Compare reports whether answers to copies are compared with those of the primary.
	Compare bool
	// Control makes copies go to another endpoint of the primary, along with those of the mirror before it whose answers
	// are compared, and only for requests that are compared.
	Control bool

	keepHost bool
	methods  []string
	sampler  sampler
	// pace is nil without a bound on the copies in a second.
	pace *rate.Limiter
}

// Admits reports whether the copies of the last second leave room for another one, which it counts.
func (m *Mirror) Admits(now time.Time) bool { return m.pace == nil || m.pace.AllowN(now, 1) }

// MirrorTarget is a port of a service that mirrors send copies to, with the limits of these copies. Several
// mirrors may share one target.
type MirrorTarget struct {
	// Index is its place in [Table.Targets].
	Index int
	// Name is service:port. It is unique in the table, and identifies the target in metrics, in logs and
	// after a reload.
	Name string
	// Port holds the endpoints. It is nil if the service or its port is missing.
	Port   *Port
	Limits Limits
}

// Limits bound the copies to one target. A copy that exceeds one of them is dropped.
type Limits struct {
	// MaxInFlight is the number of copies that are under way at once.
	MaxInFlight int
	// Queue is the number of further copies that are queued.
	Queue int
	// Budget is the number of bytes that all copies together may hold, queued or under way.
	Budget int64
	Penalty
}

// Penalty configures the circuit breaker of a target: after how many failures no copies are sent, and for how
// long.
type Penalty struct {
	// Failures in a row after which no copy is sent for Pause.
	Failures int
	Pause    time.Duration
	// LongFailures in a row after which no copy is sent for LongPause.
	LongFailures int
	LongPause    time.Duration
}

// Defaults of a mirror.
const (
	defaultMaxBody = 1 << 20
	defaultTimeout = 10 * time.Second
)

// DefaultLimits are the limits of a target for which no mirror declares others.
var DefaultLimits = Limits{
	MaxInFlight: 128, Queue: 512, Budget: 64 << 20,
	Penalty: Penalty{
		Failures: 3, Pause: 100 * time.Millisecond,
		LongFailures: 20, LongPause: time.Second,
	},
}

// Sample reports whether the request is to be copied, by its method and by the percentage. It counts
// requests, so call it exactly once per request and mirror.
func (m *Mirror) Sample(r *Request) bool {
	if len(m.methods) > 0 && !slices.Contains(m.methods, r.Method) {
		return false
	}
	return m.sampler.sample(r)
}

// AppendHost appends the Host of the copy. host is that of the primary's request after Rewrite; it gets the
// suffix -shadow, unless the mirror keeps hosts as they are.
func (m *Mirror) AppendHost(dst []byte, host string) []byte {
	if m.keepHost {
		return append(dst, host...)
	}
	return message.AppendShadowHost(dst, host)
}
