package report

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/mirrorgate/mirrorgate/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reviews is an API server that knows tokens of the form NAMESPACE/ACCOUNT/POD, and no others.
type reviews struct {
	count atomic.Int64
	away  atomic.Bool
	// without leaves out the audiences, as an API server does that knows none.
	without bool
}

func (r *reviews) Create(_ context.Context, in *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	r.count.Add(1)
	if r.away.Load() {
		return nil, errors.New("the API server is away")
	}
	out := in.DeepCopy()
	parts := strings.Split(in.Spec.Token, "/")
	if len(parts) != 3 {
		out.Status.Error = "it has another form"
		return out, nil
	}
	out.Status.Authenticated = true
	if !r.without {
		out.Status.Audiences = in.Spec.Audiences
	}
	out.Status.User.Username = "system:serviceaccount:" + parts[0] + ":" + parts[1]
	if parts[2] != "" {
		out.Status.User.Extra = map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/pod-uid": {parts[2]}}
	}
	return out, nil
}

// leader is a Server that leads until the end of the test.
func leader(t *testing.T, limits Limits) (*Server, *Counters, *reviews) {
	t.Helper()
	r, c := &reviews{}, NewCounters()
	s := New(Options{Reviews: r, Sections: map[string]Section{Mirrors: c}, Limits: limits, Log: testr.New(t)})
	lead(t, s)
	return s, c, r
}

func lead(t *testing.T, s *Server) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { assert.NoError(t, s.Lead(ctx)) })
	require.Eventually(t, func() bool { return s.state.Load() != nil }, 20*time.Second, time.Millisecond)
	end = func() { cancel(); ended.Wait() }
	t.Cleanup(end)
	return end
}

// mirrorOf is the section of a proxy with one mirror.
func mirrorOf(ok, failed uint64) []Mirror {
	return []Mirror{{Route: "HTTPRoute/web", Rule: "checkout", Target: "shop/v2:80", OK: ok, Failed: map[string]uint64{"5xx": failed}}}
}

func reportOf(t *testing.T, process string, sequence uint64, age float64, section any) []byte {
	t.Helper()
	text, err := json.Marshal(section)
	require.NoError(t, err)
	out, err := json.Marshal(&Report{
		Version: Version, Service: "web", Process: process, Sequence: sequence, Age: age,
		Sections: map[string]json.RawMessage{Mirrors: text, "unknown": []byte(`{"a": 1}`)},
	})
	require.NoError(t, err)
	return out
}

func post(s http.Handler, token, caller string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, Path, bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.RemoteAddr = caller + ":1234"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

const token = "shop/mirrorgate-proxy/pod1"

func sum(c *Counters) Sum {
	for _, s := range c.Of("shop", "HTTPRoute/web") {
		return s
	}
	return Sum{}
}

// Totals of several proxies, a lost report, one that comes late, a restart and a mirror that was away: every copy counts
// once.
func TestEveryCopyCountsOnce(t *testing.T) {
	s, c, _ := leader(t, Limits{})
	take := func(token, process string, sequence uint64, age float64, ok, failed uint64) {
		t.Helper()
		w := post(s, token, "10.0.0.1", reportOf(t, process, sequence, age, mirrorOf(ok, failed)))
		require.Equal(t, http.StatusOK, w.Code, w.Body)
	}
	take(token, "old", 7, 1e6, 1000, 100)
	assert.Equal(t, Sum{}, sum(c), "it was counted before this leader's time")
	take(token, "old", 9, 1e6, 1010, 101) // 8 was lost
	take(token, "old", 8, 1e6, 1005, 100) // and comes late
	assert.EqualValues(t, 10, sum(c).OK)
	assert.EqualValues(t, 1, sum(c).Failed)
	take("shop/mirrorgate-proxy/pod2", "new", 1, 0, 5, 2)
	assert.EqualValues(t, 15, sum(c).OK, "it began in this leader's time")
	take(token, "restarted", 1, 0, 3, 0)
	assert.EqualValues(t, 18, sum(c).OK)
	take(token, "restarted", 2, 0, 1, 0)
	assert.EqualValues(t, 19, sum(c).OK, "the mirror was away, and its counters began anew")
	assert.EqualValues(t, 3, sum(c).ByKind["5xx"])
	assert.Empty(t, c.Of("other", "HTTPRoute/web"))
}

func TestWhoMayReport(t *testing.T) {
	s, c, r := leader(t, Limits{})
	body := reportOf(t, "p", 1, 0, mirrorOf(1, 0))
	for name, tt := range map[string]struct {
		token  string
		status int
	}{
		"none":                    {"", http.StatusUnauthorized},
		"no token of the cluster": {"x", http.StatusUnauthorized},
		"another account":         {"shop/default/pod1", http.StatusUnauthorized},
		"another namespace's":     {"other/mirrorgate-proxy/pod9", http.StatusOK},
	} {
		w := post(s, tt.token, "10.0.0.1", body)
		assert.Equal(t, tt.status, w.Code, "%s: %s", name, w.Body)
	}
	assert.Empty(t, c.Of("shop", "HTTPRoute/web"), "a token counts for its own namespace alone")
	assert.Len(t, c.Of("other", "HTTPRoute/web"), 1)
	r.without = true
	assert.Equal(t, http.StatusUnauthorized, post(s, "shop/mirrorgate-proxy/podX", "10.0.0.1", body).Code, "nobody checked the audience")
	r.away.Store(true)
	assert.Equal(t, http.StatusServiceUnavailable, post(s, "shop/mirrorgate-proxy/podY", "10.0.0.1", body).Code)
	before := r.count.Load()
	assert.Equal(t, http.StatusUnauthorized, post(s, "x", "10.0.0.1", body).Code)
	assert.Equal(t, before, r.count.Load(), "a refused token is not reviewed at once again")
}

func TestReportsWithFaults(t *testing.T) {
	s, c, _ := leader(t, Limits{})
	many := make([]Mirror, maxMirrors+1)
	for name, body := range map[string][]byte{
		"no JSON":          []byte("{"),
		"another version":  []byte(`{"version": 2, "service": "web", "process": "p"}`),
		"no process":       []byte(`{"version": 1, "service": "web"}`),
		"no service":       []byte(`{"version": 1, "process": "p"}`),
		"no list":          reportOf(t, "p", 1, 0, map[string]int{"a": 1}),
		"too many mirrors": reportOf(t, "q", 1, 0, many),
		"too long":         reportOf(t, "r", 1, 0, strings.Repeat("x", MaxReport)),
	} {
		w := post(s, "shop/mirrorgate-proxy/"+name, "10.0.0.1", body)
		assert.GreaterOrEqual(t, w.Code, 400, name)
		assert.Less(t, w.Code, 500, name)
		assert.NotEmpty(t, w.Body.String())
	}
	assert.Empty(t, c.processes)
}

// A namespace cannot fill the leader, and others go on.
func TestFloods(t *testing.T) {
	s, c, r := leader(t, Limits{NamespaceReporters: 3, NamespaceBytes: 2000})
	for i := range 10 {
		w := post(s, fmt.Sprintf("flood/mirrorgate-proxy/pod%d", i), "10.0.0.2", reportOf(t, "p", 1, 0, mirrorOf(1, 0)))
		want := http.StatusOK
		if i >= 3 {
			want = http.StatusTooManyRequests
		}
		assert.Equal(t, want, w.Code, i)
	}
	w := post(s, "large/mirrorgate-proxy/pod", "10.0.0.3", reportOf(t, "p", 1, 0, []Mirror{{Route: strings.Repeat("x", 3000)}}))
	assert.Equal(t, http.StatusTooManyRequests, w.Code)
	taken := 0
	for i := range 100 {
		if post(s, token, "10.0.0.1", reportOf(t, "p", uint64(i+1), 0, mirrorOf(1, 0))).Code == http.StatusOK {
			taken++
		}
	}
	assert.Less(t, taken, 30, "one process does not report all the time")
	assert.Len(t, c.Of("shop", "HTTPRoute/web"), 1, "others report")
	before := r.count.Load()
	for i := range 1000 {
		post(s, fmt.Sprint("forged", i), "10.0.0.4", nil)
	}
	assert.Less(t, r.count.Load()-before, int64(100), "a flood of tokens is not passed on to the API server")
	for i := range 20_000 {
		post(s, fmt.Sprint("forged", i), fmt.Sprintf("10.%d.%d.4", 1+i/250, i%250), nil)
	}
	assert.LessOrEqual(t, len(s.tokens.known), maxTokens)
	assert.LessOrEqual(t, len(s.tokens.callers.buckets), maxBuckets)
	later := func() time.Time { return time.Now().Add(goodFor + time.Second) }
	s.now, s.tokens.now = later, later
	s.tokens.callers.buckets["10.0.0.4"].SetBurst(0)
	s.tokens.all.SetBurst(0)
	assert.Equal(t, http.StatusOK, post(s, token, "10.0.0.4", reportOf(t, "p", 1000, 0, mirrorOf(1, 0))).Code,
		"a proxy that is known goes on, beside the flood and from its address")
}

// A reporter that falls silent is forgotten, and what it counted with it once nobody else reports the mirror.
func TestSilence(t *testing.T) {
	s, c, _ := leader(t, Limits{})
	require.Equal(t, http.StatusOK, post(s, token, "10.0.0.1", reportOf(t, "p", 1, 0, mirrorOf(4, 0))).Code)
	s.gone(s.state.Load().sweep(time.Now().Add(silence + time.Second))...)
	assert.Empty(t, c.Of("shop", "HTTPRoute/web"))
	assert.Empty(t, c.processes)
	assert.Empty(t, s.state.Load().namespaces)
	assert.Zero(t, s.state.Load().all)
}

func TestOnlyTheLeaderTakesReports(t *testing.T) {
	c := NewCounters()
	s := New(Options{Reviews: &reviews{}, Sections: map[string]Section{Mirrors: c}, Log: testr.New(t)})
	body := reportOf(t, "p", 1, 0, mirrorOf(4, 0))
	w := post(s, token, "10.0.0.1", body)
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Equal(t, "close", w.Header().Get("Connection"), "the next connection reaches another replica")
	end := lead(t, s)
	assert.Equal(t, http.StatusOK, post(s, token, "10.0.0.1", body).Code)
	end()
	assert.Equal(t, http.StatusServiceUnavailable, post(s, token, "10.0.0.1", body).Code)
	lead(t, s)
	assert.Empty(t, c.Of("shop", "HTTPRoute/web"), "it begins with nothing")
}

// replica is a Server at a port.
type replica struct {
	*Server
	counters *Counters
}

// replicas are two at two ports, behind one address that leads to either, as a Service does.
func replicas(t *testing.T) (both [2]replica, target Target) {
	t.Helper()
	memory, err := certs.NewMemory(clock.RealClock{}, nil, "127.0.0.1")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	behind := &alternating{Listener: listen(t)}
	for i := range both {
		c := NewCounters()
		both[i] = replica{New(Options{Reviews: &reviews{}, Sections: map[string]Section{Mirrors: c}, Log: logr.Discard()}), c}
		l := &handed{Listener: listen(t), conns: make(chan net.Conn), closed: make(chan struct{})}
		behind.to = append(behind.to, l)
		running.Go(func() { assert.NoError(t, both[i].Serve(ctx, l, memory.GetCertificate)) })
	}
	running.Go(behind.run)
	t.Cleanup(func() { _ = behind.Close() })
	return both, Target{Address: behind.Addr().String(), CA: string(memory.CABundle())}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// alternating hands its connections to listeners in turn.
type alternating struct {
	net.Listener
	to []*handed
}

func (a *alternating) run() {
	for i := 0; ; i++ {
		conn, err := a.Accept()
		if err != nil {
			return
		}
		l := a.to[i%len(a.to)]
		select {
		case l.conns <- conn:
		case <-l.closed:
			_ = conn.Close()
		}
	}
}

// handed is a listener whose connections come from another one.
type handed struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Listener.Close()
}

// A client finds the leader among two replicas, follows it when it changes, is not held up when there is none, and goes
// on with another certificate.
func TestAClientFindsTheLeader(t *testing.T) {
	both, target := replicas(t)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	client := NewClient(ClientOptions{Service: "web", TokenFile: file, Log: logr.Discard()})
	var ok atomic.Uint64
	client.Add(Mirrors, func() any { return mirrorOf(ok.Load(), 0) })
	client.Add("empty", func() any { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { client.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	becomes := func(r replica, want uint64) {
		t.Helper()
		require.Eventually(t, func() bool { return sum(r.counters).OK == want }, time.Minute, 5*time.Millisecond)
	}
	known := func(r replica) {
		t.Helper()
		require.Eventually(t, func() bool { return len(r.counters.Of("shop", "HTTPRoute/web")) == 1 }, time.Minute, 5*time.Millisecond)
	}
	client.To(target)
	ok.Store(3)
	end := lead(t, both[0].Server)
	known(both[0])
	ok.Add(2)
	require.Eventually(t, func() bool { return sum(both[0].counters).OK >= 2 }, time.Minute, 5*time.Millisecond)
	end()
	ok.Add(10) // while nobody leads
	lead(t, both[1].Server)
	known(both[1])
	ok.Add(4)
	becomes(both[1], 4)
	client.To(Target{Address: target.Address, CA: "none"})
	ok.Add(1)
	client.To(target)
	becomes(both[1], 5)
}

// A receiver without the right certificate, or one that redirects, never sees the token.
func TestTheTokenIsForTheLeaderAlone(t *testing.T) {
	var seen atomic.Int64
	thief := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	thief.Config.ErrorLog = log.New(io.Discard, "", 0)
	thief.StartTLS()
	defer thief.Close()
	_, target := replicas(t)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	client := NewClient(ClientOptions{Service: "web", TokenFile: file, Log: logr.Discard()})
	stolen := Target{Address: thief.Listener.Addr().String(), CA: target.CA}
	_, err := client.post(t.Context(), newHTTPClient(stolen), stolen, 1)
	require.ErrorContains(t, err, "certificate")

	memory, err := certs.NewMemory(clock.RealClock{}, nil, "127.0.0.1")
	require.NoError(t, err)
	redirecting := httptest.NewUnstartedServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	leaf, err := memory.GetCertificate(nil)
	require.NoError(t, err)
	redirecting.TLS = &tls.Config{Certificates: []tls.Certificate{*leaf}, MinVersion: tls.VersionTLS12}
	redirecting.StartTLS()
	defer redirecting.Close()
	redirects := Target{Address: redirecting.Listener.Addr().String(), CA: string(memory.CABundle())}
	t.Setenv("HTTPS_PROXY", thief.URL)
	httpClient := newHTTPClient(redirects)
	defer httpClient.CloseIdleConnections()
	_, err = client.post(t.Context(), httpClient, redirects, 1)
	require.ErrorContains(t, err, "307")
	assert.Zero(t, seen.Load())
}
