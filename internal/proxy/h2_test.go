package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// overH2C makes the table's primary one that speaks HTTP/2.
func overH2C(table *spec.Table) *spec.Table {
	port := table.Services["primary"][80]
	port.Protocol = "h2c"
	table.Services["primary"][80] = port
	return table
}

// HTTP/2 has neither tunnels nor upgrades: CONNECT is refused before a backend could answer it, and
// any other request goes on as if no upgrade had been asked for, copies included.
func TestNoTunnelToH2C(t *testing.T) {
	seen := make(chan http.Header, 1)
	backend := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		assert.NotEqual(t, http.MethodConnect, r.Method)
		seen <- r.Header
	})
	variant := record(t, "")
	s := start(t, overH2C(one(backend, variant.addr())), nil)
	back := talk(t, s.addr, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
	assert.Equal(t, []int{http.StatusNotImplemented}, statuses(t, back, http.MethodConnect))

	back = talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	assert.Equal(t, []int{http.StatusOK}, statuses(t, back, http.MethodGet))
	header := <-seen
	assert.NotContains(t, header, "Upgrade")
	assert.NotContains(t, header, "Connection")
	eventually(t, func() bool { return len(variant.got()) == 1 }, "copy")
	assert.NotContains(t, variant.got()[0], "pgrade")
}

// Interim responses that a client is slow to take hold up nobody else on the backend's connection,
// end with the exchange they belong to, and come before its final response.
func TestInterimFromH2C(t *testing.T) {
	gone := make(chan struct{})
	hint := strings.Repeat("a", 400<<10) // fifty fill every socket on the way
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hints" {
			return
		}
		for range 50 {
			w.Header().Set("Link", hint)
			w.WriteHeader(http.StatusEarlyHints)
		}
		<-r.Context().Done()
		close(gone)
	})
	table := overH2C(one(backend))
	table.Listeners[0].Rules[0].Timeouts = &spec.Timeouts{Request: "2s"}
	s := start(t, table, &proxy.Options{Limits: h1.Limits{Head: 1 << 20}})
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	_, err = in.Peek(1)
	require.NoError(t, err)

	status, _ := ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
	assert.Equal(t, http.StatusOK, status, "another client, while the first does not read")
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "the first waits")
	wait(t, gone)
	back, err := io.ReadAll(in)
	require.NoError(t, err)
	all := statuses(t, string(back), http.MethodGet)
	assert.Equal(t, http.StatusGatewayTimeout, all[len(all)-1])
	for _, interim := range all[:len(all)-1] {
		assert.Equal(t, http.StatusEarlyHints, interim)
	}
}

// A backend that sends interim responses without end gives no answer.
func TestInterimWithoutEnd(t *testing.T) {
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})
	s := start(t, overH2C(one(backend)), nil)
	all := statuses(t, talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), http.MethodGet)
	assert.LessOrEqual(t, len(all), 65)
	assert.Equal(t, http.StatusBadGateway, all[len(all)-1])
}

// clientH2C is a client that speaks HTTP/2, and takes that many bytes of a body before it is read.
func clientH2C(t *testing.T, window int) *http.Client {
	t.Helper()
	c := client(t)
	transport := c.Transport.(*http.Transport)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: window}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return c
}

// leaveUnread takes the head of an answer, and of its body no more than the window.
func leaveUnread(t *testing.T, window int, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := clientH2C(t, window).Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
}

// A client of HTTP/2 that stops sending, or stops reading, is not waited for longer than one of
// HTTP/1.1.
func TestBodyTimeoutOfH2(t *testing.T) {
	options := func() *proxy.Options { return &proxy.Options{Limits: h1.Limits{BodyTimeout: 200 * time.Millisecond}} }
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "0123456789")
			return
		}
		_, _ = io.Copy(w, r.Body)
		for r.Context().Err() == nil && r.URL.Path == "/long" {
			_, _ = w.Write(make([]byte, 10000))
		}
	}
	for name, table := range map[string]*spec.Table{"http": one(serve(t, answer)), "h2c": overH2C(one(serve(t, answer)))} {
		t.Run(name+", request", func(t *testing.T) {
			s := start(t, table, options())
			body, sending := io.Pipe()
			defer sending.Close()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/", body)
			require.NoError(t, err)
			resp, err := clientH2C(t, 1<<20).Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
		})
		t.Run(name+", response", func(t *testing.T) {
			s := start(t, table, options())
			leaveUnread(t, 100, "http://"+s.addr+"/long")
			eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 0 }, "given up")
		})
		t.Run(name+", end of the response", func(t *testing.T) {
			s := start(t, table, options())
			leaveUnread(t, 1, "http://"+s.addr+"/short")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			require.NoError(t, s.Shutdown(ctx), "what net/http writes after the exchange")
		})
	}
}

// A backend that takes its time with a request, or between two pieces of a response, is no
// client that stands still.
func TestSlowBackendOfH2(t *testing.T) {
	const timeout = 200 * time.Millisecond
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(3 * timeout)
		n, err := io.Copy(io.Discard, r.Body)
		assert.NoError(t, err)
		assert.Equal(t, int64(16<<20), n)
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-time.After(3 * timeout)
		_, _ = io.WriteString(w, "b")
	})
	for name, table := range map[string]*spec.Table{"http": one(backend), "h2c": overH2C(one(backend))} {
		t.Run(name, func(t *testing.T) {
			s := start(t, table, &proxy.Options{Limits: h1.Limits{BodyTimeout: timeout}})
			status, body := ask(t, clientH2C(t, 1<<20), http.MethodPost, "http://"+s.addr+"/", strings.Repeat("x", 16<<20))
			assert.Equal(t, http.StatusOK, status)
			assert.Equal(t, "ab", body)
		})
	}
}
