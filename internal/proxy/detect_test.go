// Connections whose protocol the first bytes tell, and ports that requests tell apart.

package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// looking returns a table whose listener has a rule that leads to web, and passes what is no HTTP through to other.
func looking(web, other string) *spec.Table {
	table := one(web)
	table.Services["other"] = spec.Service{25: endpoints(other)}
	table.Listeners[0].Otherwise = &spec.Passthrough{Name: "other", Port: 25}
	return table
}

// deaf is a backend that must not be connected to.
func deaf(t *testing.T) string {
	t.Helper()
	return serveConns(t, func(_ context.Context, conn net.Conn) {
		first := make([]byte, 1)
		n, _ := conn.Read(first)
		assert.Zero(t, n, "bytes of HTTP pass through")
	})
}

// HTTP has the listener's rules, in whatever pieces it arrives.
func TestDetectHTTP(t *testing.T) {
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method+" "+r.RequestURI) })
	s := start(t, looking(backend, deaf(t)), nil)
	for _, pieces := range [][]string{
		{"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"G", "ET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"GET ", "/x", " HTTP/1.1\r", "\nHost: a\r\n\r\n"},
		{"", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		conn := dial(t, s.addr)
		for i, piece := range pieces {
			if i > 0 {
				<-time.After(150 * time.Millisecond) // longer than the client may be silent before the server is asked
			}
			_, err := io.WriteString(conn, piece)
			require.NoError(t, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "%q", pieces)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, "GET /x", string(body), "%q", pieces)
	}
	for range 10 { // the rest of a line comes soon after its beginning, which comes with the connection
		conn := dial(t, s.addr)
		_, err := io.WriteString(conn, "BREW")
		require.NoError(t, err)
		<-time.After(20 * time.Millisecond)
		_, err = io.WriteString(conn, " /x HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	status, body := ask(t, clientH2C(t, 1<<20), http.MethodPost, "http://"+s.addr+"/y", "x")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "POST /y", body)
	status, _ = ask(t, client(t), "BREW", "http://"+s.addr+"/"+strings.Repeat("z", 10_000), "")
	assert.Equal(t, http.StatusOK, status, "a long target")
}

// What is almost HTTP is refused, not passed through: a lenient backend would take it for a request that no rule has
// seen.
func TestDetectAlmostHTTP(t *testing.T) {
	s := start(t, looking(record(t, "").addr, deaf(t)), nil)
	for _, raw := range []string{
		" GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET\t/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /x\r\n\r\n", "GET /x HTTP/1.1\nHost: a\n\n", "get /x HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", "GET /x HTTP/9.9\r\nHost: a\r\n\r\n",
		strings.Repeat("\r\n", 2048) + "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		assert.Contains(t, talk(t, s.addr, raw), "HTTP/1.1 ", "%q", raw)
		assert.NotContains(t, talk(t, s.addr, raw), "HTTP/1.1 200", "%q", raw)
	}
}

// Whatever is not HTTP passes through untouched, and either side may speak first.
func TestDetectOthers(t *testing.T) {
	echo := serveConns(t, func(_ context.Context, conn net.Conn) { _, _ = io.Copy(conn, conn) })
	for _, raw := range []string{
		"PING\r\n", "*1\r\n$4\r\nPING\r\n", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x16\x03\x01\x00\x05hello", "SSH-2.0-x\r\n", "x", "set a 0 0 1\r\n",
	} {
		conn := dial(t, start(t, looking(deaf(t), echo), nil).addr)
		_, err := io.WriteString(conn, raw)
		require.NoError(t, err)
		got := make([]byte, len(raw))
		_, err = io.ReadFull(conn, got)
		require.NoError(t, err, "%q", raw)
		assert.Equal(t, raw, string(got))
	}

	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") }))
	t.Cleanup(secure.Close)
	s := start(t, looking(deaf(t), secure.Listener.Addr().String()), nil)
	c := secure.Client()
	c.Transport.(*http.Transport).DialTLSContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		return d.DialContext(ctx, network, s.addr)
	}
	t.Cleanup(c.CloseIdleConnections)
	status, body := ask(t, c, http.MethodGet, "https://example.com/", "")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "secret", body)

	s = start(t, looking(deaf(t), speaker(t, "220 ready", repeatBack)), nil)
	conn := dial(t, s.addr)
	in := bufio.NewReader(conn)
	assert.Equal(t, "220 ready\n", line(t, in), "the server speaks first")
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n")
	require.NoError(t, err)
	assert.Equal(t, "GET / HTTP/1.1\r\n", line(t, in), "and then decides")
	assert.InDelta(t, 1, s.counter(t, "passthrough_connections", "listener", "main"), 0)
}

// A client that says nothing holds neither an end of the proxy nor a connection that its server has closed.
func TestDetectSilence(t *testing.T) {
	s := start(t, looking(deaf(t), serveConns(t, func(context.Context, net.Conn) {})), nil)
	back, err := io.ReadAll(dial(t, s.addr))
	require.NoError(t, err)
	assert.Empty(t, back, "the server closed")

	s = start(t, looking(deaf(t), serveConns(t, func(ctx context.Context, _ net.Conn) { <-ctx.Done() })), nil)
	silent := dial(t, s.addr)
	eventually(t, func() bool { return s.counter(t, "connections") == 1 }, "the client is connected")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.Shutdown(ctx))
	_, err = silent.Read(make([]byte, 1))
	require.Error(t, err)

	s = start(t, looking(deaf(t), refused(t)), &proxy.Options{})
	conn := dial(t, s.addr)
	<-time.After(150 * time.Millisecond)
	_, err = io.WriteString(conn, "PING\r\n")
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.Error(t, err, "a reset, as if nobody listened")
}

// A request goes to a backend of protocol auto, and its copy to a variant, over the version in which it arrived.
func TestProtocolOfTheClient(t *testing.T) {
	seen := make(chan string, 10)
	report := func(w http.ResponseWriter, r *http.Request) { seen <- r.Proto }
	table := one(serve(t, report), serve(t, report))
	for _, name := range []string{"primary", "variant0"} {
		port := table.Services[name][80]
		port.Protocol = "auto"
		table.Services[name][80] = port
	}
	s := start(t, table, nil)
	for proto, c := range map[string]*http.Client{"HTTP/1.1": client(t), "HTTP/2.0": clientH2C(t, 1<<20)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/", strings.NewReader("x"))
		require.NoError(t, err)
		req.Header.Set("TE", "trailers")
		resp, err := c.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusOK, resp.StatusCode)
		for _, of := range []string{"request", "copy"} {
			select {
			case got := <-seen:
				assert.Equal(t, proto, got, of)
			case <-time.After(10 * time.Second):
				require.Fail(t, "nothing arrives", of)
			}
		}
	}
}
