package variant

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Attacks from the namespace evil on a route of the namespace shop. Each is what a tenant may write there; none
// may move or deny a mirror of shop beyond what the mesh lets it do. docs/security.md has the table.

const hostOfB = "b.shop.svc.cluster.local"

// shop has a ready variant b with the subset v2, and a client in evil.
func shop(more ...any) []any {
	return append(append(readyObjects(), istioRule, deployment("evil/client", "app=client", 1)), more...)
}

// of returns the verdict and the findings about the only mirror of a route.
func of(t *testing.T, c *cluster, rt *route.Route) (policy.Verdict, []policy.Finding) {
	t.Helper()
	d, err := policy.Decide(rt, c.Snapshot(rt), policy.Config{})
	require.NoError(t, err)
	require.Len(t, d.Verdicts, 1)
	return d.Verdicts[0], d.Findings
}

func TestAttacksOnAReadyMirror(t *testing.T) {
	trap := func(spec string) *route.Route {
		return istioRoute("evil/trap", spec)
	}
	for name, attack := range map[string]any{
		"a VirtualService that mirrors back":   trap(`{"hosts": ["` + hostOfB + `"], "http": [{"route": [{"destination": {"host": "` + hostOfB + `"}}], "mirror": {"host": "a.shop.svc.cluster.local"}}]}`),
		"the same, for itself alone":           trap(`{"exportTo": ["."], "hosts": ["` + hostOfB + `"], "http": [{"mirror": {"host": "a.shop.svc.cluster.local"}}]}`),
		"a consumer's HTTPRoute":               httpRoute("evil/trap", "shop/b", "shop/a"),
		"a root that delegates to it":          trap(`{"hosts": ["x.org"], "http": [{"delegate": {"name": "v", "namespace": "shop"}}]}`),
		"a DestinationRule without the subset": ruleOf("evil/r", hostOfB, "", "none", ""),
		"a DestinationRule for everything":     ruleOf("evil/r", "*", `"*"`, "none", ""),
		"a ServiceEntry for its host":          entryOf("evil/e", hostOfB, `"*"`),
		"a Rollout that names it":              `{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {namespace: evil, name: x}, spec: {strategy: {canary: {trafficRouting: {istio: {virtualService: {name: v.shop}}}}}}}`,
		"a Gateway of its name":                `{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: evil, name: g}, spec: {selector: {app: b}}}`,
		"an ExternalName for its Service": func() any {
			s := serviceOf("evil/b", "")
			s.Spec.Type, s.Spec.ExternalName = "ExternalName", hostOfB
			return s
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			rt := virtualService("shop/v", "a", "b#v2")
			c := newCluster(t, shop()...)
			before, findings := of(t, c, rt)
			require.Equal(t, policy.VariantReady, before.Reason, before.Detail)
			require.Empty(t, findings)
			c.apply(attack)
			after, findings := of(t, c, rt)
			assert.Equal(t, before, after)
			assert.Empty(t, findings)
		})
	}
}

// A DestinationRule of evil may define the subset for its own clients, which see the route. For a route that
// they do not see it frees nothing.
func TestAttacksOnAParkedMirror(t *testing.T) {
	rt := istioRoute("shop/v", `{"hosts": ["a"], "exportTo": ["."], "http": [{"mirror": {"host": "b", "subset": "mine"}}]}`)
	for name, attack := range map[string]any{
		"its own DestinationRule":      ruleOf("evil/r", hostOfB, "", "mine", ""),
		"one that it exports":          ruleOf("evil/r", hostOfB, `"*", shop`, "mine", ""),
		"a wildcard":                   ruleOf("evil/r", "*.local", "", "mine", ""),
		"an owner that does not exist": `{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {namespace: evil, name: x, uid: u-1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, shop(attack)...)
			v, _ := of(t, c, rt)
			assert.True(t, v.Park)
		})
	}
}

// A claim of Flagger's or Argo Rollouts' ownership that is not true does not keep a parked mirror from coming
// back, also while the caches lag, and limits hold whatever the route claims.
func TestAForgedOwnerChangesNothing(t *testing.T) {
	rt := httpRoute("shop/gw", "shop/a", "shop/b")
	rt.Owners = []route.Owner{{Group: "flagger.app", Kind: "Canary", Name: "x", UID: "u-1", Controller: true}}
	c := newCluster(t, shop()...)
	reader := &fakeReader{index: newCluster(t).Index}
	snap, err := NewResolver(c.Index, reader, func() bool { return true }).Resolve(t.Context(), rt)
	require.NoError(t, err)
	assert.Empty(t, snap.ManagedBy)
	assert.Equal(t, []Query{{Kind: KindCanary, Namespace: "shop", Name: "x"}}, reader.queries, "the API server is asked")

	reader = &fakeReader{index: newCluster(t).Index, fail: map[Kind]error{KindCanary: fmt.Errorf("connection refused")}}
	snap, err = NewResolver(c.Index, reader, func() bool { return true }).Resolve(t.Context(), rt)
	require.NoError(t, err)
	assert.Equal(t, "Flagger", snap.ManagedBy, "a claim that cannot be checked holds")
	limit := 10.0
	d, err := policy.Decide(rt, snap, policy.Config{Limits: policy.Limits{MaxPercent: &limit}})
	require.NoError(t, err)
	require.Len(t, d.Findings, 1)
	assert.Equal(t, policy.PolicyExceeded, d.Findings[0].Reason)
}

// Where a search for a subset is given up, nothing is parked or denied for want of it.
func TestRulesWithoutEnd(t *testing.T) {
	rules := func(n int, exportTo string) (all []any) {
		for i := range n {
			all = append(all, ruleOf(fmt.Sprintf("shop/r%03d", i), hostOfB, exportTo, "none", ""))
		}
		return all
	}
	for name, more := range map[string][]any{
		"more than are looked at for one host": append(rules(maxForHost, ""), ruleOf("shop/s", hostOfB, "", "v9", "app=b")),
		"more namespaces than are looked at": rules(maxForHost, func() string {
			names := make([]string, 300)
			for i := range names {
				names[i] = fmt.Sprintf("n%03d", i)
			}
			return strings.Join(names, ",")
		}()),
	} {
		t.Run(name, func(t *testing.T) {
			rt := virtualService("shop/v", "a", "b#v9")
			v, findings := of(t, newCluster(t, append(shop(), more...)...), rt)
			assert.Equal(t, policy.VariantUnknown, v.Reason, v.Detail)
			assert.False(t, v.Park)
			assert.Empty(t, findings)
		})
	}
}
