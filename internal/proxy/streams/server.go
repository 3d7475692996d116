// Package streams terminates HTTP/2 with a loop of mirrorgate's own: one goroutine reads the frames of a connection, each
// exchange runs in a goroutine that is used again, and the bytes of a connection are written by the goroutine that has some, for
// all of its streams at once. docs/design/proxy.md says why net/http does not do it.
package streams

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
)

// Server serves the HTTP/2 connections of one listener.
type Server struct {
	// Dismissed, while it is true, has the effect of Drain; nil means false.
	Dismissed *atomic.Bool

	core     *core.Core
	listener string
	limits   h1.Limits
	draining atomic.Bool
	idle     idleStreams
	running  sync.WaitGroup

	mu     sync.Mutex
	conns  map[*conn]struct{}
	ending bool // CloseIdle was called
	closed bool
}

// NewServer returns a server without connections, for the table's listener of that name. Zero limits mean their
// defaults.
func NewServer(c *core.Core, listener string, limits *h1.Limits) *Server {
	return &Server{core: c, listener: listener, limits: limits.Defaulted(), conns: map[*conn]struct{}{}}
}

// Serve serves one connection in a goroutine of its own, and closes it. prefix are bytes that were read before.
func (s *Server) Serve(nc net.Conn, prefix []byte) {
	c := newServerConn(s, nc, prefix)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	c.last = s.ending
	s.running.Go(func() {
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}

// Drain makes every later response ask the client to open another connection.
func (s *Server) Drain() { s.draining.Store(true) }

// drains reports whether a response must ask the client to open another connection.
func (s *Server) drains() bool {
	return s.draining.Load() || s.Dismissed != nil && s.Dismissed.Load()
}

// CloseIdle drains, asks all clients to open another connection, and ends each connection once its exchanges have
// ended.
func (s *Server) CloseIdle() {
	s.Drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for c := range s.conns {
		c.retire()
	}
}

// Close closes all connections, also in the middle of an exchange, and refuses new ones.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		c.fail(net.ErrClosed)
	}
}

// Wait waits until all connections have ended. Serve must not be called any more.
func (s *Server) Wait() {
	s.running.Wait()
	s.idle.close()
}

const (
	// mostParked is how many goroutines wait for their next exchange, for all connections together, and parkTime how
	// long.
	mostParked = 256
	parkTime   = 10 * time.Second
)

// idleStreams are streams whose goroutines wait for their next exchange; the last one to end is the next to begin.
type idleStreams struct {
	mu      sync.Mutex
	parked  []*stream
	trimmer *time.Timer
	closed  bool
}

// take returns a stream for an exchange, with its goroutine.
func (p *idleStreams) take() *stream {
	p.mu.Lock()
	if n := len(p.parked); n > 0 {
		s := p.parked[n-1]
		p.parked[n-1], p.parked = nil, p.parked[:n-1]
		p.mu.Unlock()
		return s
	}
	p.mu.Unlock()
	s := newStream()
	go s.run()
	return s
}

// put parks a stream, or ends its goroutine.
func (p *idleStreams) put(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.parked) >= mostParked {
		close(s.begin)
		return
	}
	s.parkedAt = time.Now()
	p.parked = append(p.parked, s)
	if p.trimmer == nil {
		p.trimmer = time.AfterFunc(parkTime, p.trim)
	}
}

// trim ends the goroutines that have waited for long.
func (p *idleStreams) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, before := 0, time.Now().Add(-parkTime)
	for old < len(p.parked) && p.parked[old].parkedAt.Before(before) {
		close(p.parked[old].begin)
		old++
	}
	n := copy(p.parked, p.parked[old:])
	clear(p.parked[n:])
	p.parked, p.trimmer = p.parked[:n], nil
	if n > 0 && !p.closed {
		p.trimmer = time.AfterFunc(parkTime, p.trim)
	}
}

// close ends all waiting goroutines, and later those that still run.
func (p *idleStreams) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.trimmer != nil {
		p.trimmer.Stop()
	}
	for _, s := range p.parked {
		close(s.begin)
	}
	p.parked = nil
}
