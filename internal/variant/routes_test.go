package variant

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func TestLoops(t *testing.T) {
	http := func(name, from, to string) *route.Route {
		return httpRoute("shop/"+name, "shop/"+from, "shop/"+to)
	}
	cases := map[string]struct {
		stored []any
		rt     *route.Route
		want   string
	}{
		"none":                     {[]any{http("r2", "b", "c")}, http("r1", "a", "b"), ""},
		"itself":                   {nil, http("r1", "a", "a"), "shop/a"},
		"back at once":             {[]any{http("r2", "b", "a")}, http("r1", "a", "b"), "shop/b -> shop/a"},
		"in a circle":              {[]any{http("r2", "b", "c"), http("r3", "c", "a")}, http("r1", "a", "b"), "shop/b -> shop/c -> shop/a"},
		"the shortest way":         {[]any{http("r2", "b", "c"), http("r3", "c", "a"), http("r4", "b", "a")}, http("r1", "a", "b"), "shop/b -> shop/a"},
		"a circle of others":       {[]any{http("r2", "b", "c"), http("r3", "c", "b")}, http("r1", "a", "b"), ""},
		"its own stored version":   {[]any{http("r1", "b", "a")}, http("r1", "a", "b"), ""},
		"own host, VirtualService": {nil, virtualService("shop/v", "a", "a#v2"), ""},
		"own host of another VirtualService": {
			[]any{virtualService("shop/w", "b", "b#v2")}, virtualService("shop/v", "a", "b"), ""},
		"between VirtualServices": {
			[]any{virtualService("shop/w", "b", "a")}, virtualService("shop/v", "a", "b"), "shop/b -> shop/a"},
		"across kinds": {
			[]any{virtualService("shop/w", "b", "a")}, http("r1", "a", "b"), "shop/b -> shop/a"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			loops := newCluster(t, tc.stored...).Snapshot(tc.rt).Loops
			if tc.want == "" {
				assert.Empty(t, loops)
				return
			}
			require.Len(t, loops, 1)
			for _, way := range loops {
				assert.Equal(t, tc.want, way)
			}
		})
	}
}

const istioRollout = `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {namespace: shop, name: b}
spec:
  template: {metadata: {labels: {app: b}}}
  strategy:
    canary:
      trafficRouting:
        istio:
          virtualService: {name: one}
          virtualServices: [{name: two}, {name: three.web}]
        plugins:
          other/plugin: [1]
          argoproj-labs/gatewayAPI:
            namespace: edge
            httpRoute: h1
            httpRoutes: [{name: h2}]
            grpcRoute: g1
            grpcRoutes: [{name: g2}]
`

func TestManagedBy(t *testing.T) {
	c := newCluster(t, istioRollout)
	managed := func(rt *route.Route) string { return c.Snapshot(rt).ManagedBy }
	for _, rt := range []*route.Route{
		virtualService("shop/one", "a", "b"), virtualService("shop/two", "a", "b"), virtualService("web/three", "a", "b"),
		httpRoute("edge/h1", "edge/a", "edge/b"), httpRoute("edge/h2", "edge/a", "edge/b"),
		gatewayRoute(route.GRPCRoute, "edge/g1", "edge/a", "edge/b"), gatewayRoute(route.GRPCRoute, "edge/g2", "edge/a", "edge/b"),
	} {
		assert.Equal(t, "Argo Rollouts", managed(rt), rt.Key)
	}
	assert.Empty(t, managed(virtualService("web/one", "a", "b")))
	assert.Empty(t, managed(httpRoute("shop/h1", "shop/a", "shop/b")))

	owned := httpRoute("shop/x", "shop/a", "shop/b")
	owned.Owners = []route.Owner{{Group: "flagger.app", Kind: "Canary", Name: "x"}}
	assert.Equal(t, "Flagger", managed(owned))
	owned.Owners = []route.Owner{{Group: "argoproj.io", Kind: "Rollout", Name: "x"}}
	assert.Equal(t, "Argo Rollouts", managed(owned))
	owned.Owners = []route.Owner{{Group: "argoproj.io", Kind: "Application", Name: "x"}}
	assert.Empty(t, managed(owned))

	c.Delete(KindRollout, "shop", "b")
	assert.Empty(t, managed(virtualService("shop/one", "a", "b")))
	assert.Empty(t, c.managedRoutes)
}

func TestOnlyRoutesThatConcernUsAreKept(t *testing.T) {
	c := newCluster(t)
	plain := httpRoute("shop/r", "shop/a")
	c.apply(plain)
	assert.Nil(t, c.Route(plain.Key))
	mirrored := httpRoute("shop/r", "shop/a", "shop/b", "shop/c")
	c.apply(mirrored)
	assert.Equal(t, mirrored, c.Route(plain.Key))
	assert.Equal(t, []route.Key{plain.Key}, slices.Collect(c.Keys()))
	assert.Equal(t, []*route.Route{mirrored}, slices.Collect(c.Routes()))
	counts := c.Counts()
	assert.Equal(t, 2, counts.Active[route.HTTPRoute])
	assert.Equal(t, 0, counts.Parked[route.HTTPRoute])
	assert.Equal(t, 1, counts.Objects[KindHTTPRoute])

	c.apply(plain)
	assert.Nil(t, c.Route(plain.Key))
	assertEmpty(t, c.Index)
}

// assertEmpty checks that nothing is left in any secondary index.
func assertEmpty(t *testing.T, i *Index) {
	t.Helper()
	assert.Empty(t, i.workloadsByLabel)
	assert.Empty(t, i.servicesByLabel)
	assert.Empty(t, i.rolloutsByRef)
	assert.Empty(t, i.slicesByPod)
	assert.Empty(t, i.destinationRules)
	assert.Empty(t, i.serviceEntries)
	assert.Empty(t, i.referenceGrants)
	assert.Empty(t, i.managedRoutes)
	assert.Empty(t, i.routesByTarget)
	assert.Empty(t, i.routesByHost)
	assert.Empty(t, i.routesByCrossing)
	assert.Empty(t, i.routesByParent)
	for _, e := range i.endpoints {
		assert.Empty(t, e.slices)
	}
	for _, kind := range i.objects {
		assert.Empty(t, kind)
	}
}
