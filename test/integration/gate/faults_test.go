package gate

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// scale sets the replicas of httpbin-v2.
func scale(t *testing.T, ns string, replicas string) {
	t.Helper()
	kubectl(t, ns, "scale", "deployment", "httpbin-v2", "--replicas="+replicas)
}

// prepare makes active routes of every kind.
func prepare(t *testing.T, ns string) {
	t.Helper()
	apply(t, ns, harness.Workload("httpbin-v2"), destinationRule("version", "httpbin-v2"), routesOfEveryKind())
	wait(t, ns, "active", everyKind...)
}

// alive requires that a process keeps running and is ready.
func alive(t *testing.T, server *harness.Server) {
	t.Helper()
	harness.Eventually(t, func() bool {
		status, _ := harness.Fetch(t, server.HealthURL+"/readyz")
		return status == http.StatusOK
	}, "the process does not become ready again")
}

func TestFlipsResumeAfterAnOutageOfTheAPIServer(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	prepare(t, ns)
	server.Signal(t, syscall.SIGSTOP) // so that it receives no event before the API server is gone
	scale(t, ns, "0")
	require.NoError(t, env.StopAPIServer())
	server.Signal(t, syscall.SIGCONT)

	late := env.Launch(t)
	harness.Eventually(t, func() bool {
		status, _ := harness.Fetch(t, late.HealthURL+"/healthz")
		return status == http.StatusOK
	}, "a process that starts during the outage does not keep running")
	status, body := harness.Fetch(t, late.HealthURL+"/readyz")
	require.GreaterOrEqual(t, status, 500, "it is not ready before its caches are filled")
	require.Contains(t, body, "[-]caches failed")
	require.NotContains(t, late.Log(), "Webhooks registered")
	status, _ = harness.Fetch(t, server.HealthURL+"/readyz")
	require.Equal(t, http.StatusOK, status, "the running process stays ready: it can still answer")

	require.NoError(t, env.StartAPIServer(t.Context()))
	within(t, time.Minute, ns, "parked", everyKind...)
	late.WaitReady(t)
	alive(t, late)
	alive(t, server)
	late.Stop(t)

	require.NoError(t, env.RestartAPIServer(t.Context()))
	scale(t, ns, "1")
	within(t, time.Minute, ns, "active", everyKind...)
	alive(t, server)
}

func TestFlipsResumeAfterEtcdHung(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	prepare(t, ns)
	resume := env.PauseEtcd(7 * time.Second)
	defer resume()
	scale(t, ns, "0") // hangs until etcd continues
	wait(t, ns, "parked", everyKind...)
	alive(t, server)
	scale(t, ns, "1")
	wait(t, ns, "active", everyKind...)
}

func TestFrozenProcess(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t, "--failure-policy", "Ignore")
	prepare(t, ns)
	server.Signal(t, syscall.SIGSTOP)
	thaw := func() { server.Signal(t, syscall.SIGCONT) }
	defer thaw()

	start := time.Now()
	require.NoError(t, create(t, ns, gatewayRoute(ref{"HTTPRoute", "meanwhile"}, "httpbin-v3", "")))
	took := time.Since(start)
	require.Less(t, took, 10*time.Second+control(t, ns), "2 s for the mutating, 3 s for the validating webhook")
	require.Greater(t, took, 4*time.Second)
	require.Equal(t, []string{"meanwhile:httpbin-v3=active"}, states(t, ns, ref{"HTTPRoute", "meanwhile"}))
	start = time.Now()
	kubectl(t, ns, "label", "httproute", "http", "a=b")
	took = time.Since(start)
	require.Less(t, took, 2*time.Second+control(t, ns), "no webhook is called for a label")
	scale(t, ns, "0")

	thaw()
	wait(t, ns, "parked", append(everyKind, ref{"HTTPRoute", "meanwhile"})...)
	alive(t, server)
}

func TestFrozenProcessUnderFailurePolicyFail(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	server.Signal(t, syscall.SIGSTOP)
	defer server.Signal(t, syscall.SIGCONT)
	err := create(t, ns, gatewayRoute(httpRoute, "httpbin-v3", ""))
	require.ErrorContains(t, err, `failed calling webhook "gateway.validate.mirrorgate.dev"`)
	require.ErrorContains(t, err, "context deadline exceeded")
}

// TestStaleCaches holds back the events of all watches.
func TestStaleCaches(t *testing.T) {
	ns := env.Namespace(t)
	p := newProxy(t)
	server := env.Serve(t, "--kubeconfig", p.Kubeconfig)
	apply(t, ns, gatewayRoute(ref{"HTTPRoute", "before"}, "httpbin-v2", ""))
	wait(t, ns, "parked", ref{"HTTPRoute", "before"})

	p.Freeze()
	apply(t, ns, harness.Workload("httpbin-v2"), destinationRule("version", "httpbin-v2"))
	kubectl(t, ns, "wait", "deployment/httpbin-v2", "--for=condition=Available", "--timeout=30s")
	harness.Eventually(t, func() bool {
		return strings.Contains(kubectl(t, ns, "get", "endpointslices", "-o", "jsonpath={.items[*].endpoints[*].conditions.ready}"), "true")
	}, "no endpoint is ready")
	for _, manifest := range []string{
		gatewayRoute(httpRoute, "httpbin-v2", ""), gatewayRoute(grpcRoute, "httpbin-v2", ""),
		virtualService("vs", "httpbin-v2", ""), virtualService("subset", "httpbin-v2", "v2"),
	} {
		require.Empty(t, warned(t, ns, manifest), "a live read finds objects that the caches do not have yet")
	}
	require.Len(t, states(t, ns, everyKind...), 4)
	wait(t, ns, "active", everyKind...)
	require.Equal(t, []string{"before:httpbin-v2=parked"}, states(t, ns, ref{"HTTPRoute", "before"}), "the controller has not received the event")
	p.Thaw()
	wait(t, ns, "active", ref{"HTTPRoute", "before"})

	p.Freeze()
	remove(t, ns, "service", "httpbin-v2")
	require.Empty(t, warned(t, ns, gatewayRoute(ref{"HTTPRoute", "after"}, "httpbin-v2", "")), "an object in the cache counts as present")
	p.Thaw()
	wait(t, ns, "parked", append(everyKind, ref{"HTTPRoute", "before"}, ref{"HTTPRoute", "after"})...)
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
}

func TestRefusedTouchIsRetried(t *testing.T) {
	ns := env.Namespace(t)
	p := newProxy(t)
	server := env.Serve(t, "--kubeconfig", p.Kubeconfig, "--resync", "5s")
	prepare(t, ns)

	var left atomic.Int64
	refuseWith := func(code int32, reason metav1.StatusReason, times int64) {
		left.Store(times)
		p.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !isTouch(r, ns) || left.Add(-1) < 0 {
				return false
			}
			refuse(t, w, code, reason)
			return true
		})
	}
	refuseWith(http.StatusConflict, metav1.StatusReasonConflict, 8)
	scale(t, ns, "0")
	wait(t, ns, "parked", everyKind...)
	require.InDelta(t, 8, server.Metric(t, "mirrorgate_touches_total", `result="conflict"`), 0)

	refuseWith(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, 8)
	scale(t, ns, "1")
	wait(t, ns, "active", everyKind...)
	require.InDelta(t, 8, server.Metric(t, "mirrorgate_touches_total", `result="error"`), 0)

	refuseWith(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, 4)
	scale(t, ns, "0")
	wait(t, ns, "parked", everyKind...) // the resync comes before the slow retry
	require.GreaterOrEqual(t, server.Metric(t, "mirrorgate_touches_total", `result="refused"`), 4.0)
	harness.Eventually(t, func() bool { return len(told(t, ns, httpRoute, "FlipRefused")) > 0 }, "no Event")
	require.Equal(t, "mirrors cannot be moved: refused by a test", told(t, ns, httpRoute, "FlipRefused")[0])
}

// TestLiveReadThatHangs keeps the caches up to date while live reads hang, as they do when the API server is
// overloaded.
func TestLiveReadThatHangs(t *testing.T) {
	ns := env.Namespace(t)
	p := newProxy(t)
	server := env.Serve(t, "--kubeconfig", p.Kubeconfig)
	p.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/namespaces/"+ns+"/services/") {
			return false
		}
		hang(r)
		return true
	})
	start := time.Now()
	said := warned(t, ns, virtualService("vs", "httpbin-v2", ""))
	took := time.Since(start)
	require.Less(t, took, 4*time.Second+control(t, ns), "the write does not wait for the webhooks' timeouts")
	require.Contains(t, strings.Join(said, "\n"), "mirror to httpbin-v2 stays")
	require.Equal(t, []string{"vs:httpbin-v2=active"}, states(t, ns, virtual), "as written: its absence is not confirmed")
	require.GreaterOrEqual(t, server.Metric(t, "mirrorgate_internal_errors_total"), 1.0)
	p.Intercept(nil)
	wait(t, ns, "parked", virtual)
}

// TestRequestBeforeTheCachesAreFilledIsLetThrough runs mirrorgate as in a cluster, with certificates from a
// folder and a registration that the test made.
func TestRequestBeforeTheCachesAreFilledIsLetThrough(t *testing.T) {
	ns := env.Namespace(t)
	p := newProxy(t)
	var hold atomic.Bool
	hold.Store(true)
	p.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		for hold.Load() && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/services") {
			select {
			case <-r.Context().Done():
				return true
			case <-time.After(50 * time.Millisecond):
			}
		}
		return false
	})
	dir, bundle := certificate(t)
	server := env.Launch(t, "--kubeconfig", p.Kubeconfig, "--webhook-url", "", "--cert-dir", dir)
	register(t, server, bundle)
	harness.Eventually(t, func() bool {
		_, body := harness.Fetch(t, server.HealthURL+"/readyz")
		return strings.Contains(body, "[+]webhook ok") && strings.Contains(body, "[-]caches failed")
	}, "the webhook server does not start before the caches are filled")

	said := warned(t, ns, gatewayRoute(httpRoute, "httpbin-v2", ""))
	require.Contains(t, strings.Join(said, "\n"), "mirrorgate could not decide")
	require.Equal(t, []string{"http:httpbin-v2=active"}, states(t, ns, httpRoute))
	require.InDelta(t, 1, server.Metric(t, "mirrorgate_internal_errors_total", `stage="mutate"`), 0)
	require.InDelta(t, 1, server.Metric(t, "mirrorgate_internal_errors_total", `stage="validate"`), 0)

	hold.Store(false)
	wait(t, ns, "parked", httpRoute)
	alive(t, server)
}

// certificate writes a key pair for 127.0.0.1 and returns its folder and CA.
func certificate(t *testing.T) (dir string, bundle []byte) {
	t.Helper()
	dir = t.TempDir()
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), crt, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	return dir, crt // the certificate is its own CA
}
