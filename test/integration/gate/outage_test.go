package gate

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// patch sends a JSON patch to a route, or a merge patch when it is an object.
func patch(t *testing.T, ns string, r ref, text string) error {
	t.Helper()
	kind := types.JSONPatchType
	if strings.HasPrefix(text, "{") {
		kind = types.MergePatchType
	}
	return env.Client(t).Patch(t.Context(), r.empty(ns), client.RawPatch(kind, []byte(text)))
}

// named returns the routes of everyKind under other names.
func named(suffix string) []ref {
	var out []ref
	for _, r := range everyKind {
		out = append(out, ref{r.kind, r.name + suffix})
	}
	return out
}

// takeMirrors removes all filters from a route's first rule and keeps the backends, as a user does to stop
// mirroring immediately.
func takeMirrors(r ref) string {
	if r.kind == "VirtualService" {
		return `[{"op":"replace","path":"/spec/http/0","value":{"route":[{"destination":{"host":"httpbin-v1"}}]}}]`
	}
	return `[{"op":"remove","path":"/spec/rules/0/filters"}]`
}

// without returns mirrored manifests as routes without mirrors.
func without(t *testing.T, manifests string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for text := range strings.SplitSeq(manifests, "\n---\n") {
		u := object(t, text)
		u.SetName("plain-" + u.GetName())
		for _, field := range []string{"rules", "http"} {
			rules, found, err := unstructured.NestedSlice(u.Object, "spec", field)
			require.NoError(t, err)
			if !found {
				continue
			}
			rule := rules[0].(map[string]any)
			for _, key := range []string{"filters", "mirror", "mirrorPercentage"} {
				delete(rule, key)
			}
			require.NoError(t, unstructured.SetNestedSlice(u.Object, rules, "spec", field))
		}
		out = append(out, u)
	}
	return out
}

func TestWithTheWebhookDown(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	parked := named("-parked")
	text := routesOfEveryKind()
	apply(t, ns, text, destinationRule("version", "httpbin-v2"))
	absent := strings.NewReplacer("httpbin-v2", "httpbin-v3", "name: http}", "name: http-parked}", "name: grpc}", "name: grpc-parked}",
		"name: vs}", "name: vs-parked}", "name: subset}", "name: subset-parked}").Replace(text)
	apply(t, ns, absent)
	wait(t, ns, "parked", append(parked, everyKind...)...)
	apply(t, ns, harness.Workload("httpbin-v2"))
	wait(t, ns, "active", everyKind...)
	require.NotEmpty(t, get(t, ns, httpRoute).GetAnnotations()["mirrorgate.dev/variants"], "mirrorgate's annotation stays on a route that was touched")
	env.Crash(t, server)

	t.Run("a route without a mirror, and a write that leaves mirrors alone, is stored as written", func(t *testing.T) {
		for _, plain := range without(t, text) {
			plain.SetNamespace(ns)
			require.NoError(t, env.Client(t).Create(t.Context(), plain))
			require.Empty(t, plain.GetAnnotations())
			require.NotContains(t, fmt.Sprint(plain.Object["spec"]), "mirror")
			plain.SetLabels(map[string]string{"a": "b"})
			require.NoError(t, unstructured.SetNestedStringSlice(plain.Object, []string{"other.example.com"}, "spec", "hostnames"))
			require.NoError(t, env.Client(t).Update(t.Context(), plain))
			require.NoError(t, env.Client(t).Delete(t.Context(), plain))
		}
		for _, r := range append(parked, everyKind...) {
			before := get(t, ns, r).Object["spec"]
			for _, change := range []string{
				`{"metadata":{"labels":{"a":"b"}}}`,
				`{"metadata":{"annotations":{"example.com/a":"b","mirrorgate.dev/variants":null}}}`,
				`{"metadata":{"annotations":{"mirrorgate.dev/variants":"httpbin-v2=Ready"}}}`,
				`{"metadata":{"finalizers":["example.com/f"]}}`,
				`{"metadata":{"finalizers":null}}`,
			} {
				require.NoError(t, patch(t, ns, r, change), "%s: %s", r, change)
			}
			require.Equal(t, before, get(t, ns, r).Object["spec"], r.String())
		}
		kubectl(t, ns, "patch", "httproute", "http", "--subresource=status", "--type=merge", "-p", `{"status":{"parents":[]}}`)
	})
	t.Run("a write that adds or changes a mirror is refused, with the webhook's name", func(t *testing.T) {
		for name, err := range map[string]error{
			"HTTPRoute":      create(t, ns, gatewayRoute(ref{"HTTPRoute", "new"}, "httpbin-v2", "")),
			"GRPCRoute":      create(t, ns, gatewayRoute(ref{"GRPCRoute", "new"}, "httpbin-v2", "")),
			"VirtualService": create(t, ns, virtualService("new", "httpbin-v2", "")),
			"v1beta1":        create(t, ns, strings.Replace(gatewayRoute(ref{"HTTPRoute", "new"}, "httpbin-v2", ""), "io/v1\n", "io/v1beta1\n", 1)),
			"v1alpha3":       create(t, ns, strings.Replace(virtualService("new", "httpbin-v2", ""), "io/v1\n", "io/v1alpha3\n", 1)),
			"under backend":  create(t, ns, underBackend),
			"percent":        patch(t, ns, httpRoute, `[{"op":"replace","path":"/spec/rules/0/filters/0/requestMirror/percent","value":50}]`),
			"mirrors":        patch(t, ns, virtual, `[{"op":"add","path":"/spec/http/0/mirrors","value":[{"destination":{"host":"x"}}]}]`),
			"beside parked":  patch(t, ns, parked[0], `[{"op":"add","path":"/spec/hostnames","value":["a.example.com"]}]`),
			"forged":         patch(t, ns, parked[0], `{"metadata":{"annotations":{"mirrorgate.dev/parked":"{}"}}}`),
			"gate":           patch(t, ns, httpRoute, `{"metadata":{"annotations":{"mirrorgate.dev/gate":"Whatever"}}}`),
		} {
			require.ErrorContains(t, err, "failed calling webhook", name)
			require.ErrorContains(t, err, ".validate.mirrorgate.dev", name)
			require.ErrorContains(t, err, "connection refused", name)
		}
		_, stderr, err := env.Try(t, virtualService("new", "httpbin-v2", ""), "-n", ns, "apply", "-f", "-")
		require.Error(t, err)
		require.Contains(t, stderr, `failed calling webhook "istio.validate.mirrorgate.dev"`, "kubectl shows the webhook's name")
	})
	t.Run("mirrors can be taken out in an emergency", func(t *testing.T) {
		for _, r := range append(parked, everyKind...) {
			require.NoError(t, patch(t, ns, r, takeMirrors(r)), r.String())
		}
		require.Empty(t, states(t, ns, append(parked, everyKind...)...))
	})
	t.Run("routes can be deleted", func(t *testing.T) {
		for _, r := range append(parked, everyKind...) {
			require.NoError(t, patch(t, ns, r, `{"metadata":{"finalizers":["example.com/f"]}}`))
			require.NoError(t, env.Client(t).Delete(t.Context(), r.empty(ns)))
			require.NoError(t, patch(t, ns, r, `{"metadata":{"finalizers":null}}`))
			require.Nil(t, get(t, ns, r))
		}
	})
}

const underBackend = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: under-backend}
spec:
  rules:
  - backendRefs:
    - name: httpbin-v1
      port: 80
      filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}]
`

// gated are forms in which a mirror can be written; the webhooks must be called for every one.
var gated = map[string]struct {
	route    ref
	manifest string
}{
	"HTTPRoute":      {ref{"HTTPRoute", "http"}, gatewayRoute(ref{"HTTPRoute", "http"}, "httpbin-v2", "")},
	"GRPCRoute":      {ref{"GRPCRoute", "grpc"}, gatewayRoute(ref{"GRPCRoute", "grpc"}, "httpbin-v2", "")},
	"VirtualService": {ref{"VirtualService", "vs"}, virtualService("vs", "httpbin-v2", "")},
	"HTTPRoute v1beta1": {ref{"HTTPRoute", "old"}, strings.Replace(gatewayRoute(ref{"HTTPRoute", "old"}, "httpbin-v2", ""),
		"io/v1\n", "io/v1beta1\n", 1)},
	"VirtualService v1beta1":  {ref{"VirtualService", "b1"}, strings.Replace(virtualService("b1", "httpbin-v2", ""), "io/v1\n", "io/v1beta1\n", 1)},
	"VirtualService v1alpha3": {ref{"VirtualService", "a3"}, strings.Replace(virtualService("a3", "httpbin-v2", ""), "io/v1\n", "io/v1alpha3\n", 1)},
	"under a backendRef":      {ref{"HTTPRoute", "under-backend"}, underBackend},
	"beside null filters": {ref{"HTTPRoute", "nulls"}, `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: nulls, annotations: null}
spec:
  parentRefs: null
  rules:
  - {filters: null, matches: null, backendRefs: [{name: httpbin-v1, port: 80, filters: null}]}
  - {backendRefs: null, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}]}
`},
	"in mirrors, beside nulls": {ref{"VirtualService", "list"}, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: list, annotations: null}
spec:
  hosts: [list.example.com]
  tls: null
  http:
  - {route: [{destination: {host: httpbin-v1}}], mirrors: null, mirror: null, mirror_percent: null, headers: null}
  - {route: [{destination: {host: httpbin-v1}}], mirrors: [{destination: {host: httpbin-v2}, percentage: {value: 5}}]}
`},
}

// plain are routes without a mirror in odd forms; the webhooks must not be called for them.
var plain = map[string]string{
	"no rules":     "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: plain-1}, spec: {rules: null}}",
	"no spec":      "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: plain-2}}",
	"no http":      "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: plain-3}, spec: {hosts: [a], http: null}}",
	"null filters": "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: plain-4}, spec: {rules: [{filters: null, backendRefs: [{name: a, port: 80, filters: null}]}]}}",
	"null rule":    "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: plain-5}, spec: {hosts: [a], http: [{mirror: null, mirrors: null, mirrorPercentage: null, route: [{destination: {host: a}}]}]}}",
	"TLS only":     "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: plain-6}, spec: {hosts: [a], tls: [{match: [{sniHosts: [a]}], route: [{destination: {host: a}}]}]}}",
	"other filter": "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: plain-7}, spec: {rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-a]}}]}]}}",
}

func TestMatchConditionsSelectOnlyRoutesWithMirrors(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	count := func() float64 { return server.Metric(t, "mirrorgate_admission_duration_seconds_count") }
	for name, form := range gated {
		before := count()
		require.NoError(t, create(t, ns, form.manifest), name)
		require.Greater(t, count(), before+1, "%s: both webhooks were called", name)
		got := states(t, ns, form.route)
		require.NotEmpty(t, got, name)
		require.True(t, strings.HasSuffix(got[0], "=parked"), "%s: %s", name, got)
	}
	before := count()
	for name, text := range plain {
		require.NoError(t, create(t, ns, text), name)
		u := object(t, text)
		require.NoError(t, patch(t, ns, ref{u.GetKind(), u.GetName()}, `{"metadata":{"labels":{"a":"b"}}}`), name)
	}
	require.InDelta(t, before, count(), 0, "no webhook was called for routes without a mirror")
	// While the webhook is down, the API server must come to the same conclusion.
	env.Crash(t, server)
	for name, form := range gated {
		err := create(t, env.Namespace(t), form.manifest)
		require.ErrorContains(t, err, "failed calling webhook", name)
	}
	other := env.Namespace(t)
	for name, text := range plain {
		require.NoError(t, create(t, other, text), name)
	}
}

// large is a VirtualService of more than a megabyte, whose last rule has the mirror.
func large(t *testing.T, rules int) *unstructured.Unstructured {
	t.Helper()
	u := object(t, virtualService("large", "httpbin-v2", ""))
	http, _, err := unstructured.NestedSlice(u.Object, "spec", "http")
	require.NoError(t, err)
	var all []any
	for i := range rules - 1 {
		all = append(all, map[string]any{
			"match": []any{map[string]any{"uri": map[string]any{"prefix": fmt.Sprintf("/r/%06d", i)}}},
			"route": []any{map[string]any{"destination": map[string]any{"host": "httpbin-v1"}}},
		})
	}
	require.NoError(t, unstructured.SetNestedSlice(u.Object, append(all, http...), "spec", "http"))
	text, err := json.Marshal(u)
	require.NoError(t, err)
	require.Greater(t, len(text), 1<<20)
	return u
}

func TestVirtualServiceOfAMegabyteIsAdmittedInTime(t *testing.T) {
	ns := env.Namespace(t)
	// The race detector makes this ten times slower.
	ordinary := &harness.Env{Cluster: env.Cluster, Binary: filepath.Join(t.TempDir(), "mirrorgate")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", ordinary.Binary, "./cmd/mirrorgate")
	build.Dir = filepath.Join("..", "..", "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	server := ordinary.Serve(t)
	u := large(t, 12_500)
	u.SetNamespace(ns)
	require.NoError(t, env.Client(t).Create(t.Context(), u))
	route := ref{"VirtualService", "large"}
	require.Equal(t, []string{"large:httpbin-v2=parked"}, states(t, ns, route))
	apply(t, ns, harness.Workload("httpbin-v2"))
	wait(t, ns, "active", route)
	answers := 0.0
	for _, stage := range []string{"mutate", "validate"} {
		label := fmt.Sprintf("stage=%q", stage)
		calls := server.Metric(t, "mirrorgate_admission_duration_seconds_count", label)
		require.GreaterOrEqual(t, calls, 2.0, stage)
		answers += calls
		t.Logf("%s: %.0f calls, %.0f ms on average", stage, calls, 1000*server.Metric(t, "mirrorgate_admission_duration_seconds_sum", label)/calls)
	}
	// CPU time, since a loaded machine lets answers wait.
	require.Less(t, server.Metric(t, "process_cpu_seconds_total")/answers, 1.0, "CPU seconds for an answer")
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
}

func TestRoutesWrittenWhileTheWebhookWasDownAreRepaired(t *testing.T) {
	ns := env.Namespace(t)
	env.Crash(t, env.Serve(t, "--failure-policy", "Ignore"))
	apply(t, ns, routesOfEveryKind(), destinationRule("version", "httpbin-v2"))
	wait(t, ns, "active", everyKind...) // as written

	server := env.Serve(t, "--failure-policy", "Ignore")
	wait(t, ns, "parked", everyKind...)

	env.Crash(t, server)
	apply(t, ns, harness.Workload("httpbin-v2"))
	kubectl(t, ns, "rollout", "status", "deployment/httpbin-v2")
	wait(t, ns, "parked", everyKind...) // no client watches it
	env.Serve(t)
	wait(t, ns, "active", everyKind...)
}
