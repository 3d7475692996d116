// Package h1 terminates HTTP/1.1: a small forwarder that parses heads strictly, frames bodies anew, and has
// one goroutine for each client. docs/design/proxy.md says why net/http does not do it.
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
	// Preface gets a connection that begins with HTTP/2's preface; prefix holds the preface and any bytes
	// read after it. If nil, such a connection is refused.
	Preface func(conn net.Conn, prefix []byte)
	// Dismissed, while it is true, makes every response the last of its connection; nil means false.
	Dismissed *atomic.Bool

	core     *core.Core
	listener string
	limits   Limits
	draining atomic.Bool
	// closing is set when connections end between two requests, with or without notice.
	closing atomic.Bool
	mu      sync.Mutex
	conns   map[*serverConn]struct{}
	closed  bool
}

// NewServer returns a server without connections, for the table's listener of that name. Zero limits mean
// their defaults.
func NewServer(c *core.Core, listener string, limits *Limits) *Server {
	return &Server{core: c, listener: listener, limits: limits.Defaulted(), conns: map[*serverConn]struct{}{}}
}

// Serve serves one connection until it ends, and closes it.
func (s *Server) Serve(conn net.Conn) {
	c := &serverConn{Conn: conn, server: s}
	if !s.add(c) {
		_ = conn.Close()
		return
	}
	c.init()
	handedOver := c.serve()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if !handedOver {
		_ = conn.Close()
	}
}

func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// Drain makes every later response the last of its connection.
func (s *Server) Drain() { s.draining.Store(true) }

// last reports whether a response must be the last of its connection.
func (s *Server) last() bool {
	return s.draining.Load() || s.Dismissed != nil && s.Dismissed.Load()
}

// CloseIdle drains, and closes connections between two requests, once the requests that have arrived are
// answered.
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

// Close closes all connections, also in the middle of an exchange, and refuses new ones.
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

// The state of a connection: in an exchange, or waiting for a request.
const (
	stateActive int32 = iota
	stateIdle
)

// lastReadTimeout bounds the last read under TLS, where the bytes at the socket need not be a request.
const lastReadTimeout = time.Second

// These bound the read of a request that nobody needs any more, from a client that must still see the answer.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)
