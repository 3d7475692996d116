package main

// How a replica ends. The API server keeps connections open for its next call, and
// a call that it writes into one that is just being closed is lost: under failure
// policy Fail somebody's write with it. So a replica that ends is unready, every
// answer of it closes its connection, and the server ends when nobody calls any more.

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// quiet is for how long nobody called when the server ends. The API server takes the
	// connection that it used last, so one that was left alone is needed by a burst only.
	quiet = 2 * time.Second
	// maxDrain is how long it waits for that: with the 8 s before SIGTERM, and what is left
	// to end, less than a pod's 30 s.
	maxDrain = 10 * time.Second
)

// drain watches the calls of a webhook server.
type drain struct {
	ending atomic.Bool
	last   atomic.Int64 // when a call came or was answered, in nanoseconds since 1970
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
		d.drain.last.Store(time.Now().UnixNano())
		if d.drain.ending.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
		d.drain.last.Store(time.Now().UnixNano())
	}))
}

// ready is an error once nobody should come any more.
func (d *drain) ready(*http.Request) error {
	if d.ending.Load() {
		return errors.New("ending")
	}
	return nil
}

// wait returns when nobody calls any more, at once if nobody ever did. That nobody called just
// before says nothing: there may be connections that wait for a burst.
func (d *drain) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxDrain)
	defer cancel()
	began := time.Now()
	d.ending.Store(true)
	if d.last.Load() == 0 {
		return
	}
	poll(ctx, 20*time.Millisecond, func() bool {
		return time.Since(began) > quiet && time.Since(time.Unix(0, d.last.Load())) > quiet
	})
}
