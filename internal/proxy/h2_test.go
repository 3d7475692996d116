// HTTP/2, from clients and to backends.

package proxy_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// overH2C makes the named services of the table speak HTTP/2; without names, the primary.
func overH2C(table *spec.Table, names ...string) *spec.Table {
	if len(names) == 0 {
		names = []string{"primary"}
	}
	for _, name := range names {
		port := table.Services[name][80]
		port.Protocol = "h2c"
		table.Services[name][80] = port
	}
	return table
}

// A backend that speaks HTTP/2 gets neither tunnels nor upgrades: CONNECT is refused before a backend could
// answer it, and any other request and its copy go on as if they had not requested an upgrade.
func TestNoTunnelToH2C(t *testing.T) {
	seen := make(chan http.Header, 1)
	backend := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		assert.NotEqual(t, http.MethodConnect, r.Method)
		seen <- r.Header
	})
	variant := record(t, "")
	s := start(t, overH2C(one(backend, variant.addr)), nil)
	back := talk(t, s.addr, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
	assert.Equal(t, []int{http.StatusNotImplemented}, statuses(t, back, http.MethodConnect))

	back = talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	assert.Equal(t, []int{http.StatusOK}, statuses(t, back, http.MethodGet))
	header := <-seen
	assert.NotContains(t, header, "Upgrade")
	assert.NotContains(t, header, "Connection")
	eventually(t, func() bool { return len(variant.got()) == 1 }, "the variant gets the copy")
	assert.NotContains(t, variant.got()[0], "pgrade")
}

// Interim responses that a client is slow to read do not hold up other clients on the backend's connection,
// and come before the final response of their exchange.
func TestInterimFromH2C(t *testing.T) {
	release := make(chan struct{})
	hint := strings.Repeat("a", 400<<10) // thirty of them fill every socket on the way
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hints" {
			return
		}
		w.Header().Set("Link", hint)
		for range 30 {
			w.WriteHeader(http.StatusEarlyHints)
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	s := start(t, overH2C(one(backend)), &proxy.Options{Limits: h1.Limits{Head: 1 << 20}})
	conn := dial(t, s.addr)
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err := io.WriteString(conn, "GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	_, err = in.Peek(1)
	require.NoError(t, err)

	status, _ := ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
	assert.Equal(t, http.StatusOK, status, "another client is served while the first does not read")
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "only the first exchange is under way")
	close(release)
	back, err := io.ReadAll(in)
	require.NoError(t, err)
	all := statuses(t, string(back), http.MethodGet)
	assert.Len(t, all, 31)
	assert.Equal(t, http.StatusOK, all[len(all)-1])
	for _, interim := range all[:len(all)-1] {
		assert.Equal(t, http.StatusEarlyHints, interim)
	}
}

// A client may leave in the middle of an interim response.
func TestClientLeavesInterim(t *testing.T) {
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", strings.Repeat("a", 10000))
		for range 60 {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})
	s := start(t, one(backend), nil)
	c := clientH2C(t, 1<<20)
	for i := range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		left := i % 10
		trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
			if left--; left < 0 {
				cancel()
			}
			return nil
		}}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, "http://"+s.addr+"/", nil)
		require.NoError(t, err)
		resp, err := c.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		cancel()
	}
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 0 }, "all exchanges have ended")
}

// A backend that sends interim responses without end gets its exchange broken off, and the client a 502.
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

// clientH2C returns a client that speaks HTTP/2 and accepts that many unread bytes of a body.
func clientH2C(t *testing.T, window int) *http.Client {
	t.Helper()
	c := client(t)
	transport := c.Transport.(*http.Transport)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: window}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return c
}

// leaveUnread reads the head of an answer and leaves its body unread; the client accepts window bytes of it.
func leaveUnread(t *testing.T, window int, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := clientH2C(t, window).Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
}

// The proxy waits for a client of HTTP/2 that stops sending or reading no longer than for one of HTTP/1.1.
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
			eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 0 }, "the exchange is given up")
		})
		t.Run(name+", end of the response", func(t *testing.T) {
			s := start(t, table, options())
			leaveUnread(t, 1, "http://"+s.addr+"/short")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			require.NoError(t, s.Shutdown(ctx), "net/http gives up the bytes that it writes after the exchange")
		})
	}
}

// Both sides of a call of gRPC may be silent for as long as they like, before and after its answer has begun.
func TestSilentCallOfGRPC(t *testing.T) {
	const timeout = 100 * time.Millisecond
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 1)
		for {
			if _, err := io.ReadFull(r.Body, first); err != nil {
				return
			}
			_, _ = w.Write(first)
			_ = http.NewResponseController(w).Flush()
		}
	})
	s := start(t, overH2C(one(backend)), &proxy.Options{Limits: h1.Limits{BodyTimeout: timeout}})
	body, sending := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/", body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	said := make(chan struct{})
	go func() {
		for range 3 {
			<-time.After(5 * timeout)
			_, _ = io.WriteString(sending, "x")
			<-said
		}
		_ = sending.Close()
	}()
	resp, err := clientH2C(t, 1<<20).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	for range 3 {
		_, err := io.ReadFull(resp.Body, make([]byte, 1))
		require.NoError(t, err)
		said <- struct{}{}
	}
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Empty(t, rest)
}

// The client's timeout does not count the time that a slow backend takes, for a request or between two pieces
// of a response.
func TestSlowBackendOfH2(t *testing.T) {
	const timeout = 2 * time.Second // the client itself may be slow on a busy machine
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(timeout + timeout/4)
		n, err := io.Copy(io.Discard, r.Body)
		assert.NoError(t, err)
		assert.Equal(t, int64(16<<20), n)
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-time.After(timeout + timeout/4)
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

// An answer that the client does not read stays with the backend, except for a bounded part.
func TestUnreadAnswerOfH2C(t *testing.T) {
	var taken atomic.Int64
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			n, _ := w.Write(make([]byte, 10000))
			taken.Add(int64(n))
		}
	})
	s := start(t, overH2C(one(backend)), &proxy.Options{Limits: h1.Limits{BodyTimeout: 500 * time.Millisecond}})
	leaveUnread(t, 100, "http://"+s.addr+"/")
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 0 }, "the exchange is given up")
	assert.Less(t, taken.Load(), int64(512<<10))
}

// settingsOf starts a backend that reports the window of a stream in the settings of its first connection.
func settingsOf(t *testing.T) (address string, window <-chan uint32) {
	t.Helper()
	found := make(chan uint32, 1)
	return serveConns(t, func(_ context.Context, conn net.Conn) {
		head := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")+9)
		_, _ = io.ReadFull(conn, head)
		settings := make([]byte, head[len(head)-7]) // the frame's length is short enough for a byte
		_, _ = io.ReadFull(conn, settings)
		of := uint32(0)
		for ; len(settings) >= 6; settings = settings[6:] {
			if binary.BigEndian.Uint16(settings) == 4 { // SETTINGS_INITIAL_WINDOW_SIZE
				of = binary.BigEndian.Uint32(settings[2:])
			}
		}
		select {
		case found <- of:
		default:
		}
	}), found
}

// The window for the answer to a copy is smaller than for a primary's answer, because the answer is dropped
// anyway.
func TestWindows(t *testing.T) {
	primary, ofPrimary := settingsOf(t)
	variant, ofVariant := settingsOf(t)
	other := record(t, "")
	for _, table := range []*spec.Table{overH2C(one(primary)), overH2C(one(other.addr, variant), "variant0")} {
		talk(t, start(t, table, nil).addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	assert.Equal(t, uint32(256<<10), <-ofPrimary)
	assert.Equal(t, uint32(64<<10), <-ofVariant)
}

// Later copies reuse the buffer of a copy. A variant that answers before it has read a copy gets no bytes of
// them.
func TestCopyAnsweredEarly(t *testing.T) {
	variant := serve(t, func(http.ResponseWriter, *http.Request) {})
	s := start(t, overH2C(one(record(t, "").addr, variant), "variant0"), nil)
	c, body := client(t), strings.Repeat("x", 60<<10)
	for range 300 {
		status, _ := ask(t, c, http.MethodPost, "http://"+s.addr+"/", body)
		require.Equal(t, http.StatusOK, status)
	}
	eventually(t, func() bool {
		return s.counter(t, "shadows_sent_total")+s.counter(t, "shadows_dropped_total") == 300
	}, "all copies have ended")
}

// Backends that do not read a request's body answer before it has arrived; the copies get all of it.
func TestCopiesOfRequestsThatAreAnsweredEarly(t *testing.T) {
	seen := make(chan string, 1)
	variant := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- string(body)
	})
	s := start(t, overH2C(one(serve(t, func(http.ResponseWriter, *http.Request) {}), variant), "primary"), nil)
	client := clientH2C(t, 1<<20)
	for n := range 100 {
		body := fmt.Sprint("body ", n)
		resp, err := client.Post("http://"+s.addr+"/", "text/plain", strings.NewReader(body)) //nolint:noctx // the client has a timeout
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		select {
		case got := <-seen:
			require.Equal(t, body, got)
		case <-time.After(10 * time.Second):
			require.Fail(t, "the copy does not arrive", "%d", n)
		}
	}
}
