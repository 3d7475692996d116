package gate

import (
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// registered returns both webhook configurations of a name; one that does not exist is empty.
func registered(t *testing.T, name string) (m admissionregistrationv1.MutatingWebhookConfiguration, v admissionregistrationv1.ValidatingWebhookConfiguration) {
	t.Helper()
	for resource, into := range map[string]any{"mutatingwebhookconfiguration": &m, "validatingwebhookconfiguration": &v} {
		if text := env.MustKubectl(t, "", "get", resource, name, "-o", "json", "--ignore-not-found"); text != "" {
			require.NoError(t, json.Unmarshal([]byte(text), into))
		}
	}
	return m, v
}

func TestRegistrationLivesAsLongAsTheProcess(t *testing.T) {
	server := env.Serve(t)
	name := server.Registration(t)
	m, v := registered(t, name)
	require.Len(t, m.Webhooks, 2)
	require.Len(t, v.Webhooks, 2)
	for _, labels := range []map[string]string{m.Labels, v.Labels} {
		require.Equal(t, "mirrorgate", labels["app.kubernetes.io/name"], "scripts such as the demo find the configurations by this label")
	}
	require.Equal(t, admissionregistrationv1.Ignore, *m.Webhooks[0].FailurePolicy)
	require.Equal(t, admissionregistrationv1.Fail, *v.Webhooks[0].FailurePolicy)
	require.Equal(t, server.URL+"/mutate", *m.Webhooks[0].ClientConfig.URL)
	require.Equal(t, server.URL+"/validate", *v.Webhooks[1].ClientConfig.URL)

	server.Stop(t)
	m, v = registered(t, name)
	require.Empty(t, m.Name+v.Name, "SIGTERM removes both")
}

// The process is started twice by mistake: the second one exits and leaves the first one's registration.
func TestSecondProcessWithTheSameURLLeavesTheRegistrationAlone(t *testing.T) {
	first := env.Serve(t)
	second := exec.CommandContext(t.Context(), env.Binary, "serve", "--kubeconfig", env.Kubeconfig, "--webhook-url", first.URL,
		"--webhook-bind", strings.TrimPrefix(first.URL, "https://"), "--metrics-bind", "0", "--health-bind", "0")
	out, err := second.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "address already in use")
	m, v := registered(t, first.Registration(t))
	require.NotEmpty(t, m.Name)
	require.NotEmpty(t, v.Name)
}

func TestRegistrationThatWasLeftBehindIsReplaced(t *testing.T) {
	ns := env.Namespace(t)
	dead := env.Serve(t)
	name := dead.Registration(t)
	env.Crash(t, dead)
	left, _ := registered(t, name)
	require.NotEmpty(t, left.Name, "SIGKILL leaves it behind")

	server := env.Launch(t, "--webhook-url", dead.URL, "--webhook-bind", strings.TrimPrefix(dead.URL, "https://"), "--failure-policy", "Ignore")
	server.WaitReady(t)
	m, v := registered(t, name)
	require.NotEqual(t, left.UID, m.UID, "removed before the proof, so that the dead process's webhooks delay no write")
	require.NotEqual(t, left.Webhooks[0].ClientConfig.CABundle, m.Webhooks[0].ClientConfig.CABundle)
	require.Equal(t, admissionregistrationv1.Ignore, *v.Webhooks[0].FailurePolicy)
	all := env.MustKubectl(t, "", "get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "name")
	require.Len(t, strings.Fields(all), 2, all)
	require.NoError(t, create(t, ns, gatewayRoute(httpRoute, "httpbin-v2", "")))
	require.Equal(t, []string{"http:httpbin-v2=parked"}, states(t, ns, httpRoute))
	server.Stop(t)
	m, v = registered(t, name)
	require.Empty(t, m.Name+v.Name)
}

func TestHealthAndMetrics(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	for _, path := range []string{"/healthz", "/readyz", "/readyz/certificate", "/readyz/caches", "/readyz/webhook"} {
		status, body := harness.Fetch(t, server.HealthURL+path)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
	}
	apply(t, ns, routesOfEveryKind(), destinationRule("version", "httpbin-v2"))
	harness.Eventually(t, func() bool {
		return server.Metric(t, "mirrorgate_mirrors", `kind="VirtualService"`, `state="parked"`) >= 2
	}, "the metric does not count parked mirrors")
	apply(t, ns, harness.Workload("httpbin-v2"))
	wait(t, ns, "active", everyKind...)
	harness.Eventually(t, func() bool {
		return server.Metric(t, "mirrorgate_mirrors", `kind="HTTPRoute"`, `state="active"`) >= 1
	}, "the metric does not count active mirrors")
	_, body := harness.Fetch(t, server.MetricsURL+"/metrics")
	for _, kind := range []string{"services", "deployments", "pods", "endpointslices", "httproutes", "virtualservices", "destinationrules",
		"referencegrants", "rollouts", "gateways", "gateways.networking.istio.io", "gatewayclasses", "customresourcedefinitions"} {
		require.Contains(t, body, `mirrorgate_cache_synced{kind="`+kind+`"} 1`)
	}
	require.GreaterOrEqual(t, server.Metric(t, "mirrorgate_touches_total", `result="flipped"`), 4.0)
	require.GreaterOrEqual(t, server.Metric(t, "mirrorgate_flip_duration_seconds_count", `action="restore"`), 4.0)
	require.GreaterOrEqual(t, server.Metric(t, "mirrorgate_decisions_total", `action="park"`, `kind="GRPCRoute"`, `operation="create"`,
		`reason="ServiceNotFound"`, `dry_run="false"`), 1.0)
	require.GreaterOrEqual(t, server.Metric(t, "mirrorgate_cache_objects", `kind="Service"`), 1.0)
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
	require.NotContains(t, body, ns, "no label contains a name")

	dryRuns := func() float64 {
		return server.Metric(t, "mirrorgate_decisions_total", `dry_run="true"`, `action="park"`)
	}
	before := dryRuns()
	_, _, err := env.Try(t, gatewayRoute(ref{"HTTPRoute", "dry"}, "httpbin-v3", ""), "-n", ns, "apply", "--dry-run=server", "-f", "-")
	require.NoError(t, err)
	require.InDelta(t, before+1, dryRuns(), 0)
}

// TestRoutesInNamespacesThatOptOutAreLeftAlone has routes that would be parked, in namespaces for which the
// webhooks are not called.
func TestRoutesInNamespacesThatOptOutAreLeftAlone(t *testing.T) {
	ns, other := env.Namespace(t), env.Namespace(t)
	kubectl(t, ns, "label", "namespace", ns, "mirrorgate.dev/admission=disabled")
	server := env.Serve(t, "--resync", "1s")
	for _, r := range []ref{httpRoute, grpcRoute} {
		require.NoError(t, create(t, ns, gatewayRoute(r, "httpbin-v2", "")))
	}
	require.NoError(t, create(t, ns, virtualService("vs", "httpbin-v2", "")))
	require.NoError(t, create(t, "kube-system", gatewayRoute(httpRoute, "httpbin-v2", "")))
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), "", "-n", "kube-system", "delete", "httproute", "http")
		require.NoError(t, err)
	})
	before := get(t, ns, httpRoute)
	// When a route in another namespace has been parked and restored, these have been processed too.
	apply(t, other, gatewayRoute(httpRoute, "httpbin-v2", ""), harness.Workload("httpbin-v2"))
	wait(t, other, "active", httpRoute)
	remove(t, other, "service", "httpbin-v2")
	wait(t, other, "parked", httpRoute)
	stays(t, 3*time.Second, ns, "active", httpRoute, grpcRoute, virtual)
	require.Equal(t, before, get(t, ns, httpRoute), "the route must not even be touched")
	require.Empty(t, told(t, ns, httpRoute, "FlipDelayed"))
	require.Zero(t, server.Metric(t, "mirrorgate_touches_total", `result="not_carried"`))
	require.Empty(t, get(t, "kube-system", httpRoute).GetAnnotations())

	kubectl(t, ns, "label", "namespace", ns, "mirrorgate.dev/admission-")
	// This happens at a resync, once the cached answer about the namespace has expired.
	within(t, time.Minute, ns, "parked", httpRoute, grpcRoute, virtual)
}

// TestFlipThatAdmissionDoesNotMakeIsReportedAndRetried removes the mutating webhook while the controller
// runs.
func TestFlipThatAdmissionDoesNotMakeIsReportedAndRetried(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	apply(t, ns, harness.Workload("httpbin-v2"), gatewayRoute(httpRoute, "httpbin-v2", ""))
	wait(t, ns, "active", httpRoute)
	m, _ := registered(t, server.Registration(t))
	env.MustKubectl(t, "", "delete", "mutatingwebhookconfiguration", m.Name)
	remove(t, ns, "service", "httpbin-v2")
	harness.Eventually(t, func() bool { return len(told(t, ns, httpRoute, "FlipDelayed")) > 0 }, "no Event")
	require.Equal(t, []string{"mirrors wait to be moved (ServiceNotFound): is the mutating webhook reachable?"}, told(t, ns, httpRoute, "FlipDelayed"))
	require.GreaterOrEqual(t, server.Metric(t, "mirrorgate_touches_total", `result="not_carried"`), 5.0)
	require.Equal(t, []string{"http:httpbin-v2=active"}, states(t, ns, httpRoute))

	m.ResourceVersion, m.UID = "", ""
	text, err := json.Marshal(m)
	require.NoError(t, err)
	env.MustKubectl(t, string(text), "create", "-f", "-")
	wait(t, ns, "parked", httpRoute)
}
