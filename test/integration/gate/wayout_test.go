package gate

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// pair is a route with two mirrors in one rule, and the way to remove the first of them, or its placeholder,
// from the stored route.
type pair struct {
	route    ref
	variants [2]string
	want     []string
	first    string
}

// pairs are routes of two mirrors, active (httpbin-v2, httpbin-v4) and parked.
func pairs() (out []pair) {
	for _, kind := range []string{"HTTPRoute", "GRPCRoute", "VirtualService"} {
		mirror, mark := "/spec/rules/0/filters/0", "/spec/rules/0/filters/0/requestHeaderModifier/remove/0"
		if kind == "VirtualService" {
			mirror, mark = "/spec/http/0/mirrors/0", "/spec/http/0/headers/request/remove/0"
		}
		out = append(out,
			pair{ref{kind, "both"}, [2]string{"httpbin-v2", "httpbin-v4"}, []string{"both:httpbin-v2=active", "both:httpbin-v4=active"}, mirror},
			pair{ref{kind, "mixed"}, [2]string{"httpbin-v2", "httpbin-v3"}, []string{"mixed:httpbin-v2=active", "mixed:httpbin-v3=parked"}, mirror},
			pair{ref{kind, "neither"}, [2]string{"httpbin-v3", "httpbin-v5"}, []string{"neither:httpbin-v3=parked", "neither:httpbin-v5=parked"}, mark},
		)
	}
	return out
}

func (p pair) manifest() string {
	if p.route.kind == "VirtualService" {
		return strings.NewReplacer("mirror: {host: a}", "mirrors: [{destination: {host: "+p.variants[0]+"}}, {destination: {host: "+p.variants[1]+"}}]",
			"    mirrorPercentage: {value: 25}\n", "").Replace(virtualService(p.route.name, "a", ""))
	}
	return strings.Replace(gatewayRoute(p.route, p.variants[0], ""), "percent: 25}}\n",
		"percent: 25}}\n    - {type: RequestMirror, requestMirror: {backendRef: {name: "+p.variants[1]+", port: 80}, percent: 25}}\n", 1)
}

// takeFirst removes the first of the two mirrors.
func (p pair) takeFirst(t *testing.T, ns string) error {
	t.Helper()
	return patch(t, ns, p.route, `[{"op":"remove","path":"`+p.first+`"}]`)
}

// stored writes all pairs and waits until their mirrors have the expected states.
func stored(t *testing.T, ns string) {
	t.Helper()
	apply(t, ns, harness.Workload("httpbin-v2"), harness.Workload("httpbin-v4"))
	for _, p := range pairs() {
		apply(t, ns, p.manifest())
	}
	for _, p := range pairs() {
		harness.Eventually(t, func() bool { return p.is(t, ns) }, "%s: %q", p.route, states(t, ns, p.route))
	}
}

func (p pair) is(t *testing.T, ns string, want ...string) bool {
	t.Helper()
	if want == nil {
		want = p.want
	}
	got := states(t, ns, p.route)
	slices.Sort(got)
	return slices.Equal(want, got)
}

// TestWaysToTakeMirrorsOutWithTheWebhookDown tries the ways that docs/failure.md describes.
func TestWaysToTakeMirrorsOutWithTheWebhookDown(t *testing.T) {
	ns, labelled, deleting, last := env.Namespace(t), env.Namespace(t), env.Namespace(t), env.Namespace(t)
	server := env.Serve(t)
	for _, n := range []string{ns, labelled, deleting, last} {
		stored(t, n)
	}
	env.Crash(t, server)

	t.Run("one of two mirrors cannot be taken out", func(t *testing.T) {
		for _, p := range pairs() {
			err := p.takeFirst(t, ns)
			require.ErrorContains(t, err, "failed calling webhook", p.route.String())
			require.ErrorContains(t, err, ".validate.mirrorgate.dev", p.route.String())
			require.True(t, p.is(t, ns), p.route.String())
		}
	})
	t.Run("all mirrors and placeholders can, in one write", func(t *testing.T) {
		for _, p := range pairs() {
			require.NoError(t, patch(t, ns, p.route, takeMirrors(p.route)), p.route.String())
			require.Empty(t, states(t, ns, p.route))
		}
	})
	t.Run("the route can be deleted", func(t *testing.T) {
		for _, p := range pairs() {
			require.NoError(t, env.Client(t).Delete(t.Context(), p.route.empty(deleting)), p.route.String())
			require.Nil(t, get(t, deleting, p.route))
		}
	})
	rest := func(p pair) string { return p.want[1] }
	t.Run("any change passes in a namespace that is labelled", func(t *testing.T) {
		kubectl(t, labelled, "label", "namespace", labelled, "mirrorgate.dev/admission=disabled")
		for _, p := range pairs() {
			// The API server reads the label from a cache.
			harness.Eventually(t, func() bool { return p.takeFirst(t, labelled) == nil }, "%s is refused", p.route)
			require.True(t, p.is(t, labelled, rest(p)), "%s: %q", p.route, states(t, labelled, p.route))
		}
		require.ErrorContains(t, pairs()[0].takeFirst(t, last), "failed calling webhook", "other namespaces still need the webhook")
	})
	t.Run("any change passes everywhere without the validating configuration", func(t *testing.T) {
		env.MustKubectl(t, "", "delete", "validatingwebhookconfiguration", server.Registration(t))
		for _, p := range pairs() {
			harness.Eventually(t, func() bool { return p.takeFirst(t, last) == nil }, "%s is refused", p.route)
			require.True(t, p.is(t, last, rest(p)), "%s: %q", p.route, states(t, last, p.route))
		}
	})
	t.Run("removed mirrors do not come back with mirrorgate", func(t *testing.T) {
		env.Unregister(t.Context(), t, server)
		kubectl(t, labelled, "label", "namespace", labelled, "mirrorgate.dev/admission-")
		env.Serve(t)
		for _, n := range []string{ns, labelled, last} {
			apply(t, n, harness.Workload("httpbin-v3"), harness.Workload("httpbin-v5"))
		}
		for _, n := range []string{labelled, last} {
			for _, p := range pairs() {
				want := strings.Replace(rest(p), "parked", "active", 1)
				harness.Eventually(t, func() bool { return p.is(t, n, want) }, "%s: %q", p.route, states(t, n, p.route))
			}
		}
		for _, p := range pairs() {
			require.Empty(t, states(t, ns, p.route))
			require.Nil(t, get(t, deleting, p.route))
		}
	})
}
