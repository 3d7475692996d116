package core

// What became of the copies of each mirror, for the reports to mirrorgate's leader. Metrics have one series for each
// target; these are counted for each mirror, whatever the metrics are like.

import (
	"strconv"
	"sync/atomic"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
)

// The kinds of failed copies that have no shadow.Reason: an answer that says that the server failed.
const (
	FailedStatus = "5xx"
	FailedCall   = "grpc"
)

// MirrorCounts are the copies of one mirror since it has been in the table.
type MirrorCounts struct {
	Mirror *routing.Mirror
	// OK are the copies with a good answer.
	OK uint64
	// Failed are those that were sent in vain, by kind, and Dropped those that were not sent, by reason. Kinds and reasons
	// that never occurred are left out.
	Failed, Dropped map[string]uint64
}

// mirrorCounts counts the copies of one mirror.
type mirrorCounts struct {
	ok, status, call atomic.Uint64
	reasons          map[shadow.Reason]*atomic.Uint64
}

func newMirrorCounts() *mirrorCounts {
	c := &mirrorCounts{reasons: make(map[shadow.Reason]*atomic.Uint64, len(shadow.Reasons))}
	for _, reason := range shadow.Reasons {
		c.reasons[reason] = new(atomic.Uint64)
	}
	return c
}

// countsOf returns the counts of a mirror: those of the table before, if the mirror was in it.
func (c *Core) countsOf(before *state, m *routing.Mirror) *mirrorCounts {
	if before != nil {
		if old := before.counts[m.Name]; old != nil {
			return old
		}
	}
	return newMirrorCounts()
}

func (c *mirrorCounts) dropped(why shadow.Reason) { c.reasons[why].Add(1) }

func (c *mirrorCounts) answered(a *shadow.Answered) {
	switch {
	case a.Status >= 500:
		c.status.Add(1)
	case serverFailed(a.Copy.GRPC):
		c.call.Add(1)
	default:
		c.ok.Add(1)
	}
}

// serverFailed reports whether a status of gRPC, the value of grpc-status, tells that the server failed. The others tell
// about the call: not found, not permitted, cancelled.
func serverFailed(status string) bool {
	if status == "" || status == "0" {
		return false
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		return true
	}
	switch code {
	case grpcUnknown, grpcDeadlineExceeded, grpcUnimplemented, grpcInternal, grpcUnavailable, grpcDataLoss:
		return true
	}
	return false
}

// Counts returns the counts of every mirror in the table.
func (c *Core) Counts() []MirrorCounts {
	s := c.state.Load()
	if s == nil {
		return nil
	}
	out := make([]MirrorCounts, len(s.mirrors))
	for i, m := range s.mirrors {
		out[i] = m.counts.read(m.mirror)
	}
	return out
}

func (c *mirrorCounts) read(m *routing.Mirror) MirrorCounts {
	out := MirrorCounts{Mirror: m, OK: c.ok.Load(), Failed: map[string]uint64{}, Dropped: map[string]uint64{}}
	put := func(into map[string]uint64, name string, n uint64) {
		if n > 0 {
			into[name] = n
		}
	}
	put(out.Failed, FailedStatus, c.status.Load())
	put(out.Failed, FailedCall, c.call.Load())
	for reason, n := range c.reasons {
		if reason == shadow.Connect || reason == shadow.Unsecured || reason == shadow.Reset || reason == shadow.Timeout {
			put(out.Failed, string(reason), n.Load())
		} else {
			put(out.Dropped, string(reason), n.Load())
		}
	}
	return out
}
