// HTTP/2 as net/http terminates it.

package proxy

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/h2"
)

// netHTTP terminates HTTP/2 by net/http.
type netHTTP struct {
	server  *http.Server
	handler *h2.Handler
	handed  *handed
	wg      sync.WaitGroup
}

func newNetHTTP(s *Server, listener string, address net.Addr) *netHTTP {
	limits := &s.options.Limits
	n := &netHTTP{handler: &h2.Handler{
		Core: s.core, Listener: listener, MaxFields: limits.Fields, MaxHead: limits.Head, BodyTimeout: limits.BodyTimeout, Dismissed: &s.dismissed,
	}}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	n.server = &http.Server{
		Handler: n.handler, Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: limits.HeadTimeout, IdleTimeout: limits.IdleTimeout, MaxHeaderBytes: 2 * limits.Head,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize: 16 << 10, MaxConcurrentStreams: 250,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: limits.BodyTimeout,
		},
	}
	n.handed = &handed{conns: make(chan net.Conn), closed: make(chan struct{}), addr: address}
	return n
}

func (n *netHTTP) start() { n.wg.Go(func() { _ = n.server.Serve(n.handed) }) }

func (n *netHTTP) serve(conn net.Conn, prefix []byte) {
	if len(prefix) > 0 {
		conn = &replayed{Conn: conn, rest: bytes.NewReader(prefix)}
	}
	n.handed.give(conn)
}

func (n *netHTTP) drain() { n.handler.Drain() }

func (n *netHTTP) retire() {
	n.wg.Go(func() {
		_ = n.server.Shutdown(context.Background())
		n.handed.close()
	})
}

func (n *netHTTP) wait() { n.wg.Wait() }

func (n *netHTTP) kill() {
	_ = n.server.Close()
	n.handed.close()
}

// replayed is a connection whose first bytes were read before: Read returns them again.
type replayed struct {
	net.Conn
	rest *bytes.Reader
}

// Read implements net.Conn.
func (c *replayed) Read(p []byte) (int, error) {
	if c.rest.Len() > 0 {
		return c.rest.Read(p)
	}
	return c.Conn.Read(p)
}

// handed is a net.Listener whose connections a socket has accepted.
type handed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

// give passes a connection to Accept, or closes it if the listener is closed.
func (h *handed) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.closed:
		_ = conn.Close()
	}
}

func (h *handed) close() { h.once.Do(func() { close(h.closed) }) }

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.close()
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }
