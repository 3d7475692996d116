package proxyserve

// The proxy of a Service as a process, against an API server whose objects the test sets, because a real one
// refuses endpoints at the loopback address.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/feed/feedtest"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const httpRoutes = "/apis/gateway.networking.k8s.io/v1/httproutes"

// inFront is a proxy in front of Service shop/httpbin, whose two ports have these target ports.
type inFront struct {
	api       *feedtest.API
	web, db   int
	admin     string
	ended     chan error
	terminate func()
	// annotations is JSON for the metadata of the next Service.
	annotations string
}

func port(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(text)
	require.NoError(t, err)
	return number
}

// serviceAPI is an API server with Gateway API.
func serviceAPI(t *testing.T) *feedtest.API {
	api := feedtest.New(t)
	api.Serve(httpRoutes, "HTTPRoute")
	api.Serve("/apis/gateway.networking.k8s.io/v1/referencegrants", "ReferenceGrant")
	return api
}

// reportToken is the option ReportToken of the next proxy.
var reportToken string

func newInFront(t *testing.T, api *feedtest.API, drain time.Duration) *inFront {
	f := &inFront{api: api, web: port(t, freeAddress(t)), db: port(t, freeAddress(t)), admin: freeAddress(t), ended: make(chan error, 1)}
	f.terminate, f.ended = startService(t, api, &Options{AdminBind: f.admin, DrainMin: drain, ReportToken: reportToken, TrustedHops: -1})
	return f
}

// startService starts the proxy of shop/httpbin with further options, and ends it with the test.
func startService(t *testing.T, api *feedtest.API, opts *Options) (terminate func(), ended chan error) {
	t.Helper()
	opts.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(opts.Kubeconfig, []byte(api.Kubeconfig()), 0o600))
	opts.Service, opts.DrainTimeout, opts.Log = "httpbin", 10*time.Second, errorsOnly
	if opts.AdminBind == "" {
		opts.AdminBind = freeAddress(t)
	}
	require.Empty(t, opts.Validate())
	ctx, cancel := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- Service(ctx, opts) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			assert.NoError(t, err)
		case <-time.After(20 * time.Second):
			assert.Fail(t, "no end")
		}
	})
	return cancel, ended
}

// service puts a Service with the two ports; the second is no HTTP. Its selector leads to its proxies.
func (f *inFront) service(t *testing.T, name string) { f.selecting(t, name, wellknown.Sentinel(name)) }

// annotated puts an origin that says where to report.
func (f *inFront) annotated(t *testing.T, name string, target wellknown.ReportTarget) {
	text, err := json.Marshal(target)
	require.NoError(t, err)
	value, err := json.Marshal(string(text))
	require.NoError(t, err)
	f.annotations = fmt.Sprintf(`, "annotations": {%q: %s}`, wellknown.ReportAnnotation, value)
	f.service(t, name)
	f.annotations = ""
}

func (f *inFront) selecting(t *testing.T, name, app string) {
	f.api.Put(t, fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": %q%s}, "spec": {
		"selector": {"app": %q}, "clusterIP": "10.0.0.1", "ports": [
		{"name": "http", "port": 8000, "targetPort": %d}, {"name": "db", "port": 5432, "targetPort": %d, "appProtocol": "postgres"}]}}`, name, f.annotations, app, f.web, f.db))
}

// pods puts endpoints of a Service: for its port http, and for db.
func (f *inFront) pods(t *testing.T, service, http, db string) {
	f.api.Put(t, fmt.Appendf(nil, `{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": {"namespace": "shop", "name": "%[1]s-a", "labels": {"kubernetes.io/service-name": %[1]q}}, "addressType": "IPv4",
		"ports": [{"name": "http", "port": %[2]d, "protocol": "TCP"}, {"name": "db", "port": %[3]d, "protocol": "TCP"}],
		"endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]}`, service, port(t, http), port(t, db)))
}

func (f *inFront) route(t *testing.T, backend string) {
	f.api.Put(t, fmt.Appendf(nil, `{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "shop", "name": "httpbin", "generation": 1},
		"spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "httpbin", "port": 8000}], "rules": [
		{"filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "routed", "value": "yes"}]}}], "backendRefs": [{"name": "%s", "port": 8000}]}]}}`, backend))
}

// readyz is the status of /readyz.
func (f *inFront) readyz(ctx context.Context) int {
	response, err := get(ctx, "http://"+f.admin+"/readyz")
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Close = true
	return http.DefaultClient.Do(request)
}

// ask is the body of an answer at the Service's first port, with "routed: " in front if a route led there.
func (f *inFront) ask(ctx context.Context) string {
	response, err := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/", f.web))
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	prefix := ""
	if response.Header.Get("Routed") != "" {
		prefix = "routed: "
	}
	return prefix + string(body) + errText(err)
}

func (f *inFront) becomes(t *testing.T, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return f.ask(t.Context()) == want }, 20*time.Second, 5*time.Millisecond, want)
}

func (f *inFront) ready(t *testing.T, status int) {
	t.Helper()
	require.Eventually(t, func() bool { return f.readyz(t.Context()) == status }, 20*time.Second, 5*time.Millisecond, "/readyz becomes %d", status)
}

// greeter is a backend that sends "db" and then echoes.
func greeter(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintln(conn, "db")
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func webserver(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// The life of a proxy in front of a Service: it waits for Service and origin, passes ports without a route
// through, follows routes and endpoints as they come and go, and ends with notice.
func TestProxyService(t *testing.T) {
	api := serviceAPI(t)
	f := newInFront(t, api, 2*time.Second)
	v1, v2, db := webserver(t, "v1"), webserver(t, "v2"), greeter(t)
	f.ready(t, http.StatusServiceUnavailable)
	f.service(t, "httpbin")
	require.Never(t, func() bool { return f.readyz(t.Context()) == http.StatusOK }, 300*time.Millisecond, 20*time.Millisecond, "without an origin")
	origin := wellknown.OriginName("httpbin")
	f.service(t, origin)
	f.pods(t, origin, v1, db)
	f.ready(t, http.StatusOK)
	f.becomes(t, "v1")

	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", f.db))
	require.NoError(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	greeting, err := in.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "db\n", greeting)

	f.route(t, "httpbin") // which means its origin
	f.becomes(t, "routed: v1")
	f.selecting(t, "v2", "v2")
	f.route(t, "v2")
	f.becomes(t, "routed: mirrorgate: no endpoint is ready\n")
	f.pods(t, "v2", v2, db)
	f.becomes(t, "routed: v2")
	metrics, err := get(t.Context(), "http://"+f.admin+"/metrics")
	require.NoError(t, err)
	defer metrics.Body.Close()
	text, err := io.ReadAll(metrics.Body)
	require.NoError(t, err)
	for _, line := range []string{
		`mirrorgate_feed_synced{resource="httproutes"} 1`, `mirrorgate_feed_failures_total{resource="services"} 0`, "mirrorgate_proxy_table_valid 1",
		fmt.Sprintf(`mirrorgate_proxy_passthrough_connections{listener="shop/httpbin:%d/tcp"} 1`, f.db),
	} {
		assert.Contains(t, string(text), line+"\n")
	}

	api.Away() // and everything goes on
	assert.Equal(t, "routed: v2", f.ask(t.Context()))
	api.Refuse("/", 0)
	f.terminate()
	f.ready(t, http.StatusServiceUnavailable)
	assert.Equal(t, "routed: v2", f.ask(t.Context()), "clients that have not noticed are served")
	f.pods(t, "v2", v1, db)
	f.becomes(t, "routed: v1") // endpoints are followed to the end
	_, err = io.WriteString(conn, "still\n")
	require.NoError(t, err)
	still, err := in.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "still\n", still)
	require.NoError(t, conn.Close())
	require.NoError(t, <-f.ended)
	f.ended <- nil
}

// A route that begins to refer to another namespace is served once that has been read; until then the table
// before it answers. The wait for a namespace that may not be read is short.
func TestProxyServiceHoldsATable(t *testing.T) {
	api := serviceAPI(t)
	f := newInFront(t, api, 0)
	origin := wellknown.OriginName("httpbin")
	f.service(t, "httpbin")
	f.service(t, origin)
	f.pods(t, origin, webserver(t, "v1"), greeter(t))
	f.route(t, "httpbin")
	f.ready(t, http.StatusOK)
	f.becomes(t, "routed: v1")
	const elsewhere = "/api/v1/namespaces/elsewhere/"
	api.Refuse(elsewhere, http.StatusForbidden)
	api.Put(t, []byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant", "metadata": {"namespace": "elsewhere", "name": "shop"}, "spec": {
		"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}], "to": [{"group": "", "kind": "Service"}]}}`))
	api.Put(t, []byte(`{"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "elsewhere", "name": "v2"}, "spec": {"clusterIP": "10.0.0.2", "selector": {"app": "x"}, "ports": [{"name": "http", "port": 8000}]}}`))
	api.Put(t, fmt.Appendf(nil, `{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"namespace": "elsewhere", "name": "v2-a", "labels": {"kubernetes.io/service-name": "v2"}},
		"addressType": "IPv4", "ports": [{"name": "http", "port": %d}], "endpoints": [{"addresses": ["127.0.0.1"]}]}`, port(t, webserver(t, "v2"))))
	f.route(t, `v2", "namespace": "elsewhere`)
	require.Never(t, func() bool { return f.ask(t.Context()) != "routed: v1" }, 300*time.Millisecond, time.Millisecond)
	api.Refuse(elsewhere, 0)
	var wrong []string
	require.Eventually(t, func() bool {
		got := f.ask(t.Context())
		if got != "routed: v1" && got != "routed: v2" {
			wrong = append(wrong, got)
		}
		return got == "routed: v2"
	}, 20*time.Second, time.Millisecond)
	assert.Empty(t, wrong)

	f.route(t, `v3", "namespace": "nowhere`)
	f.becomes(t, "routed: mirrorgate: no such backend\n")
}

// Clients that keep their connections are asked to connect anew while the Service leads past its proxies.
func TestProxyServiceInBypass(t *testing.T) {
	api := serviceAPI(t)
	f := newInFront(t, api, 0)
	origin := wellknown.OriginName("httpbin")
	f.service(t, origin)
	f.service(t, "httpbin")
	f.pods(t, origin, webserver(t, "v1"), greeter(t))
	f.route(t, "httpbin")
	f.ready(t, http.StatusOK)
	f.becomes(t, "routed: v1")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	dismissed := func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", f.web), http.NoBody)
		require.NoError(t, err)
		response, err := client.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		return response.Close
	}
	for _, app := range []string{"httpbin-v1", wellknown.Sentinel("httpbin"), "httpbin-v1"} {
		f.selecting(t, "httpbin", app)
		bypass := app == "httpbin-v1"
		require.Eventually(t, func() bool { return dismissed() == bypass }, 20*time.Second, 5*time.Millisecond, app)
	}
	assert.Equal(t, http.StatusOK, f.readyz(t.Context()))
}

// A proxy that starts while the API server is away waits, unready, and serves when it is back.
func TestProxyServiceStartsInAnOutage(t *testing.T) {
	api := serviceAPI(t)
	api.Away()
	f := newInFront(t, api, 0)
	f.ready(t, http.StatusServiceUnavailable)
	f.service(t, "httpbin")
	f.service(t, wellknown.OriginName("httpbin"))
	f.pods(t, wellknown.OriginName("httpbin"), webserver(t, "v1"), greeter(t))
	require.Never(t, func() bool { return f.readyz(t.Context()) == http.StatusOK }, 300*time.Millisecond, 20*time.Millisecond)
	api.Refuse("/", 0)
	f.ready(t, http.StatusOK)
	f.becomes(t, "v1")
}

// An address that is taken keeps the proxy from being ready, until it is free.
func TestProxyServiceWaitsForItsPort(t *testing.T) {
	api := serviceAPI(t)
	f := newInFront(t, api, 0)
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", f.web))
	require.NoError(t, err)
	f.service(t, wellknown.OriginName("httpbin"))
	f.pods(t, wellknown.OriginName("httpbin"), webserver(t, "v1"), greeter(t))
	f.service(t, "httpbin")
	require.Never(t, func() bool { return f.readyz(t.Context()) == http.StatusOK }, 500*time.Millisecond, 20*time.Millisecond)
	require.NoError(t, l.Close())
	f.ready(t, http.StatusOK)
	f.becomes(t, "v1")
}
