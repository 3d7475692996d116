// Guarantees to clients while the proxy ends: a request that was sent before is answered, and no connection
// closes without notice.

package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// answer reads one response with its body. last reports whether it announced the end of the connection.
func answer(in *bufio.Reader) (status int, last bool, err error) {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Close, err
}

// secure adds a listener with TLS and returns a function that connects to it.
func secure(t *testing.T, s *site, table *spec.Table) func() net.Conn {
	t.Helper()
	signed := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(signed.Close)
	table.Listeners = append(table.Listeners, spec.Listener{Name: "tls", Address: "localhost:0", Rules: table.Listeners[0].Rules})
	both := setup(t, table)
	both.Listeners[1].H2C = false
	both.Listeners[1].Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &signed.TLS.Certificates[0], nil }
	require.NoError(t, s.Apply(both))
	trust := signed.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return func() net.Conn {
		return tls.Client(dial(t, s.Addr("tls").String()), &tls.Config{RootCAs: trust, ServerName: "example.com", MinVersion: tls.VersionTLS13})
	}
}

// A request that was sent before Shutdown began is answered, even if the proxy had not read it yet.
func TestShutdownLosesNothing(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %v", encrypted), func(t *testing.T) {
			lost := 0
			for range 10 {
				lost += lostAtShutdown(t, encrypted)
			}
			assert.Zero(t, lost, "requests lost of 200")
		})
	}
}

// lostAtShutdown sends 20 requests, shuts the proxy down, and returns how many are not answered.
func lostAtShutdown(t *testing.T, encrypted bool) (lost int) {
	table := one(record(t, "").addr)
	s := start(t, table, nil)
	connect := func() net.Conn { return dial(t, s.addr) }
	if encrypted {
		connect = secure(t, s, table)
	}
	conns := make([]net.Conn, 20)
	readers := make([]*bufio.Reader, len(conns))
	for i := range conns {
		conns[i] = connect()
		_, err := io.WriteString(conns[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		readers[i] = bufio.NewReader(conns[i])
		_, _, err = answer(readers[i])
		require.NoError(t, err)
	}
	for _, conn := range conns {
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.Shutdown(ctx))
	for _, in := range readers {
		if _, _, err := answer(in); err != nil {
			lost++
		}
	}
	return lost
}

// While the proxy drains, a connection whose last response did not announce its end stays open for one more
// request.
func TestDrainGivesNotice(t *testing.T) {
	release := make(chan struct{})
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "4")
		_, _ = io.WriteString(w, "he")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/1" {
			<-release
		}
		_, _ = io.WriteString(w, "re")
	})
	s := start(t, one(backend), nil)
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	s.Drain()
	close(release)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.False(t, resp.Close, "the response began before Drain and announces no end")
	_, err = io.WriteString(conn, "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
	require.NoError(t, err)
	status, last, err := answer(in)
	require.NoError(t, err)
	assert.Equal(t, 200, status)
	assert.True(t, last, "the response announces the end")
}

// Every answer asks dismissed clients to connect anew, over both versions of HTTP, and no answer asks others.
// The server stays ready.
func TestDismiss(t *testing.T) {
	s := start(t, one(record(t, "").addr), nil)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	t.Cleanup(h2.CloseIdleConnections)
	for _, on := range []bool{false, true, false} {
		s.Dismiss(on)
		conn := dial(t, s.addr)
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		_, last, err := answer(bufio.NewReader(conn))
		require.NoError(t, err)
		assert.Equal(t, on, last)
		ports := map[string]bool{}
		for range 5 {
			trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { ports[info.Conn.LocalAddr().String()] = true }}
			request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "http://"+s.addr, http.NoBody)
			require.NoError(t, err)
			response, err := h2.Do(request)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, 2, response.ProtoMajor)
		}
		assert.Equal(t, on, len(ports) > 2, "the client of HTTP/2 opened %d connections", len(ports))
		assert.True(t, s.Ready())
	}
}
