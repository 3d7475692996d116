package serve

// How a replica ends. The API server keeps connections open for its next call. A call that it writes into a
// connection that is just being closed is lost and, under failure policy Fail, so is the user's write. So a
// replica that ends reports that it is not ready, closes the connection after each answer, and stops its
// server only when the API server has stopped calling.

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// idleBeforeEnd is how long no call may have come before the server ends. The API server prefers the
	// connection that it used last, so only a burst needs one that has been idle.
	idleBeforeEnd = 2 * time.Second
	// maxDrain bounds the wait for that: together with the 8 s before SIGTERM and the rest of the shutdown it
	// must stay below a pod's 30 s.
	maxDrain = 10 * time.Second
)

// drain watches the calls of a webhook server.
type drain struct {
	ending   atomic.Bool
	lastCall atomic.Int64 // when a call came or was answered, in nanoseconds since 1970; 0 for never
}

// registrar is the part of a webhook server that handlers are mounted on.
type registrar interface{ Register(string, http.Handler) }

// watch returns a registrar that mounts handlers on server and watches their calls.
func (d *drain) watch(server registrar) registrar { return drained{d, server} }

type drained struct {
	drain  *drain
	server registrar
}

// Register mounts a handler.
func (d drained) Register(path string, next http.Handler) {
	d.server.Register(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.drain.lastCall.Store(time.Now().UnixNano())
		if d.drain.ending.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
		d.drain.lastCall.Store(time.Now().UnixNano())
	}))
}

// ready is a readiness check that fails once the replica is ending.
func (d *drain) ready(*http.Request) error {
	if d.ending.Load() {
		return errors.New("ending")
	}
	return nil
}

// lastCallMetric shows when the API server last called. A replica that was never called may be one that it does
// not reach.
func (d *drain) lastCallMetric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mirrorgate_webhook_last_call_timestamp_seconds",
		Help: "When the API server last called a webhook of this process, as Unix time; 0 if it never did.",
	}, func() float64 { return float64(d.lastCall.Load()) / float64(time.Second) })
}

// wait begins the end, and returns when the API server has stopped calling: at once if it never called. A
// pause before the end does not count, because there may be idle connections for a burst.
func (d *drain) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxDrain)
	defer cancel()
	began := time.Now()
	d.ending.Store(true)
	if d.lastCall.Load() == 0 {
		return
	}
	poll(ctx, 20*time.Millisecond, func() bool {
		return time.Since(began) > idleBeforeEnd && time.Since(time.Unix(0, d.lastCall.Load())) > idleBeforeEnd
	})
}
