// The terminator of HTTP: it chooses between HTTP/1.1 and HTTP/2 by ALPN or by HTTP/2's preface.

package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h2"
)

// web is the terminator of a listener with rules.
type web struct {
	server  *Server
	config  *atomic.Pointer[Listener]
	h1      *h1.Server
	h2      *http.Server
	handler *h2.Handler
	handed  *handed
	// tls is one for all connections: it has the keys of the tickets by which clients resume sessions.
	tls *tls.Config
	wg  sync.WaitGroup
	// opaque serves the connections that are not HTTP. It has metrics once there is one.
	opaque func() *passthrough
	// retired ends when connections between two requests do.
	retired context.Context
	retires context.CancelFunc
}

func newWeb(s *Server, config *atomic.Pointer[Listener], address net.Addr) *web {
	limits, c := &s.options.Limits, config.Load()
	w := &web{server: s, config: config, h1: h1.NewServer(s.core, c.Name, limits)}
	if c.H2C && c.Certificate == nil {
		w.h1.Preface = w.preface
	}
	w.h1.Dismissed = &s.dismissed
	w.handler = &h2.Handler{Core: s.core, Listener: c.Name, MaxFields: limits.Fields, MaxHead: limits.Head, BodyTimeout: limits.BodyTimeout, Dismissed: &s.dismissed}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	w.h2 = &http.Server{
		Handler: w.handler, Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: limits.HeadTimeout, IdleTimeout: limits.IdleTimeout, MaxHeaderBytes: 2 * limits.Head,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize: 16 << 10, MaxConcurrentStreams: 250,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: limits.BodyTimeout,
		},
	}
	w.tls = &tls.Config{
		MinVersion: max(c.MinVersion, tls.VersionTLS12), NextProtos: c.ALPN,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return config.Load().Certificate(hello) },
	}
	if len(c.ALPN) == 0 {
		w.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	w.opaque = sync.OnceValue(func() *passthrough { return newPassthrough(s, config) })
	w.retired, w.retires = context.WithCancel(context.Background())
	w.handed = &handed{conns: make(chan net.Conn), closed: make(chan struct{}), addr: address}
	return w
}

func (w *web) start() { w.wg.Go(func() { _ = w.h2.Serve(w.handed) }) }

// serve hands a connection to the server of its protocol.
func (w *web) serve(conn *slotted) {
	config := w.config.Load()
	certificate := config.Certificate
	if config.Detects && certificate == nil {
		w.detect(conn)
		return
	}
	if certificate == nil {
		w.h1.Serve(conn)
		return
	}
	secure := tls.Server(conn, w.tls)
	ctx, cancel := context.WithTimeout(context.Background(), w.server.options.Limits.HeadTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		w.handed.give(secure)
		return
	}
	w.h1.Serve(secure)
}

// preface hands a connection that speaks HTTP/2 without TLS to net/http.
func (w *web) preface(conn net.Conn, prefix []byte) {
	w.handed.give(&replayed{Conn: conn, rest: bytes.NewReader(prefix)})
}

func (w *web) drain() {
	w.h1.Drain()
	w.handler.Drain()
}

func (w *web) retire() {
	w.drain()
	w.h1.CloseIdle()
	w.retires()
	w.wg.Go(func() {
		_ = w.h2.Shutdown(context.Background())
		w.handed.close()
	})
}

func (w *web) wait() {
	w.wg.Wait()
	w.opaque().wait()
}

func (w *web) kill() {
	w.opaque().kill()
	w.h1.Close()
	_ = w.h2.Close()
	w.handed.close()
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
