// Reloads, drain and shutdown.

package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// named starts a backend that answers with its name.
func named(t *testing.T, name string) string {
	return serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

// In a hundred reloads under load no request fails, and a request that is sent after Apply returned follows
// the new table, also on connections that were open before.
func TestReload(t *testing.T) {
	backends := []string{named(t, "0"), named(t, "1")}
	variant := named(t, "v")
	tables := func(i int) *spec.Table {
		table := one(backends[i%2])
		if i%3 > 0 {
			table = one(backends[i%2], variant)
		}
		table.Listeners[0].Name, table.Listeners[0].Address = "main", "127.0.0.1:0"
		return table
	}
	s := start(t, tables(0), nil)
	stop := busy(t, s.addr)
	c := client(t)
	for i := range 100 {
		require.NoError(t, s.Apply(setup(t, tables(i))))
		status, body := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
		assert.Equal(t, 200, status)
		assert.Equal(t, fmt.Sprint(i%2), body, "the request follows the new table")
	}
	stop()
	assert.Equal(t, s.addr, s.Addr("main").String(), "the listener keeps its address")
}

// busy sends requests until stop is called, which requires that there were more than 100 and that none
// failed.
func busy(t *testing.T, addr string) (stop func()) {
	t.Helper()
	var failed, served atomic.Int64
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		c := client(t)
		wg.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				if !works(t.Context(), c, "http://"+addr+"/") {
					failed.Add(1)
				}
				served.Add(1)
			}
		})
	}
	return func() {
		t.Helper()
		close(ended)
		wg.Wait()
		assert.Zero(t, failed.Load())
		assert.Greater(t, served.Load(), int64(100))
	}
}

// works reports whether a GET is answered with 200.
func works(ctx context.Context, c *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := c.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// Apply changes nothing if a listener cannot be opened. A listener that is gone finishes its requests.
func TestListeners(t *testing.T) {
	release := make(chan struct{})
	slow := serve(t, func(w http.ResponseWriter, _ *http.Request) { <-release; _, _ = io.WriteString(w, "slow") })
	table := one(slow)
	s := start(t, table, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	bad := one(named(t, "new"))
	bad.Listeners = append(bad.Listeners, spec.Listener{Name: "taken", Address: taken.Addr().String(), Rules: bad.Listeners[0].Rules})
	bad.Listeners[0].Name, bad.Listeners[0].Address = "main", "127.0.0.1:0"
	require.ErrorContains(t, s.Apply(setup(t, bad)), "taken")

	conn := dial(t, s.addr)
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "the request is in flight")
	moved := one(named(t, "moved"))
	moved.Listeners[0].Name, moved.Listeners[0].Address = "other", "localhost:0"
	require.NoError(t, s.Apply(setup(t, moved)))
	_, err = net.Dial("tcp", s.addr) //nolint:noctx // refused at once
	require.Error(t, err)
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "slow", string(body))
	_, answer := ask(t, client(t), http.MethodGet, "http://"+s.Addr("other").String()+"/", "")
	assert.Equal(t, "moved", answer)
}

// A listener that a reload removes answers a request whose head had begun, by its own rules. Shutdown waits
// for its connections, or breaks them off.
func TestRemovedListener(t *testing.T) {
	removed := func(t *testing.T, backend, head string, begun func(*site) bool) (*site, net.Conn) {
		s := start(t, one(backend), nil)
		conn := dial(t, s.addr)
		_, err := io.WriteString(conn, head)
		require.NoError(t, err)
		eventually(t, func() bool { return begun(s) }, "the request has begun")
		moved := one(named(t, "moved"))
		moved.Listeners[0].Name, moved.Listeners[0].Address = "other", "localhost:0"
		require.NoError(t, s.Apply(setup(t, moved)))
		return s, conn
	}
	inFlight := func(s *site) bool { return s.counter(t, "requests_in_flight") == 1 }

	t.Run("half a head", func(t *testing.T) {
		_, conn := removed(t, named(t, "old"), "GET / HTTP/1.1\r\nHost: a\r\n", func(s *site) bool {
			return s.counter(t, "connections") == 1
		})
		_, err := io.WriteString(conn, "\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, "200 old", fmt.Sprint(resp.StatusCode, " ", string(body)))
	})
	t.Run("shutdown", func(t *testing.T) {
		release := make(chan struct{})
		slow := serve(t, func(w http.ResponseWriter, _ *http.Request) { <-release; _, _ = io.WriteString(w, "slow") })
		s, conn := removed(t, slow, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", inFlight)
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(t.Context()) }()
		eventually(t, func() bool { return !s.Ready() }, "Shutdown has begun")
		select {
		case err := <-ended:
			t.Error("Shutdown did not wait for a request")
			ended <- err
		case <-time.After(100 * time.Millisecond):
		}
		close(release)
		status, _, err := answer(bufio.NewReader(conn))
		require.NoError(t, err)
		assert.Equal(t, 200, status)
		require.NoError(t, <-ended)
	})
	t.Run("shutdown at its bound", func(t *testing.T) {
		release := make(chan struct{})
		slow := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
		defer close(release)
		s, conn := removed(t, slow, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", inFlight)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
		_, err := io.ReadAll(conn)
		assert.NoError(t, err, "the connection is closed")
	})
}

// Under load, one proxy drains while a second one takes its place: no request fails, and the first ends.
func TestDrain(t *testing.T) {
	backend := named(t, "ok")
	first, second := start(t, one(backend, backend), nil), start(t, one(backend), nil)
	var current atomic.Pointer[site] // the one to which a load balancer sends
	current.Store(first)
	var failed, served atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		var d net.Dialer
		transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, current.Load().addr)
		}}
		if i%2 == 0 {
			transport.Protocols = new(http.Protocols)
			transport.Protocols.SetUnencryptedHTTP2(true)
		}
		c := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		wg.Go(func() {
			defer transport.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !works(t.Context(), c, "http://service/") {
					failed.Add(1)
				}
				served.Add(1)
			}
		})
	}
	eventually(t, func() bool { return served.Load() > 200 }, "the load has begun")
	assert.True(t, first.Ready())
	first.Drain()
	assert.False(t, first.Ready())
	before := served.Load()
	eventually(t, func() bool { return served.Load() > before+100 }, "requests are served while the first proxy drains")
	current.Store(second)
	eventually(t, func() bool { return second.counter(t, "requests_total") > 100 }, "clients move to the second proxy")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, first.Shutdown(ctx))
	before = served.Load()
	eventually(t, func() bool { return served.Load() > before+100 }, "the second proxy serves requests")
	close(stop)
	wg.Wait()
	assert.Zero(t, failed.Load())
}

// Shutdown breaks off exchanges that do not end in time.
func TestShutdownBound(t *testing.T) {
	release := make(chan struct{})
	backend := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	s := start(t, one(backend), nil)
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "the request is in flight")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	_, err = io.ReadAll(conn)
	assert.NoError(t, err, "the connection is closed")
}
