package variant

import (
	"fmt"
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

// A Rollout manages the routes that it names in its own namespace, and none of another namespace.
func TestRolloutsManageRoutesOfTheirOwnNamespace(t *testing.T) {
	c := newCluster(t, istioRollout)
	managed := func(rt *route.Route) string { return c.Snapshot(rt).ManagedBy }
	for _, rt := range []*route.Route{virtualService("shop/one", "a", "b"), virtualService("shop/two", "a", "b")} {
		assert.Equal(t, "Argo Rollouts", managed(rt), rt.Key)
	}
	for _, rt := range []*route.Route{
		virtualService("web/one", "a", "b"), virtualService("web/three", "a", "b"), httpRoute("shop/h1", "shop/a", "shop/b"),
		httpRoute("edge/h1", "edge/a", "edge/b"), httpRoute("edge/h2", "edge/a", "edge/b"),
		gatewayRoute(route.GRPCRoute, "edge/g1", "edge/a", "edge/b"), gatewayRoute(route.GRPCRoute, "edge/g2", "edge/a", "edge/b"),
	} {
		assert.Empty(t, managed(rt), rt.Key)
	}
	c.Delete(KindRollout, "shop", "b")
	assert.Empty(t, managed(virtualService("shop/one", "a", "b")))
	assert.Empty(t, c.managedRoutes)
}

// An owner counts if it exists in the route's namespace with that uid, and controls the route: anybody can
// write an owner reference.
func TestOwnersThatCount(t *testing.T) {
	canary := func(namespace string) string {
		return fmt.Sprintf(`{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {namespace: %s, name: x, uid: u-1}}`, namespace)
	}
	rollout := `{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {namespace: shop, name: x, uid: u-1}, spec: {}}`
	flagger := route.Owner{Group: "flagger.app", Kind: "Canary", Name: "x", UID: "u-1", Controller: true}
	argo := route.Owner{Group: "argoproj.io", Kind: "Rollout", Name: "x", UID: "u-1", Controller: true}
	other, shares, application := flagger, flagger, argo
	other.UID, shares.Controller, application.Kind = "u-2", false, "Application"
	for name, tc := range map[string]struct {
		owner route.Owner
		objs  []any
		want  string
	}{
		"Flagger":                    {flagger, []any{canary("shop")}, "Flagger"},
		"Argo Rollouts":              {argo, []any{rollout}, "Argo Rollouts"},
		"it does not exist":          {flagger, nil, ""},
		"it is in another namespace": {flagger, []any{canary("evil")}, ""},
		"it has another uid":         {other, []any{canary("shop")}, ""},
		"it does not control it":     {shares, []any{canary("shop")}, ""},
		"another kind":               {application, []any{rollout}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rt := httpRoute("shop/r", "shop/a", "shop/b")
			rt.Owners = []route.Owner{tc.owner}
			assert.Equal(t, tc.want, newCluster(t, tc.objs...).Snapshot(rt).ManagedBy)
		})
	}
}
