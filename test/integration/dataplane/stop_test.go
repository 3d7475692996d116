package dataplane

// Stops, from a real proxy's copies to a parked mirror: an API server, mirrorgate with its leader and its port of reports,
// a proxy as a process, and variants that really fail. Pods do not run here, so that variants are servers of the test, at an
// address of this machine.

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/internal/report"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/test/cluster/debian"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// backend is a server that answers with a status of the test's choice.
type backend struct {
	ip       string
	port     int
	status   atomic.Int32
	requests atomic.Int64
	// host is the last one that was asked for, and cookie the last cookie.
	host, cookie atomic.Value
}

// newBackend serves at an address of this machine that an EndpointSlice may have.
func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{}
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			b.ip = n.IP.String()
		}
	}
	require.NotEmpty(t, b.ip, "this machine has no address beside those of the loopback")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", b.ip+":0")
	require.NoError(t, err)
	b.port = listener.Addr().(*net.TCPAddr).Port
	b.status.Store(http.StatusOK)
	b.host.Store("")
	b.cookie.Store("")
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		b.host.Store(r.Host)
		b.cookie.Store(r.Header.Get("Cookie"))
		w.WriteHeader(int(b.status.Load()))
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return b
}

// slice is an EndpointSlice that leads to the backend.
func (b *backend) slice(service string) string {
	return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s-test, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
ports: [{name: http, port: %d, protocol: TCP}]
endpoints: [{addresses: [%s], conditions: {ready: true}}]
---
`, service, service, b.port, b.ip)
}

const variantService = `
apiVersion: v1
kind: Service
metadata: {name: v2}
spec: {ports: [{name: http, port: 80}]}
---
`

// stopScene is a Service with a proxy in front of it, whose requests are copied to a variant.
type stopScene struct {
	ns               string
	proxy            *proxyProcess
	primary, variant *backend
}

func newStopScene(t *testing.T, more ...string) *stopScene {
	t.Helper()
	env.InstallPolicyKinds(t)
	env.MustKubectl(t, rights, "apply", "-f", "-")
	env.Serve(t, append([]string{"--no-mesh", "--routes=gateway-api", "--proxy-image=mirrorgate:test", "--resync=10s"}, more...)...)
	s := &stopScene{ns: env.Namespace(t), primary: newBackend(t), variant: newBackend(t)}
	env.MustKubectl(t, roleBinding, "-n", s.ns, "apply", "-f", "-")
	env.MustKubectl(t, "", "-n", s.ns, "create", "serviceaccount", "of-the-test")
	web := freePort(t)
	env.MustKubectl(t, variantService+s.variant.slice("v2")+fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: httpbin, labels: {mirrorgate.dev/proxy: enabled}}
spec: {selector: {app: httpbin}, ports: [{name: http, port: 8000, targetPort: %d}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin, port: 8000}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]
    backendRefs: [{name: httpbin, port: 8000}]
`, web), "-n", s.ns, "apply", "-f", "-")
	origin := wellknown.OriginName("httpbin")
	for _, created := range []string{"service/" + origin, "serviceaccount/" + wellknown.ProxyAccount} { // of several at once kubectl awaits none
		env.MustKubectl(t, "", "-n", s.ns, "wait", "--for=create", "--timeout="+harness.Wait.String(), created)
	}
	assert.Contains(t, env.MustKubectl(t, "", "-n", s.ns, "get", "service", origin, "-o=jsonpath={.metadata.annotations}"), "BEGIN CERTIFICATE")
	env.MustKubectl(t, s.primary.slice(origin), "-n", s.ns, "apply", "-f", "-")
	token := filepath.Join(t.TempDir(), "token")
	text := env.MustKubectl(t, "", "-n", s.ns, "create", "token", "mirrorgate-proxy", "--audience="+report.Audience)
	require.NoError(t, os.WriteFile(token, []byte(text), 0o600))
	s.proxy = startProxy(t, s.ns, "--report-token", token)
	s.proxy.web = web
	harness.Eventually(t, func() bool { return s.proxy.readyz(t) == http.StatusOK }, "the proxy does not become ready")
	return s
}

func (s *stopScene) policy(t *testing.T, spec string) {
	t.Helper()
	env.MustKubectl(t, fmt.Sprintf(`
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: {name: web}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: httpbin}]
  %s
`, strings.ReplaceAll(spec, "\n", "\n  ")), "-n", s.ns, "apply", "-f", "-")
}

func (s *stopScene) target(t *testing.T) (status v1alpha1.TargetStatus) {
	t.Helper()
	var p v1alpha1.MirrorPolicy
	require.NoError(t, json.Unmarshal([]byte(env.MustKubectl(t, "", "-n", s.ns, "get", "mirrorpolicy", "web", "-o=json")), &p))
	if len(p.Status.Targets) > 0 {
		status = p.Status.Targets[0]
	}
	return status
}

// load sends requests until the end of the test.
func (s *stopScene) load(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			s.proxy.ask(ctx)
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
}

func (s *stopScene) copies(t *testing.T, want bool) {
	t.Helper()
	harness.Eventually(t, func() bool {
		before := s.variant.requests.Load()
		time.Sleep(500 * time.Millisecond) //nolint:forbidigo // requests that come all the time
		return s.variant.requests.Load() > before == want
	}, "the variant gets copies: want %t", want)
}

func (s *stopScene) stops(t *testing.T) *v1alpha1.Stopped {
	t.Helper()
	var stopped *v1alpha1.Stopped
	harness.Eventually(t, func() bool { stopped = s.target(t).Stopped; return stopped != nil }, "the mirror is not stopped")
	env.WaitState(t, s.ns, "httproute", "httpbin", "v2=parked")
	s.copies(t, false)
	return stopped
}

func (s *stopScene) resume(t *testing.T, stopped *v1alpha1.Stopped) {
	t.Helper()
	env.MustKubectl(t, "", "-n", s.ns, "annotate", "--overwrite", "mirrorpolicy", "web", v1alpha1.AnnotationResume+"="+stopped.Time.UTC().Format(time.RFC3339))
	env.WaitState(t, s.ns, "httproute", "httpbin", "v2=active")
	s.copies(t, true)
}

// A variant that really fails is stopped by what a real proxy reports, stays stopped, and is resumed by name; the client
// notices nothing. Then copy settings reach that proxy.
func TestFailuresOfAVariantStopItsMirror(t *testing.T) {
	s := newStopScene(t)
	s.load(t)
	s.copies(t, true)
	s.policy(t, "stop: {errorPercent: 20, over: 10s, minRequests: 20}")
	condition := func(want string) {
		t.Helper()
		harness.Eventually(t, func() bool {
			for _, c := range s.target(t).Conditions {
				if c.Type == v1alpha1.ConditionProgrammed {
					return string(c.Status) == want
				}
			}
			return false
		}, "Programmed does not become %s", want)
	}
	condition("True")
	assert.Nil(t, s.target(t).Stopped)
	s.variant.status.Store(http.StatusInternalServerError)
	stopped := s.stops(t)
	assert.Equal(t, v1alpha1.StopErrorPercent, stopped.Reason)
	assert.Regexp(t, `^\d+ of \d+ copies failed within 10s, .* % where 20 % are allowed \(\d+ 5xx\)$`, stopped.Message)
	assert.Equal(t, "200", s.proxy.ask(t.Context()), "the primary answers")
	harness.Eventually(t, func() bool {
		return strings.Contains(env.MustKubectl(t, "", "-n", s.ns, "get", "events.events.k8s.io", "-o=jsonpath={.items[*].reason}"), "MirrorsStopped")
	}, "no Event")
	s.variant.status.Store(http.StatusOK)
	s.copies(t, false)
	assert.Equal(t, stopped.Time.Unix(), s.target(t).Stopped.Time.Unix(), "nothing but a person resumes it")
	s.resume(t, stopped)

	env.MustKubectl(t, "", "-n", s.ns, "annotate", "mirrorpolicy", "web", v1alpha1.AnnotationStop+"=incident 42")
	assert.Equal(t, "incident 42", s.stops(t).Message)
	env.MustKubectl(t, "", "-n", s.ns, "annotate", "mirrorpolicy", "web", v1alpha1.AnnotationStop+"-")
	env.WaitState(t, s.ns, "httproute", "httpbin", "v2=active")

	s.policy(t, "copy: {hostSuffix: false, maxPerSecond: 5, headers: {set: [{name: cookie, value: none}]}}")
	harness.Eventually(t, func() bool {
		return !strings.Contains(s.variant.host.Load().(string), "-shadow") && s.variant.cookie.Load() == "none"
	}, "the settings do not reach the proxy")
	condition("True")
	harness.Eventually(t, func() bool {
		_, text := harness.Fetch(t, "http://"+s.proxy.admin+"/metrics")
		return !strings.Contains(text, `reason="rate"} 0`) && strings.Contains(text, `reason="rate"`)
	}, "no copy is too many")
	s.policy(t, "copy: {methods: [POST]}")
	s.copies(t, false)
}

// A query of a real Prometheus, which scrapes a real proxy, stops a mirror.
func TestAQueryOfPrometheusStopsAMirror(t *testing.T) {
	require.NoError(t, debian.Need(t.Context(), "prometheus", "prometheus"))
	listen, err := freeport.Address()
	require.NoError(t, err)
	address := listen.String()
	config := filepath.Join(t.TempDir(), "serve.yaml")
	require.NoError(t, os.WriteFile(config, []byte("prometheus: {address: \"http://"+address+"\"}\n"), 0o600))
	s := newStopScene(t, "--config", config)
	startPrometheus(t, address, s.proxy.admin)
	s.load(t)
	s.copies(t, true)
	const failures = `stop: {query: {expr: 'sum(rate(mirrorgate_proxy_shadows_sent_total{code=~"5.."}[10s])) or vector(0)', above: 0.5}}`
	s.policy(t, failures)
	harness.Eventually(t, func() bool { return s.target(t).ActiveSince != nil }, "the policy has no status")
	s.variant.status.Store(http.StatusServiceUnavailable)
	stopped := s.stops(t)
	assert.Equal(t, v1alpha1.StopQueried, stopped.Reason)
	assert.Regexp(t, `^the query yields [0-9.]+, more than 0.5$`, stopped.Message)
	s.variant.status.Store(http.StatusOK)
	harness.Eventually(t, func() bool {
		status, text := harness.Fetch(t, "http://"+address+`/api/v1/query?query=sum(rate(mirrorgate_proxy_shadows_sent_total{code%3D~%225..%22}[10s]))%20or%20vector(0)`)
		return status == http.StatusOK && strings.Contains(text, `"0"]`)
	}, "the failures do not end")
	s.resume(t, stopped)

	s.policy(t, `stop: {query: {expr: 'up{', above: 0.5}}`)
	harness.Eventually(t, func() bool {
		for _, c := range s.target(t).Conditions {
			if c.Type == v1alpha1.ConditionProgrammed && strings.Contains(c.Message, "bad_data") {
				return true
			}
		}
		return false
	}, "nobody hears that the query is wrong")
}

// startPrometheus runs Debian's Prometheus, which scrapes a proxy every second.
func startPrometheus(t *testing.T, address, target string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
global: {scrape_interval: 1s}
scrape_configs: [{job_name: proxy, static_configs: [{targets: [%q]}]}]
`, target), 0o600))
	log := &safeBuffer{}
	cmd := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address) //nolint:noctx // it is ended below
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // whatever it says
		if t.Failed() {
			t.Log(log)
		}
	})
	harness.Eventually(t, func() bool {
		response, err := http.Get("http://" + address + "/-/ready") //nolint:noctx // the test's own address
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, "Prometheus does not start")
}
