package gate

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// leftAlone requires that a process has processed a route whose mirror it cannot move, and has neither
// touched it nor reported an error.
func leftAlone(t *testing.T, server *harness.Server, ns string, r ref) {
	t.Helper()
	// When a route in another namespace has been parked and restored, this one has been processed too.
	other := env.Namespace(t)
	apply(t, other, harness.Workload("httpbin-v2"), gatewayRoute(httpRoute, "httpbin-v2", ""))
	wait(t, other, "active", httpRoute)
	remove(t, other, "service", "httpbin-v2")
	wait(t, other, "parked", httpRoute)
	require.Equal(t, []string{r.name + ":httpbin-v2=active"}, states(t, ns, r))
	for key := range get(t, ns, r).GetAnnotations() {
		require.NotContains(t, key, "mirrorgate.dev/")
	}
	require.Empty(t, told(t, ns, r, "FlipRefused"))
	require.Empty(t, told(t, ns, r, "FlipDelayed"))
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
}

// The CRD allows 16 names in a list of headers to remove, and a placeholder would be the 17th.
func testMirrorWhosePlaceholderDoesNotFitStaysActive(t *testing.T, server *harness.Server) {
	ns := env.Namespace(t)
	with := func(r ref, names int) string {
		list := strings.TrimSuffix(strings.Repeat("x-a, ", names), ", ")
		for i := range names {
			list = strings.Replace(list, "x-a", "x-"+string(rune('b'+i)), 1)
		}
		return strings.Replace(gatewayRoute(r, "httpbin-v2", ""), "  - filters:\n",
			"  - filters:\n    - {type: RequestHeaderModifier, requestHeaderModifier: {remove: ["+list+"]}}\n", 1)
	}
	routes := []ref{httpRoute, grpcRoute}
	const wouldNotFit = "WouldNotFit: stays active: the list of headers to remove would exceed 16 (spec.rules[0].filters[1].requestMirror)"
	for _, r := range routes {
		require.Equal(t, []string{wouldNotFit}, warned(t, ns, with(r, 16)))
		kubectl(t, ns, "label", r.kind, r.name, "a=b")
		leftAlone(t, server, ns, r)
		_, stderr, err := env.Try(t, with(r, 17), "-n", ns, "apply", "-f", "-")
		require.Error(t, err)
		require.Contains(t, stderr, "Too many: 17: must have at most 16 items", "the limit is the CRD's")
	}
	for _, r := range routes {
		said := warned(t, ns, with(r, 15))
		require.Len(t, said, 1)
		require.Contains(t, said[0], "is parked")
	}
	wait(t, ns, "parked", routes...)
	// With the placeholder the list is full again.
	apply(t, ns, harness.Workload("httpbin-v2"))
	wait(t, ns, "active", routes...)
}

// The API server allows 256 KiB of annotations, keys and values together.
func testMirrorWhoseAnnotationDoesNotFitStaysActive(t *testing.T, server *harness.Server) {
	ns := env.Namespace(t)
	const padding = "example.com/padding"
	size := 256<<10 - len(padding) - 40 // the touch still fits, the record does not
	full := func(text string, size int) string {
		u := object(t, text)
		u.SetAnnotations(map[string]string{padding: strings.Repeat("x", size)})
		raw, err := u.MarshalJSON()
		require.NoError(t, err)
		return string(raw)
	}
	routes := []ref{httpRoute, grpcRoute, virtual}
	for i, text := range []string{
		gatewayRoute(httpRoute, "httpbin-v2", ""), gatewayRoute(grpcRoute, "httpbin-v2", ""), virtualService("vs", "httpbin-v2", ""),
	} {
		r := routes[i]
		_, stderr, err := env.Try(t, full(text, size), "-n", ns, "create", "-f", "-")
		require.NoError(t, err, stderr)
		require.Regexp(t, `^Warning: WouldNotFit: stays active: the route's annotations would exceed 256 KiB \(spec\.\S+\)\n$`, stderr)
		kubectl(t, ns, "label", r.kind, r.name, "a=b")
		leftAlone(t, server, ns, r)
		require.Len(t, get(t, ns, r).GetAnnotations()[padding], size)
		_, stderr, err = env.Try(t, full(text, 256<<10), "-n", ns, "create", "--dry-run=server", "-f", "-")
		require.Error(t, err)
		require.Contains(t, stderr, "metadata.annotations: Too long", "the limit is the API server's")
	}
	// A write that concerns no mirror makes room; the controller sees it.
	for _, r := range routes {
		require.NoError(t, patch(t, ns, r, `{"metadata":{"annotations":{"`+padding+`":null}}}`))
	}
	wait(t, ns, "parked", routes...)
	require.Zero(t, server.Metric(t, "mirrorgate_touches_total", `result="refused"`))
}
