package gate

// MirrorLimits and MirrorPolicies on a real API server: mirrors are limited and raised, and a tool that applies the routes
// sees no difference.

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// limited are routes of the three kinds with a mirror of 25 %, as somebody writes them.
func limitedRoutes() map[ref]string {
	gateway := `
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: limited}
spec:
  rules:
  - filters:
    - type: RequestMirror
      requestMirror: {backendRef: {group: "", kind: Service, name: httpbin-v2, port: 80}, %s}
    backendRefs: [{group: "", kind: Service, name: httpbin-v1, port: 80, weight: 1}]
%s`
	matches := "    matches: [{path: {type: PathPrefix, value: /}}]\n"
	return map[ref]string{
		{"HTTPRoute", "limited"}: fmt.Sprintf(gateway, "HTTPRoute", "percent: PERCENT", matches),
		{"GRPCRoute", "limited"}: fmt.Sprintf(gateway, "GRPCRoute", "percent: PERCENT", ""),
		{"VirtualService", "limited"}: `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: limited}
spec:
  hosts: [limited]
  http: [{route: [{destination: {host: httpbin-v1}}], mirror: {host: httpbin-v2}, mirrorPercentage: {value: PERCENT}}]
`,
	}
}

func withPercent(manifest string, percent string) string {
	return strings.ReplaceAll(manifest, "PERCENT", percent)
}

// storedShare returns the share with which the mirror of a route stands in its spec, "" for none.
func storedShare(u *unstructured.Unstructured) string {
	if http, ok, _ := unstructured.NestedSlice(u.Object, "spec", "http"); ok {
		value, found, _ := unstructured.NestedFieldNoCopy(http[0].(map[string]any), "mirrorPercentage", "value")
		if !found {
			return ""
		}
		return fmt.Sprint(value)
	}
	rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules")
	filters, _, _ := unstructured.NestedSlice(rules[0].(map[string]any), "filters")
	for _, f := range filters {
		mirror, found, _ := unstructured.NestedMap(f.(map[string]any), "requestMirror")
		if !found {
			continue
		}
		if percent, ok := mirror["percent"]; ok {
			return fmt.Sprint(percent)
		}
		if n, ok, _ := unstructured.NestedInt64(mirror, "fraction", "numerator"); ok {
			return strconv.FormatFloat(float64(n)/10_000, 'f', -1, 64)
		}
	}
	return ""
}

func waitShare(t *testing.T, ns string, r ref, want string) {
	t.Helper()
	harness.Eventually(t, func() bool {
		u := get(t, ns, r)
		return u != nil && storedShare(u) == want
	}, "share %q of %s", want, r)
}

// steady requires that nobody who applies the manifest sees a difference, and that the applier owns the list alone.
func steady(t *testing.T, ns string, r ref, manifest string) {
	t.Helper()
	before := get(t, ns, r)
	for _, args := range [][]string{{"diff", "--server-side", "--field-manager=git", "-f", "-"}, {"diff", "--server-side", "--force-conflicts", "--field-manager=argo", "-f", "-"}} {
		stdout, stderr, err := env.Try(t, manifest, append([]string{"-n", ns}, args...)...)
		require.NoError(t, err, "%v: %s%s", args, stdout, stderr)
		require.Empty(t, stdout, "%s", args)
	}
	env.MustKubectl(t, manifest, "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")
	after := get(t, ns, r)
	assert.Equal(t, before.Object["spec"], after.Object["spec"])
	assert.Equal(t, before.GetGeneration(), after.GetGeneration())
	owners := map[string]bool{}
	for _, m := range after.GetManagedFields() {
		if text := string(m.FieldsV1.GetRawBytes()); strings.Contains(text, `"f:rules"`) || strings.Contains(text, `"f:http"`) {
			owners[m.Manager] = true
		}
	}
	assert.Equal(t, map[string]bool{"git": true}, owners)
}

func TestLimitsOnARealAPIServer(t *testing.T) {
	env.InstallPolicyKinds(t)
	env.Serve(t)
	ns := env.Namespace(t)
	apply(t, ns, harness.Workload("httpbin-v2"))
	limit := func(spec string) {
		t.Helper()
		env.MustKubectl(t, "apiVersion: mirrorgate.dev/v1alpha1\nkind: MirrorLimit\nmetadata: {name: "+ns+"}\nspec: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: "+ns+"}}, "+spec+"}\n",
			"apply", "-f", "-")
	}
	for r, manifest := range limitedRoutes() {
		env.MustKubectl(t, withPercent(manifest, "25"), "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")
		waitShare(t, ns, r, "25")
	}
	everywhere := func(percent, share string, why string) {
		t.Helper()
		for r, manifest := range limitedRoutes() {
			waitShare(t, ns, r, share)
			steady(t, ns, r, withPercent(manifest, percent))
			require.Falsef(t, t.Failed(), "%s: %s", why, r)
		}
	}
	limit("maxPercent: 10")
	everywhere("25", "10", "a limit came")
	limit("maxPercent: 0.5")
	everywhere("25", "0.5", "it became stricter")
	for _, manifest := range limitedRoutes() { // Git declares another share meanwhile
		env.MustKubectl(t, withPercent(manifest, "40"), "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")
	}
	everywhere("40", "0.5", "Git declares more")
	limit("maxPercent: 10, maxMirrors: 0")
	everywhere("40", "", "no mirror at all")
	limit("maxPercent: 20")
	everywhere("40", "20", "some again")
	limit("maxPercent: 5, action: Deny")
	everywhere("40", "40", "a limit that denies lowers nothing that stands")
	for r, manifest := range limitedRoutes() {
		_, stderr, err := env.Try(t, withPercent(manifest, "50"), "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")
		require.Error(t, err, "%s: more is denied", r)
		assert.Contains(t, stderr, "OverLimit")
		env.MustKubectl(t, withPercent(manifest, "30"), "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-") // less is not
		env.MustKubectl(t, withPercent(manifest, "0"), "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")  // nor is off
	}
	limit("maxPercent: 5")
	for _, manifest := range limitedRoutes() {
		env.MustKubectl(t, withPercent(manifest, "40"), "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")
	}
	everywhere("40", "5", "limited in the author's own write")
	env.MustKubectl(t, "", "delete", "mirrorlimit", ns)
	everywhere("40", "40", "the limit went")
	for r := range limitedRoutes() {
		assert.NotContains(t, fmt.Sprint(get(t, ns, r).Object["spec"]), "x-mirrorgate", "nothing is left of it")
	}
}

// A ramp from Git to what the routes declare, step by step, and its end; then what happens without policies.
func TestRampOnARealAPIServer(t *testing.T) {
	env.InstallPolicyKinds(t)
	env.Serve(t)
	ns := env.Namespace(t)
	apply(t, ns, harness.Workload("httpbin-v2"))
	routes := limitedRoutes()
	refs := []string{}
	for r := range routes {
		group := "gateway.networking.k8s.io"
		if r.kind == "VirtualService" {
			group = "networking.istio.io"
		}
		refs = append(refs, fmt.Sprintf("{group: %s, kind: %s, name: limited}", group, r.kind))
	}
	ramp := func(more string) string {
		return "apiVersion: mirrorgate.dev/v1alpha1\nkind: MirrorPolicy\nmetadata: {name: ramp}\nspec:\n  targetRefs: [" + strings.Join(refs, ", ") + "]\n" + more
	}
	const steps = "  ramp: {steps: [{percent: 1, for: 2s}, {percent: 2.5, for: 2s}, {percent: 10, for: 2s}, {percent: 20, for: 2s}, {percent: 100}]}\n"
	apply(t, ns, ramp(steps))
	for _, manifest := range routes {
		env.MustKubectl(t, withPercent(manifest, "25"), "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")
	}
	seen := map[ref][]string{}
	harness.Eventually(t, func() bool {
		done := 0
		for r := range routes {
			share := storedShare(get(t, ns, r))
			if n := len(seen[r]); n == 0 || seen[r][n-1] != share {
				seen[r] = append(seen[r], share)
			}
			if share == "25" {
				done++
			}
		}
		return done == len(routes)
	}, "the end of the ramp")
	order := map[string]int{"1": 1, "2.5": 2, "10": 3, "20": 4, "25": 5}
	for r, shares := range seen {
		for i, share := range shares {
			require.NotZero(t, order[share], "%s: %v", r, shares)
			require.True(t, i == 0 || order[share] > order[shares[i-1]], "%s: %v", r, shares)
		}
		steady(t, ns, r, withPercent(routes[r], "25"))
	}
	status := env.MustKubectl(t, "", "-n", ns, "get", "mirrorpolicy", "ramp", "-o", "jsonpath={.status.targets[*].percent} {.status.targets[0].conditions[?(@.type=='Accepted')].status}")
	assert.Equal(t, "100% 100% 100% True", status)

	apply(t, ns, ramp("  ramp: {steps: [{percent: 3}]}\n")) // the policy changes: the last step there is
	for r, manifest := range routes {
		waitShare(t, ns, r, "3")
		steady(t, ns, r, withPercent(manifest, "25"))
	}
	apply(t, ns, ramp("  expires: \"2020-01-01T00:00:00Z\"\n"))
	for r, manifest := range routes {
		waitShare(t, ns, r, "")
		steady(t, ns, r, withPercent(manifest, "25"))
	}
	apply(t, ns, ramp("  after: 72h\n"+steps))
	env.MustKubectl(t, "", "-n", ns, "delete", "mirrorpolicy", "ramp")
	for r, manifest := range routes {
		waitShare(t, ns, r, "25")
		steady(t, ns, r, withPercent(manifest, "25"))
	}
	apply(t, ns, ramp("  ramp: {steps: [{percent: 3}]}\n"))
	for r := range routes {
		waitShare(t, ns, r, "3")
	}
	env.MustKubectl(t, "", "delete", "crd", "mirrorpolicies.mirrorgate.dev")
	for r := range routes {
		waitShare(t, ns, r, "25")
	}
}
