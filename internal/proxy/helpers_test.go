package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
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
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a proxy under test.
type site struct {
	*proxy.Server
	addr     string
	registry *prometheus.Registry
}

// start serves the table at one listener called main, which needs no address.
func start(t *testing.T, table *spec.Table, options *proxy.Options) *site {
	t.Helper()
	if options == nil {
		options = &proxy.Options{}
	}
	registry := prometheus.NewRegistry()
	options.Registry = registry
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

func setup(t *testing.T, table *spec.Table) *proxy.Setup {
	t.Helper()
	compiled, problems := routing.Compile(table)
	for _, p := range problems {
		require.True(t, p.Warning, p.String())
	}
	out := &proxy.Setup{Table: compiled}
	for _, l := range compiled.Listeners {
		out.Listeners = append(out.Listeners, proxy.Listener{Name: l.Name, Address: l.Address, TCP: l.Passes, H2C: !l.Passes})
	}
	return out
}

// one is a table that sends everything to primary, and copies of it to each variant.
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

// counter adds up all series of a metric whose labels include these, given as name, value.
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

// recorder is a backend that keeps every byte and answers each request it can read.
type recorder struct {
	net.Listener
	answer string

	mu       sync.Mutex
	requests []string
	stray    []byte
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

// record starts a backend that answers with these bytes; by default with 200 and "ok".
func record(t *testing.T, answer string) *recorder {
	t.Helper()
	if answer == "" {
		answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &recorder{Listener: l, answer: answer, conns: map[net.Conn]struct{}{}}
	r.wg.Go(r.accept)
	t.Cleanup(r.stop)
	return r
}

func (r *recorder) stop() {
	_ = r.Close()
	r.mu.Lock()
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *recorder) addr() string { return r.Addr().String() }

func (r *recorder) accept() {
	for {
		conn, err := r.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns[conn] = struct{}{}
		r.mu.Unlock()
		r.wg.Go(func() {
			r.serve(conn)
			_ = conn.Close()
			r.mu.Lock()
			delete(r.conns, conn)
			r.mu.Unlock()
		})
	}
}

func (r *recorder) serve(conn net.Conn) {
	var seen bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &seen))
	for {
		err := r.one(in)
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

// one reads one request, and of every two readings takes the one that sees more requests: nothing
// but the last Content-Length and Transfer-Encoding counts, and every line end will do.
func (r *recorder) one(in *bufio.Reader) error {
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
	return r.chunks(in)
}

func (r *recorder) chunks(in *bufio.Reader) error {
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

// got returns the requests read so far.
func (r *recorder) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// leftover is what came beyond whole requests.
func (r *recorder) leftover() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.stray)
}

// eventually waits until the condition holds.
func eventually(t *testing.T, condition func() bool, what string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, 2*time.Millisecond, append([]any{what}, args...)...)
}

// talk sends raw bytes, closes the sending half and returns everything that comes back.
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

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(15*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// statuses are those of the responses in raw, which all belong to requests of that method.
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
