// The proxy under test, and the clients and backends around it.

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// engine is what speaks HTTP/2 with clients in the tests of this package.
var engine = flag.String("h2", "", "own or nethttp; by default both in turn")

// backends is what speaks HTTP/2 with backends.
var backends = flag.String("h2-backends", "", "own or nethttp")

func TestMain(m *testing.M) { goleak.VerifyTestMain(bothEngines{m}) }

// bothEngines runs all tests with mirrorgate's own HTTP/2, and those that concern HTTP/2 also with net/http's.
type bothEngines struct{ m *testing.M }

// Run implements goleak.TestingM.
func (b bothEngines) Run() int {
	flag.Parse()
	if *engine != "" {
		return b.m.Run()
	}
	*engine = string(proxy.OwnH2)
	if code := b.m.Run(); code != 0 {
		return code
	}
	*engine = string(proxy.NetHTTP)
	if run := flag.Lookup("test.run"); run.Value.String() == "" {
		_ = run.Value.Set("H2|GRPC|Interim|Drain|Detect|Reload|TLS|Unread|Unprocessed|Refused|Copies|Reason|Silent")
	}
	return b.m.Run()
}

// site is a proxy under test.
type site struct {
	*proxy.Server
	addr     string
	registry *prometheus.Registry
}

// start serves the table until the test ends. Its first listener is named main and needs no address.
func start(t *testing.T, table *spec.Table, options *proxy.Options) *site {
	t.Helper()
	if options == nil {
		options = &proxy.Options{}
	}
	registry := prometheus.NewRegistry()
	options.Registry, options.H2, options.BackendH2 = registry, proxy.H2(*engine), proxy.H2(*backends)
	s := &site{Server: proxy.New(options), registry: registry}
	table.Listeners[0].Name, table.Listeners[0].Address = "main", "127.0.0.1:0"
	require.NoError(t, s.Apply(setup(t, table)))
	s.addr = s.Addr("main").String()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		assert.NoError(t, s.Shutdown(ctx))
	})
	return s
}

// setup compiles the table.
func setup(t *testing.T, table *spec.Table) *proxy.Setup {
	t.Helper()
	compiled, problems := routing.Compile(table)
	for _, p := range problems {
		require.True(t, p.Warning, p.String())
	}
	out := &proxy.Setup{Table: compiled}
	for _, l := range compiled.Listeners {
		out.Listeners = append(out.Listeners, proxy.Listener{Name: l.Name, Address: l.Address, TCP: l.Passes, H2C: !l.Passes, Detects: l.Detects})
	}
	return out
}

// one returns a table that sends every request to primary, and a copy of it to each variant.
func one(primary string, variants ...string) *spec.Table {
	rule := spec.Rule{BackendRefs: []spec.BackendRef{{Name: "primary", Port: 80}}}
	table := &spec.Table{Services: map[string]spec.Service{"primary": {80: endpoints(primary)}}}
	for i, variant := range variants {
		name := "variant" + string(rune('0'+i))
		table.Services[name] = spec.Service{80: endpoints(variant)}
		rule.Filters = append(rule.Filters, mirror(name, spec.Mirror{}))
	}
	table.Listeners = []spec.Listener{{Rules: []spec.Rule{rule}}}
	return table
}

func mirror(name string, settings spec.Mirror) spec.Filter {
	return spec.Filter{Type: "RequestMirror", RequestMirror: &spec.RequestMirror{
		BackendRef: spec.BackendRef{Name: name, Port: 80}, Mirrorgate: settings,
	}}
}

func endpoints(addresses ...string) spec.Port {
	var port spec.Port
	for _, address := range addresses {
		port.Endpoints = append(port.Endpoints, spec.Endpoint{Address: address})
	}
	return port
}

// counter adds up all series of a metric whose labels include the given ones, as name, value.
func (s *site) counter(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, family := range families {
		if family.GetName() != "mirrorgate_proxy_"+name {
			continue
		}
	series:
		for _, metric := range family.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, label := range metric.GetLabel() {
					found = found || label.GetName() == labels[i] && label.GetValue() == labels[i+1]
				}
				if !found {
					continue series
				}
			}
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return sum
}

// serveConns serves every connection until the test ends, and returns the address.
func serveConns(tb testing.TB, serve faulty.Fault) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	done := make(chan struct{})
	tb.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		faulty.Serve(tb.Context(), l, serve)
	}()
	return l.Addr().String()
}

// serve starts a backend of the standard library, for HTTP/1.1 and h2c, and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// client returns a client with connections of its own.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask sends one request and returns the answer's status and body.
func ask(t *testing.T, c *http.Client, method, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(all)
}

// refused returns an address at which nobody listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// variantWith returns the address of a variant with a fault.
func variantWith(t *testing.T, fault string) string {
	t.Helper()
	if fault == faulty.Gone {
		return refused(t)
	}
	return serveConns(t, faulty.Faults[fault])
}

// recorder is a backend that keeps every byte and answers each request that it can read.
type recorder struct {
	addr, answer string

	mu       sync.Mutex
	requests []string
	stray    []byte
	conns    map[net.Conn]struct{}
}

// record starts a backend that answers with these bytes; by default with 200 and "ok".
func record(t *testing.T, answer string) *recorder {
	t.Helper()
	if answer == "" {
		answer = faulty.Fine
	}
	r := &recorder{answer: answer, conns: map[net.Conn]struct{}{}}
	r.addr = serveConns(t, func(_ context.Context, conn net.Conn) {
		r.mu.Lock()
		r.conns[conn] = struct{}{}
		r.mu.Unlock()
		r.serve(conn)
		r.mu.Lock()
		delete(r.conns, conn)
		r.mu.Unlock()
	})
	return r
}

// serve answers every request on a connection, and closes it after an answer with "Connection: close".
func (r *recorder) serve(conn net.Conn) {
	var seen bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &seen))
	for {
		err := r.readRequest(in)
		used := seen.Len() - in.Buffered()
		raw := string(seen.Next(used))
		r.mu.Lock()
		if err == nil {
			r.requests = append(r.requests, raw)
		} else {
			r.stray = append(r.stray, raw...)
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, r.answer); err != nil || strings.Contains(r.answer, "Connection: close") {
			return
		}
	}
}

// readRequest reads one request, and where two readings are possible takes the one that finds more requests:
// only the last Content-Length and Transfer-Encoding count, and every line end is accepted.
func (r *recorder) readRequest(in *bufio.Reader) error {
	length, chunked := 0, false
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" && !first {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-length":
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		case "transfer-encoding":
			chunked = true
		}
	}
	if !chunked {
		_, err := io.CopyN(io.Discard, in, int64(length))
		return err
	}
	return r.readChunks(in)
}

func (r *recorder) readChunks(in *bufio.Reader) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimRight(line, "\r\n"), 16, 63)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		if _, err := io.CopyN(io.Discard, in, size+2); err != nil {
			return err
		}
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
}

// got returns the requests that were read so far.
func (r *recorder) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// leftover returns the bytes that belong to no whole request.
func (r *recorder) leftover() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.stray)
}

// eventually waits until the condition holds. The message describes the condition.
func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, 2*time.Millisecond, append([]any{message}, args...)...)
}

// talk sends raw bytes, closes the sending half and returns all bytes that come back.
func talk(t *testing.T, addr, raw string) string {
	t.Helper()
	conn := dial(t, addr)
	defer conn.Close()
	_, err := io.WriteString(conn, raw)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	back, _ := io.ReadAll(conn)
	return string(back)
}

// dial connects until the test ends, with a deadline of 15 s.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(15*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// statuses returns the statuses of the responses in raw, which answer requests of that method.
func statuses(t *testing.T, raw, method string) (out []int) {
	t.Helper()
	in := bufio.NewReader(strings.NewReader(raw))
	for {
		if _, err := in.Peek(1); err != nil {
			return out
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		require.NoError(t, err, "%q", raw)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		out = append(out, resp.StatusCode)
	}
}
