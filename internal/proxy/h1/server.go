// Package h1 terminates HTTP/1.1: a small forwarder that reads heads strictly, frames bodies anew,
// and has one goroutine for each client.
package h1

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

// Server serves the connections of one listener.
type Server struct {
	// Core answers requests that come in at the listener of that name.
	Core     *core.Core
	Listener string
	// Preface takes over a connection that begins with HTTP/2's preface, which is in prefix with
	// whatever follows it. Without one such a connection is refused.
	Preface func(conn net.Conn, prefix []byte)
	// Dismissed, while it is set, makes every response the last of its connection.
	Dismissed *atomic.Bool
	// Scheme is what clients use: "http" or "https".
	Scheme string

	limits   Limits
	draining atomic.Bool
	// closing says that connections end between two requests, with notice or without.
	closing atomic.Bool
	mu      sync.Mutex
	conns   map[*serverConn]struct{}
	closed  bool
	wg      sync.WaitGroup
}

// NewServer returns a server without connections.
func NewServer(c *core.Core, listener string, limits *Limits) *Server {
	return &Server{Core: c, Listener: listener, limits: limits.Defaulted(), conns: map[*serverConn]struct{}{}}
}

// Serve serves one connection until it ends, and closes it.
func (s *Server) Serve(conn net.Conn) {
	c := &serverConn{Conn: conn, server: s}
	if !s.add(c) {
		_ = conn.Close()
		return
	}
	defer s.wg.Done()
	c.init()
	taken := c.serve()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if !taken {
		_ = conn.Close()
	}
}

func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	s.conns[c] = struct{}{}
	return true
}

// Connections is how many are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Drain makes every response from now on the last of its connection.
func (s *Server) Drain() { s.draining.Store(true) }

// last says that clients are to open another connection.
func (s *Server) last() bool {
	return s.draining.Load() || s.Dismissed != nil && s.Dismissed.Load()
}

// CloseIdle drains, and closes connections between two requests, once what has arrived is answered.
func (s *Server) CloseIdle() {
	s.Drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	for c := range s.conns {
		if c.state.Load() == stateIdle {
			_ = c.SetReadDeadline(past)
		}
	}
}

// Wait returns when all connections have ended.
func (s *Server) Wait() { s.wg.Wait() }

// Close closes all connections, whatever they are doing, and lets no new ones in.
func (s *Server) Close() {
	s.CloseIdle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		_ = c.SetDeadline(past)
		_ = c.Close()
	}
}

// What a connection is doing.
const (
	stateActive int32 = iota
	stateIdle
)

// lookTime bounds a last look under TLS, where what waits at the socket need not be a request.
const lookTime = time.Second

// lingering bounds what is read from a client that must still see the answer, but whose request
// is not wanted any more.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)
