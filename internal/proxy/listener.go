package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

// listener is an address and everything that came in at it.
type listener struct {
	net.Listener
	server *Server
	config atomic.Pointer[Listener]
	h1     *h1.Server
	h2     *http.Server
	front  *h2.Handler
	handed *handed
	wg     sync.WaitGroup
	once   sync.Once
}

func (s *Server) listen(config *Listener) (*listener, error) {
	var lc net.ListenConfig
	inner, err := lc.Listen(context.Background(), "tcp", config.Address)
	if err != nil {
		return nil, err
	}
	limits := &s.options.Limits
	l := &listener{Listener: inner, server: s}
	l.config.Store(config)
	l.h1 = h1.NewServer(s.core, config.Name, limits)
	if config.H2C && config.Certificate == nil {
		l.h1.Preface = l.preface
	}
	l.front = &h2.Handler{Core: s.core, Listener: config.Name, MaxFields: limits.Fields, BodyTimeout: limits.BodyTimeout}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	l.h2 = &http.Server{
		Handler: l.front, Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: limits.HeadTimeout, IdleTimeout: limits.IdleTimeout, MaxHeaderBytes: limits.Head,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize: 16 << 10, MaxConcurrentStreams: 250,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: limits.BodyTimeout,
		},
	}
	l.handed = &handed{conns: make(chan net.Conn), closed: make(chan struct{}), addr: inner.Addr()}
	return l, nil
}

// compatible says whether a listener may go on under another config.
func (l *listener) compatible(config *Listener) error {
	old := l.config.Load()
	if (old.Certificate == nil) != (config.Certificate == nil) || old.H2C != config.H2C || old.Name != config.Name {
		return fmt.Errorf("listener %s: name, TLS and h2c of %s cannot change while it is open", config.Name, config.Address)
	}
	return nil
}

func (l *listener) start() {
	l.wg.Go(l.accept)
	l.wg.Go(func() { _ = l.h2.Serve(l.handed) })
}

// accept takes connections while there are slots for them.
func (l *listener) accept() {
	pause := time.Millisecond
	for {
		l.server.slots <- struct{}{}
		conn, err := l.Accept()
		if err != nil {
			<-l.server.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: what is open will close.
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		l.wg.Go(func() { l.serve(&slotted{TCPConn: conn.(*net.TCPConn), slots: l.server.slots}) })
	}
}

// serve leads a connection to the terminator of its protocol.
func (l *listener) serve(conn *slotted) {
	certificate := l.config.Load().Certificate
	if certificate == nil {
		l.h1.Serve(conn)
		return
	}
	secure := tls.Server(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: certificate,
	})
	ctx, cancel := context.WithTimeout(context.Background(), l.server.options.Limits.HeadTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		l.handed.give(secure)
		return
	}
	l.h1.Serve(secure)
}

// preface takes over a connection that speaks HTTP/2 without TLS.
func (l *listener) preface(conn net.Conn, prefix []byte) {
	l.handed.give(&replayed{Conn: conn, rest: bytes.NewReader(prefix)})
}

func (l *listener) drain() {
	l.h1.Drain()
	l.front.Drain()
}

// retire stops listening; connections end after the exchange they are in.
func (l *listener) retire() {
	l.once.Do(func() {
		_ = l.Close()
		l.drain()
		l.h1.CloseIdle()
		l.wg.Go(func() {
			_ = l.h2.Shutdown(context.Background())
			l.handed.close()
		})
	})
}

func (l *listener) wait() { l.wg.Wait() }

// kill ends all connections at once.
func (l *listener) kill() {
	l.retire()
	l.h1.Close()
	_ = l.h2.Close()
	l.handed.close()
}

// slotted gives its slot back when it is closed.
//
// It embeds the concrete type, whose system calls the terminators use.
type slotted struct {
	*net.TCPConn
	slots chan struct{}
	once  sync.Once
}

// Close implements net.Conn.
func (c *slotted) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}

// replayed is a connection of which a prefix was read already.
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

// handed is a listener for connections that were accepted elsewhere.
type handed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

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
