package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a backend that answers with its name and notes the Hosts it is asked for.
type server struct {
	at    netip.AddrPort
	hosts chan string
}

func newServer(t *testing.T, name string) *server {
	p := &server{hosts: make(chan string, 1000)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.hosts <- r.Host
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	p.at = netip.MustParseAddrPort(s.Listener.Addr().String())
	return p
}

// slice of a Service that has these pods; of one port, since each is at a port of its own.
func (p *server) slice(service string) string {
	return sliceOf(service+"-a", service, "http:"+strconv.Itoa(int(p.at.Port())), p.at.Addr().String())
}

// host waits for the next request.
func (p *server) host(t *testing.T) string {
	t.Helper()
	select {
	case host := <-p.hosts:
		return host
	case <-time.After(10 * time.Second):
		require.Fail(t, "no request")
		return ""
	}
}

// proxyOf is a proxy that follows Service httpbin of a world, and a client of it.
type proxyOf struct {
	*proxy.Server
	*Follower
	url    string
	client *http.Client
}

func newProxyOf(t *testing.T, w *world) *proxyOf {
	t.Helper()
	// An address that stays while tables come and go.
	address, err := freeport.Address()
	require.NoError(t, err)
	w.opts.Listen = func(Name, *corev1.ServicePort) string { return address.String() }
	transport := &http.Transport{}
	f := &proxyOf{Server: proxy.New(&proxy.Options{}), url: "http://" + address.String(), client: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
	f.Follower = Follow(w.Index, name("httpbin"), f.Server)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		assert.NoError(t, f.Shutdown(ctx))
	})
	return f
}

// get asks as a client of the Service does, and returns status and body.
func (f *proxyOf) get(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/headers", http.NoBody)
	if err != nil {
		return "", err
	}
	req.Host = "httpbin:8000"
	resp, err := f.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body)), err
}

func (f *proxyOf) expect(t *testing.T, want string) {
	t.Helper()
	got, err := f.get(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// world of the tutorial, with real servers as pods.
func tutorialWith(t *testing.T, v1, v2 *server) *world {
	return newWorld(t, serviceOf("httpbin", wellknown.Enabled, "http:8000->80"),
		serviceOf("httpbin-v1", "", "http:80"), serviceOf("httpbin-v2", "", "http:80"),
		v1.slice("httpbin-v1"), v2.slice("httpbin-v2"), routeOf("httpbin", parent, mirroring))
}

// The story of the tutorials over real sockets: variant 2 gets copies with the host that the tutorials print.
// It is deleted without any effect on clients, and comes back.
func TestMirrorComesAndGoes(t *testing.T) {
	v1, v2 := newServer(t, "v1"), newServer(t, "v2")
	w := tutorialWith(t, v1, v2)
	f := newProxyOf(t, w)
	require.NoError(t, f.Sync())
	mirrored := func() {
		t.Helper()
		f.expect(t, "200 v1")
		assert.Equal(t, "httpbin:8000", v1.host(t))
		assert.Equal(t, "httpbin-shadow:8000", v2.host(t))
	}
	alone := func() {
		t.Helper()
		for range 20 {
			f.expect(t, "200 v1")
			assert.Equal(t, "httpbin:8000", v1.host(t))
		}
		assert.Never(t, func() bool { return len(v2.hosts) > 0 }, 100*time.Millisecond, 10*time.Millisecond, "a copy")
	}
	mirrored()

	w.Delete(KindEndpointSlice, "shop", "httpbin-v2-a")
	require.NoError(t, f.Sync())
	alone()
	w.apply(v2.slice("httpbin-v2"))
	require.NoError(t, f.Sync())
	mirrored()

	w.Delete(KindService, "shop", "httpbin-v2")
	require.NoError(t, f.Sync())
	alone()
	assert.Equal(t, fmt.Sprintf(dangles, "BackendNotFound"), w.conditions("httpbin"))
	w.apply(serviceOf("httpbin-v2", "", "http:80"))
	require.NoError(t, f.Sync())
	mirrored()
}

// What Gateway API wants of the primary: 503 without a ready endpoint, 500 without a Service.
func TestPrimaryComesAndGoes(t *testing.T) {
	v1, v2 := newServer(t, "v1"), newServer(t, "v2")
	w := tutorialWith(t, v1, v2)
	f := newProxyOf(t, w)
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
	v2.host(t)
	w.Delete(KindEndpointSlice, "shop", "httpbin-v1-a")
	require.NoError(t, f.Sync())
	f.expect(t, "503 mirrorgate: no endpoint is ready\n")
	w.Delete(KindService, "shop", "httpbin-v1")
	require.NoError(t, f.Sync())
	f.expect(t, "500 mirrorgate: no such backend\n")
	w.apply(serviceOf("httpbin-v1", "", "http:80"), v1.slice("httpbin-v1"))
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
	assert.Equal(t, "httpbin-shadow:8000", v2.host(t))
	assert.Empty(t, v2.hosts, "what failed was not copied")
}

// Without a route there is nothing to serve, and a route that goes leaves the last table, without its
// mirrors: requests come in until nothing leads to the proxies any more.
func TestNotServed(t *testing.T) {
	v1, v2 := newServer(t, "v1"), newServer(t, "v2")
	w := tutorialWith(t, v1, v2)
	route := routeOf("httpbin", parent, mirroring)
	w.Delete(KindHTTPRoute, "shop", "httpbin")
	f := newProxyOf(t, w)
	require.ErrorIs(t, f.Sync(), ErrNotServed)
	assert.False(t, f.Ready())
	w.apply(route)
	require.NoError(t, f.Sync())
	assert.True(t, f.Ready())
	f.expect(t, "200 v1")
	assert.Equal(t, "httpbin-shadow:8000", v2.host(t))
	w.Delete(KindHTTPRoute, "shop", "httpbin")
	require.ErrorIs(t, f.Sync(), ErrNotServed)
	require.ErrorIs(t, f.Sync(), ErrNotServed)
	for range 20 {
		f.expect(t, "200 v1")
	}
	assert.Never(t, func() bool { return len(v2.hosts) > 0 }, 100*time.Millisecond, 10*time.Millisecond, "a copy that no route asks for")
	third := newServer(t, "v1 again")
	w.apply(third.slice("httpbin-v1"))
	<-f.Changed()
	require.ErrorIs(t, f.Sync(), ErrNotServed)
	f.expect(t, "200 v1 again")
	w.apply(v1.slice("httpbin-v1"))
	w.apply(route)
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
	assert.Equal(t, "httpbin-shadow:8000", v2.host(t))
}

// The last table stays in use without a route, but with current endpoints. They are released when there is a
// route again.
func TestNotServedIsCurrent(t *testing.T) {
	v1, v2 := newServer(t, "v1"), newServer(t, "v2")
	w := tutorialWith(t, v1, v2)
	f := newProxyOf(t, w)
	require.NoError(t, f.Sync())
	third := newServer(t, "v1 again")
	w.apply(third.slice("httpbin-v1"))
	require.NoError(t, f.Sync())
	w.Delete(KindHTTPRoute, "shop", "httpbin")
	require.ErrorIs(t, f.Sync(), ErrNotServed)
	f.expect(t, "200 v1 again")
	assert.NotEmpty(t, w.uses)
	w.apply(routeOf("httpbin", parent, "{backendRefs: [{name: httpbin-v2, port: 80}]}"))
	require.NoError(t, f.Sync())
	f.expect(t, "200 v2")
	assert.Len(t, w.uses, 2, "the variant, and the origin for ports without a route")
	w.Delete(KindHTTPRoute, "shop", "httpbin")
	assert.Empty(t, w.uses)
}

// The Service's number for a port may change while its target, where the proxy listens, stays.
func TestPortChanges(t *testing.T) {
	v1, v2 := newServer(t, "v1"), newServer(t, "v2")
	w := tutorialWith(t, v1, v2)
	f := newProxyOf(t, w)
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
	w.apply(serviceOf("httpbin", wellknown.Enabled, "http:8001->80"))
	require.ErrorIs(t, f.Sync(), ErrNotServed)
	w.apply(routeOf("httpbin", `{group: "", kind: Service, name: httpbin, port: 8001}`, mirroring, "generation: 8"))
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
	w.apply(serviceOf("httpbin", wellknown.Enabled, "alias:8002->80 http:8001->80"), routeOf("httpbin", `{group: "", kind: Service, name: httpbin}`, mirroring, "generation: 9"))
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
}

// A loop that waits for Changed follows the Index under load and through a hundred events: no request fails,
// and none reaches the variant as a primary.
func TestFollowUnderLoad(t *testing.T) {
	v1, v2 := newServer(t, "v1"), newServer(t, "v2")
	v1.hosts, v2.hosts = make(chan string, 1<<20), make(chan string, 1<<20)
	w := tutorialWith(t, v1, v2)
	f := newProxyOf(t, w)
	require.NoError(t, f.Sync())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-f.Changed():
				if err := f.Sync(); err != nil {
					t.Error(err)
				}
			case <-stop:
				return
			}
		}
	})
	var failed, served atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := f.get(t.Context()); got != "200 v1" || err != nil {
					failed.Add(1)
				}
				served.Add(1)
			}
		})
	}
	for i := range 100 {
		switch i % 5 {
		case 0:
			w.Delete(KindService, "shop", "httpbin-v2")
		case 1:
			w.apply(serviceOf("httpbin-v2", "", "http:80"))
		case 2:
			w.Delete(KindEndpointSlice, "shop", "httpbin-v2-a")
		case 3:
			w.apply(v2.slice("httpbin-v2"))
		case 4:
			w.apply(routeOf("httpbin", parent, mirroring, fmt.Sprintf("generation: %d", i)))
		}
		before := served.Load()
		require.Eventually(t, func() bool { return served.Load() > before+8 }, 10*time.Second, time.Millisecond)
	}
	close(stop)
	wg.Wait()
	assert.Zero(t, failed.Load())
	assert.Greater(t, served.Load(), int64(500))
	copies := len(v2.hosts) // the last may still be under way
	for range copies {
		assert.Equal(t, "httpbin-shadow:8000", <-v2.hosts)
	}
	assert.Positive(t, copies)
}

// fake is a server that counts calls, and returns err if it is set.
type fake struct {
	tables, swaps []string
	err           error
}

func (s *fake) Apply(setup *proxy.Setup) error {
	if s.err == nil {
		s.tables = append(s.tables, fmt.Sprint(len(setup.Table.Mirrors)))
	}
	return s.err
}

func (s *fake) SetEndpoints(service string, port int, ready, unready []string) error {
	if s.err == nil {
		s.swaps = append(s.swaps, fmt.Sprint(service, ":", port, ready, unready))
	}
	return s.err
}

// New endpoints are set, new rules are applied, a failed update is repeated, and changes of another Service
// do not wake the Follower.
func TestFollower(t *testing.T) {
	w := newWorld(t, tutorial)
	s := &fake{err: errors.New("busy")}
	f := Follow(w.Index, name("httpbin"), s)
	woken := func() bool {
		select {
		case <-f.Changed():
			return true
		default:
			return false
		}
	}
	assert.True(t, woken(), "everything is to be done")
	require.ErrorIs(t, f.Sync(), s.err)
	s.err = nil
	require.NoError(t, f.Sync())
	require.NoError(t, f.Sync())
	assert.Equal(t, []string{"1"}, s.tables)
	assert.False(t, woken())

	w.apply(sliceOf("httpbin-v2-a", "httpbin-v2", "http:80", "!10.2.0.1", "10.2.0.2"))
	w.apply(sliceOf("httpbin-v2-a", "httpbin-v2", "http:80", "!10.2.0.1", "10.2.0.3"))
	assert.True(t, woken())
	assert.False(t, woken(), "events are one")
	require.NoError(t, f.Sync())
	assert.Equal(t, []string{"shop/httpbin-v2:80 [10.2.0.3:80] [10.2.0.1:80]"}, s.swaps)
	assert.Len(t, s.tables, 1)

	w.apply(serviceOf("other", wellknown.Enabled, "80"), routeOf("other", `{group: "", kind: Service, name: other}`, "{backendRefs: [{name: other, port: 80}]}"))
	w.apply(sliceOf("other", "other-mirrorgate-origin", "80", "10.3.0.1"))
	assert.Equal(t, []*Change{{Endpoints: []Backend{{name("other"), "shop/other"}}}}, w.changes)
	assert.False(t, woken())
	w.apply(sliceOf("httpbin-v1-a", "httpbin-v1", "http:80", "10.1.0.2"))
	s.err = errors.New("busy")
	require.ErrorIs(t, f.Sync(), s.err)
	s.err = nil
	require.NoError(t, f.Sync())
	assert.Equal(t, []string{"1", "1"}, s.tables, "after a failure all of it")
	w.Delete(KindService, "shop", "httpbin-v2")
	require.NoError(t, f.Sync())
	assert.Equal(t, []string{"1", "1", "0"}, s.tables)
	assert.Len(t, s.swaps, 1)
}

// The proxy of a Service without a route passes through to the origin, whose endpoints it follows. With one,
// and after it, clients get its primaries: the origin's selector may have the variant's pods as well.
func TestPassThroughBeforeARoute(t *testing.T) {
	v1, v2 := newServer(t, "v1"), newServer(t, "v2")
	w := newWorld(t)
	w.opts.Parent = name("httpbin")
	w.apply(serviceOf("httpbin", "", "http:8000->80"), serviceOf("httpbin-v1", "", "http:80"), serviceOf("httpbin-v2", "", "http:80"), v1.slice("httpbin-v1"), v2.slice("httpbin-v2"))
	f := newProxyOf(t, w)
	require.ErrorIs(t, f.Sync(), ErrNoOrigin)
	origin := wellknown.OriginName("httpbin")
	w.apply(serviceOf(origin, "", "http:8000->80"), v2.slice(origin))
	<-f.Changed()
	require.NoError(t, f.Sync())
	transport := f.client.Transport.(*http.Transport)
	transport.DisableKeepAlives = true // what passes through stays where it is
	f.expect(t, "200 v2")
	assert.Equal(t, "httpbin:8000", v2.host(t))
	for answer, pod := range map[string]*server{"200 v1": v1, "200 v2": v2} {
		w.apply(pod.slice(origin))
		require.NoError(t, f.Sync())
		f.expect(t, answer)
		pod.host(t)
	}

	w.apply(routeOf("httpbin", parent, mirroring))
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
	assert.Equal(t, "httpbin-shadow:8000", v2.host(t))
	w.Delete(KindHTTPRoute, "shop", "httpbin")
	require.ErrorIs(t, f.Sync(), ErrNotServed)
	for range 20 {
		f.expect(t, "200 v1")
	}
	assert.Empty(t, v2.hosts, "neither requests nor copies")
	w.apply(routeOf("httpbin", parent, mirroring))
	require.NoError(t, f.Sync())
	f.expect(t, "200 v1")
	assert.Equal(t, "httpbin-shadow:8000", v2.host(t))
}
