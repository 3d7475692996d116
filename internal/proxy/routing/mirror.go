package routing

// A mirror: which requests are copied, what the copy looks like, and what it may cost.

import (
	"slices"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Mirror copies a share of the requests of a rule, or of one of its backends, to a target.
type Mirror struct {
	// Index is its place in [Table.Mirrors].
	Index int
	// Name is unique in the table and stays the same over reloads.
	Name string
	// Rule is the rule it belongs to, for metrics and logs.
	Rule *Rule
	// Target is where copies go.
	Target *MirrorTarget
	// Headers are all edits between the request as it was sent and the copy: those of
	// the rule (and the backend, if the mirror is the backend's), then the mirror's own.
	Headers message.HeaderEdits
	// Rewrite of host and path, that of the rule (and backend). Host comes after it.
	Rewrite Rewrite
	// MaxBody is the most bytes of a body that is copied; a request with more is not
	// mirrored.
	MaxBody int64
	// Timeout of the copy from the moment it is sent until its answer is read.
	Timeout time.Duration
	// Compare says whether its answers are compared with those of the primary.
	Compare bool

	keepHost bool
	methods  []string
	sampler  sampler
}

// MirrorTarget is a port of a service that mirrors send copies to, with everything that bounds what
// copies may cost. Several mirrors may share one target.
type MirrorTarget struct {
	// Index is its place in [Table.Targets].
	Index int
	// Name is service:port, unique in the table: for metrics, logs, and to know a target
	// again after a reload.
	Name string
	// Port is where the endpoints are. Nil if the service or its port is missing.
	Port   *Port
	Limits Limits
}

// Limits bound the copies of one target. Past any of them a copy is dropped.
type Limits struct {
	// MaxInFlight is how many copies are under way at once.
	MaxInFlight int
	// Queue is how many more wait for their turn.
	Queue int
	// Budget is how many bytes all copies that wait or are under way may hold.
	Budget int64
	Penalty
}

// Penalty is when a failing target is left alone, and for how long.
type Penalty struct {
	// Failures in a row after which nothing is sent for Pause.
	Failures int
	Pause    time.Duration
	// LongFailures in a row after which nothing is sent for LongPause.
	LongFailures int
	LongPause    time.Duration
}

// Defaults of a mirror.
const (
	defaultMaxBody = 1 << 20
	defaultTimeout = 10 * time.Second
)

// DefaultLimits are the limits of a target for which no mirror declares others. A failing target is left
// alone for 100 ms after 3 failures in a row, for 1 s after 20.
var DefaultLimits = Limits{
	MaxInFlight: 128, Queue: 512, Budget: 64 << 20,
	Penalty: Penalty{
		Failures: 3, Pause: 100 * time.Millisecond,
		LongFailures: 20, LongPause: time.Second,
	},
}

// Sample says whether the request is to be copied: by method, and by percentage. It counts,
// so it is to be asked exactly once a request and mirror.
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
