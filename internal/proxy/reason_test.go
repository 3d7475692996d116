// Nothing that the proxy answers in its own name is invisible: there is a reason in the log, as a label, and for the
// client.

package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// journal keeps the end of every exchange as it is logged.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) log(r *core.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, strings.TrimSpace(fmt.Sprint(r.Status, " ", r.Reason)))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

func TestReasons(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	slow := func() *spec.Table {
		table := one(serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		table.Listeners[0].Rules[0].Timeouts = &spec.Timeouts{Request: "50ms"}
		return table
	}
	without := one(refused(t))
	without.Services["primary"] = spec.Service{80: {}}
	nowhere := one(refused(t))
	nowhere.Listeners[0].Rules[0].Matches = []spec.Match{{Method: http.MethodPut}}
	missing := one(refused(t))
	missing.Listeners[0].Rules[0].BackendRefs[0].Name = "missing"
	alive := record(t, "").addr
	for name, tt := range map[string]struct {
		table *spec.Table
		raw   string
		want  string
	}{
		"no Host":           {one(alive), "GET / HTTP/1.1\r\n\r\n", "400 malformed"},
		"nonsense":          {one(alive), "nonsense\r\n\r\n", "400 malformed"},
		"bad chunk":         {one(alive), chunked("x\r\n"), "400 malformed"},
		"target too long":   {one(alive), "GET /" + strings.Repeat("a", 20_000) + " HTTP/1.1\r\nHost: a\r\n\r\n", "414 target_too_long"},
		"head too large":    {one(alive), "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 70_000) + "\r\n\r\n", "431 head_too_large"},
		"version":           {one(alive), "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505 unsupported"},
		"no rule":           {nowhere, get, "404 no_rule"},
		"no backend":        {missing, get, "500 no_backend"},
		"no endpoint":       {without, get, "503 no_endpoint"},
		"no connection":     {one(refused(t)), get, "502 connect"},
		"no answer":         {one(serveConns(t, func(_ context.Context, conn net.Conn) { _, _ = conn.Read(make([]byte, 1000)) })), get, "502 unanswered"},
		"no HTTP":           {one(record(t, "nonsense\r\n\r\n").addr), get, "502 invalid_answer"},
		"no answer in time": {slow(), get, "504 timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, hidden := range []bool{false, true} {
				var j journal
				s := start(t, tt.table, &proxy.Options{AccessLog: j.log, HideReason: hidden})
				back := talk(t, s.addr, tt.raw)
				status, reason, _ := strings.Cut(tt.want, " ")
				assert.True(t, strings.HasPrefix(back, "HTTP/1.1 "+status), "%q", back)
				assert.Equal(t, !hidden, strings.Contains(back, core.ReasonField+": "+reason+"\r\n"), "%q", back)
				eventually(t, func() bool { return len(j.all()) == 1 }, "it is counted and logged")
				assert.Equal(t, []string{tt.want}, j.all())
				assert.InDelta(t, 1, s.counter(t, "requests_total", "listener", "main", "code", status, "reason", reason), 0)
			}
		})
	}
}

// A head, or a body, that does not arrive in time is a reason, too; and so is an answer that ends early.
func TestReasonsOfTime(t *testing.T) {
	limits := h1.Limits{HeadTimeout: 50 * time.Millisecond, BodyTimeout: 50 * time.Millisecond}
	for raw, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost:":                                  "408 head_timeout",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx": "408 body_timeout",
	} {
		var j journal
		s := start(t, one(record(t, "").addr), &proxy.Options{AccessLog: j.log, Limits: limits})
		conn := dial(t, s.addr)
		_, err := io.WriteString(conn, raw)
		require.NoError(t, err)
		eventually(t, func() bool { return len(j.all()) == 1 }, "it is logged")
		assert.Equal(t, []string{want}, j.all())
	}
	for name, body := range map[string]string{"short": "x", "long": strings.Repeat("x", 100_000)} {
		var j journal
		s := start(t, one(record(t, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n"+body).addr), &proxy.Options{AccessLog: j.log})
		talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		eventually(t, func() bool { return len(j.all()) == 1 }, "it is logged")
		assert.Equal(t, []string{"200 truncated"}, j.all(), name)
	}
}

// A request that HTTP/2's terminator refuses is visible as well.
func TestReasonsOverH2(t *testing.T) {
	var j journal
	s := start(t, one(record(t, "").addr), &proxy.Options{AccessLog: j.log})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/", nil)
	require.NoError(t, err)
	req.Header.Set("X", strings.Repeat("a", 70_000))
	resp, err := clientH2C(t, 1<<20).Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
	assert.Equal(t, "head_too_large", resp.Header.Get(core.ReasonField))
	assert.Equal(t, []string{"431 head_too_large"}, j.all())
	assert.InDelta(t, 1, s.counter(t, "requests_total", "reason", "head_too_large"), 0)
}

// Series are those of listeners, services and targets, however many rules there are; with PerRule those of rules and
// mirrors.
func TestSeries(t *testing.T) {
	for _, perRule := range []bool{false, true} {
		backend, variant := record(t, ""), record(t, "")
		table := one(backend.addr, variant.addr)
		rule := table.Listeners[0].Rules[0]
		table.Listeners[0].Rules = nil
		for i := range 50 {
			path := fmt.Sprintf("/%d", i)
			rule.Matches = []spec.Match{{Path: &spec.PathMatch{Value: &path}}}
			table.Listeners[0].Rules = append(table.Listeners[0].Rules, rule)
		}
		s := start(t, table, &proxy.Options{PerRule: perRule})
		for i := range 50 {
			status, _ := ask(t, client(t), http.MethodGet, fmt.Sprintf("http://%s/%d", s.addr, i), "")
			require.Equal(t, http.StatusOK, status)
		}
		eventually(t, func() bool {
			return s.counter(t, "shadows_sent_total") == 50 && s.counter(t, "requests_total") == 50
		}, "all requests are counted, and all copies answered")
		families, err := s.registry.Gather()
		require.NoError(t, err)
		series := map[string]int{}
		for _, f := range families {
			series[strings.TrimPrefix(f.GetName(), "mirrorgate_proxy_")] = len(f.GetMetric())
		}
		want := 1
		if perRule {
			want = 50
			assert.InDelta(t, 1, s.counter(t, "requests_total", "listener", "main", "service", "primary:80", "rule", "main/7", "code", "200"), 0)
		} else {
			assert.InDelta(t, 50, s.counter(t, "requests_total", "listener", "main", "service", "primary:80", "rule", "", "code", "200"), 0)
			assert.InDelta(t, 50, s.counter(t, "shadows_sent_total", "mirror", "variant0:80"), 0)
		}
		for _, name := range []string{"requests_total", "request_duration_seconds", "shadows_sent_total", "shadow_duration_seconds"} {
			assert.Equal(t, want, series[name], "%s per rule %t", name, perRule)
		}
	}
}
