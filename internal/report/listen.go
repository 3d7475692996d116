package report

// The port of reports. Everybody in the cluster reaches it, so connections are bounded, those of one address too.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxConnections       = 8192
	maxCallerConnections = 512
)

// ListenAndServe serves reports at an address until ctx ends.
func (s *Server) ListenAndServe(ctx context.Context, address string, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for the reports of proxies: %w", err)
	}
	return s.Serve(ctx, listener, certificate)
}

// Serve serves reports at a listener until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: readTimeout, ReadTimeout: 2 * readTimeout, WriteTimeout: 4 * readTimeout, IdleTimeout: silence,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       log.New(io.Discard, "", 0), // anybody can fail a handshake, and could fill the log
		TLSConfig:      &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
	}
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeTLS(&boundedListener{Listener: listener, callers: map[string]int{}}, "", "")
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(bound); err != nil {
		_ = server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// boundedListener closes connections beyond the bounds.
type boundedListener struct {
	net.Listener

	mu      sync.Mutex
	open    int
	callers map[string]int
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		caller := conn.RemoteAddr().String()
		if host, _, err := net.SplitHostPort(caller); err == nil {
			caller = host
		}
		l.mu.Lock()
		full := l.open >= maxConnections || l.callers[caller] >= maxCallerConnections
		if !full {
			l.open++
			l.callers[caller]++
		}
		l.mu.Unlock()
		if !full {
			return &boundedConn{Conn: conn, closed: sync.OnceFunc(func() { l.close(caller) })}, nil
		}
		_ = conn.Close()
	}
}

func (l *boundedListener) close(caller string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.callers[caller]--; l.callers[caller] == 0 {
		delete(l.callers, caller)
	}
}

type boundedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
