// The terminator of HTTP: it chooses between HTTP/1.1 and HTTP/2 by ALPN or by HTTP/2's preface.

package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/streams"
)

// web is the terminator of a listener with rules.
type web struct {
	server *Server
	config *atomic.Pointer[Listener]
	h1     *h1.Server
	h2     http2
	// tls is one for all connections: it has the keys of the tickets by which clients resume sessions.
	tls *tls.Config
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
	if cmp.Or(s.options.H2, DefaultH2) == NetHTTP {
		w.h2 = newNetHTTP(s, c.Name, address)
	} else {
		w.h2 = newOwnH2(s, c.Name)
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
	return w
}

func (w *web) start() { w.h2.start() }

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
		w.h2.serve(secure, nil)
		return
	}
	w.h1.Serve(secure)
}

// preface hands over a connection that speaks HTTP/2 without TLS.
func (w *web) preface(conn net.Conn, prefix []byte) { w.h2.serve(conn, prefix) }

func (w *web) drain() {
	w.h1.Drain()
	w.h2.drain()
}

func (w *web) retire() {
	w.drain()
	w.h1.CloseIdle()
	w.retires()
	w.h2.retire()
	w.opaque().retire()
}

func (w *web) wait() {
	w.h2.wait()
	w.opaque().wait()
}

func (w *web) kill() {
	w.opaque().kill()
	w.h1.Close()
	w.h2.kill()
}

// http2 terminates HTTP/2.
type http2 interface {
	start()
	// serve serves a connection in another goroutine, and closes it. prefix are bytes that were read before.
	serve(conn net.Conn, prefix []byte)
	drain()
	retire()
	wait()
	kill()
}

// ownH2 is mirrorgate's own loop.
type ownH2 struct {
	server *streams.Server
	// retired is closed when no further connection is served.
	retired chan struct{}
	once    sync.Once
}

func newOwnH2(s *Server, listener string) *ownH2 {
	o := &ownH2{server: streams.NewServer(s.core, listener, &s.options.Limits), retired: make(chan struct{})}
	o.server.Dismissed = &s.dismissed
	return o
}

func (o *ownH2) start()                             {}
func (o *ownH2) serve(conn net.Conn, prefix []byte) { o.server.Serve(conn, prefix) }
func (o *ownH2) drain()                             { o.server.Drain() }
func (o *ownH2) kill()                              { o.server.Close() }

func (o *ownH2) retire() {
	o.server.CloseIdle()
	o.once.Do(func() { close(o.retired) })
}

func (o *ownH2) wait() {
	<-o.retired
	o.server.Wait()
}
