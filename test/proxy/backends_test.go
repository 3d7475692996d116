// Backends that people run: nginx, and httpbin under gunicorn, both from Debian.

package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/cluster/debian"
)

// free returns an address at which nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// run starts a server until the test ends, and waits until it accepts connections.
func run(t *testing.T, dir, addr, command string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), command, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", command, out.String())
		}
	})
	listens(t, addr)
}

// listens waits until somebody accepts connections at an address.
func listens(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 30*time.Second, 20*time.Millisecond, "nobody accepts connections at %s", addr)
}

// exchange is a request that must get the same answer with and without the proxy.
type exchange struct {
	method, path, body string
	chunked            bool
}

// ask sends the request and returns the answer's status, fields and body as text.
func (e *exchange) ask(t *testing.T, c *http.Client, addr string) string {
	t.Helper()
	var body io.Reader
	if e.body != "" {
		body = strings.NewReader(e.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), e.method, "http://"+addr+e.path, body)
	require.NoError(t, err)
	req.Host = "httpbin:8000"
	if e.chunked {
		req.ContentLength = -1
	}
	resp, err := c.Do(req)
	require.NoError(t, err, e.path)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err, e.path)
	return fmt.Sprintln(resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Content-Encoding"),
		resp.Header.Get("Location"), resp.Header.Get("Etag"), resp.ContentLength, string(got))
}

// straight returns a client that follows no redirects and decompresses nothing.
func straight(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// same sends every request to the backend and to the proxy, three times on the same connections, and compares
// the answers.
func same(t *testing.T, direct, proxied string, exchanges []exchange) {
	t.Helper()
	c := straight(t)
	for range 3 {
		for _, e := range exchanges {
			assert.Equal(t, e.ask(t, c, direct), e.ask(t, c, proxied), "%s %s", e.method, e.path)
		}
	}
}

// httpbin answers the same with and without the proxy, and every request is mirrored.
func TestHTTPBin(t *testing.T) {
	require.NoError(t, debian.Need(t.Context(), "gunicorn", "gunicorn", "python3-httpbin"))
	dir := t.TempDir()
	serve := func(name string) string {
		addr := free(t)
		run(t, dir, addr, "gunicorn", "--bind", addr, "--access-logfile", filepath.Join(dir, name), "--access-logformat", "%(r)s %({host}i)s", "httpbin:app")
		return addr
	}
	v1, v2 := serve("v1"), serve("v2")
	proxied := start(t, table("http", v1, v2), nil)
	exchanges := []exchange{
		{method: "GET", path: "/headers"},
		{method: "GET", path: "/get?a=1&b=%2F&c"},
		{method: "POST", path: "/post", body: "hello"},
		{method: "PUT", path: "/put", body: strings.Repeat("x", 200_000)},
		{method: "HEAD", path: "/get"},
		{method: "DELETE", path: "/delete"},
		{method: "OPTIONS", path: "/get"},
		{method: "GET", path: "/status/418"},
		{method: "GET", path: "/status/204"},
		{method: "GET", path: "/redirect/1"},
		{method: "GET", path: "/gzip"},
		{method: "GET", path: "/bytes/100000?seed=1"},
		{method: "GET", path: "/stream-bytes/100000?seed=1"},
		{method: "GET", path: "/etag/e"},
		{method: "GET", path: "/drip?duration=0.2&numbytes=4&delay=0"},
	}
	same(t, v1, proxied, exchanges)
	want := 3 * len(exchanges)
	var logged string
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, "v2"))
		logged = string(raw)
		return err == nil && strings.Count(logged, "\n") >= want
	}, 20*time.Second, 20*time.Millisecond, "the variant logged fewer than %d copies", want)
	assert.Equal(t, want, strings.Count(logged, " httpbin-shadow:8000\n"))
	assert.Contains(t, logged, "GET /get?a=1&b=%2F&c HTTP/1.1")
}

const nginxConfig = `daemon off; master_process off; pid DIR/pid; error_log stderr;
events { worker_connections 512; }
http {
  access_log off; client_max_body_size 0; default_type text/plain; root DIR; keepalive_requests 7; gzip on; gzip_min_length 1;
  client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
  server {
    listen ADDR;
    location = /echo { return 200 "$request $http_host $http_content_length $http_transfer_encoding"; }
    location = /refuse { client_max_body_size 1k; proxy_pass http://ADDR/echo; }
    location = /close { keepalive_timeout 0; return 200 "bye"; }
    location = /moved { return 302 /echo; }
  }
}
`

// nginx answers the same with and without the proxy.
func TestNginx(t *testing.T) {
	require.NoError(t, debian.Need(t.Context(), "nginx", "nginx-light"))
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<17), 0o600))
	serve := func(name string) string {
		addr, conf := free(t), filepath.Join(dir, name)
		text := strings.NewReplacer("DIR", dir, "ADDR", addr).Replace(nginxConfig)
		require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
		run(t, dir, addr, "nginx", "-c", conf, "-e", "stderr")
		return addr
	}
	v1, v2 := serve("v1"), serve("v2")
	proxied := start(t, table("http", v1, v2), nil)
	same(t, v1, proxied, []exchange{
		{method: "GET", path: "/echo?a=%2F"},
		{method: "POST", path: "/echo", body: "hello"},
		{method: "POST", path: "/echo", body: strings.Repeat("x", 1<<20)},
		{method: "POST", path: "/refuse", body: strings.Repeat("x", 4<<10)},
		{method: "POST", path: "/echo", body: "hello", chunked: true},
		{method: "HEAD", path: "/big"},
		{method: "GET", path: "/big"},
		{method: "GET", path: "/absent"},
		{method: "GET", path: "/moved"},
		{method: "GET", path: "/close"},
	})
}
