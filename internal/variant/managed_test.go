package variant

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

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
