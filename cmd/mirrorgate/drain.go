package main

// How a replica ends. The API server keeps connections open for its next call, and
// a call that it writes into one that is just being closed is lost: under failure
// policy Fail somebody's write with it. So every answer of a replica that ends
// closes its connection, and the server ends when nobody calls any more.

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// quiet is for how long nobody called when the server ends.
	quiet = time.Second
	// maxDrain is how long it waits for that.
	maxDrain = 5 * time.Second
)

// drain watches the calls of a webhook server.
type drain struct {
	ending atomic.Bool
	last   atomic.Int64 // when an answer was given, in nanoseconds since 1970
}

// registrar is a webhook server, as handlers are mounted on it.
type registrar interface{ Register(string, http.Handler) }

// on lets the handlers that are mounted pass the drain.
func (d *drain) on(server registrar) registrar { return drained{d, server} }

type drained struct {
	drain  *drain
	server registrar
}

// Register mounts a handler.
func (d drained) Register(path string, next http.Handler) {
	d.server.Register(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.drain.ending.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
		d.drain.last.Store(time.Now().UnixNano())
	}))
}

// wait returns when nobody calls any more.
func (d *drain) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxDrain)
	defer cancel()
	d.ending.Store(true)
	poll(ctx, 20*time.Millisecond, func() bool { return time.Since(time.Unix(0, d.last.Load())) > quiet })
}
