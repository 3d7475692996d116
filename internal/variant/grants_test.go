package variant

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

func grantOf(name, group, kind, from, to string) string {
	m := meta(name)
	return `{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {namespace: ` + m.Namespace + `, name: ` + m.Name + `},
spec: {from: [{group: ` + group + `, kind: ` + kind + `, namespace: ` + from + `}], to: [` + to + `]}}`
}

func TestReferenceGrants(t *testing.T) {
	const gw, all = route.GatewayGroup, `{group: "", kind: Service}`
	cases := map[string]struct {
		grant string
		want  bool
	}{
		"every Service":      {grantOf("shop/g", gw, "HTTPRoute", "web", all), false},
		"this Service":       {grantOf("shop/g", gw, "HTTPRoute", "web", `{group: "", kind: Service, name: b}`), false},
		"another Service":    {grantOf("shop/g", gw, "HTTPRoute", "web", `{group: "", kind: Service, name: c}`), true},
		"another kind":       {grantOf("shop/g", gw, "HTTPRoute", "web", `{group: "", kind: Secret}`), true},
		"another route kind": {grantOf("shop/g", gw, "GRPCRoute", "web", all), true},
		"another namespace":  {grantOf("shop/g", gw, "HTTPRoute", "other", all), true},
		"another group":      {grantOf("shop/g", "example.com", "HTTPRoute", "web", all), true},
		"in the wrong place": {grantOf("web/g", gw, "HTTPRoute", "web", all), true},
	}
	rt := httpRoute("web/a", "web/a", "shop/b")
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := newCluster(t, append(readyObjects(), tc.grant)...).variant(rt)
			assert.Equal(t, tc.want, got.Ungranted)
			assert.Equal(t, policy.Ready, got.State, "a missing grant does not change the state")
		})
	}
	c := newCluster(t, readyObjects()...)
	assert.False(t, c.variant(httpRoute("shop/a", "shop/a", "shop/b")).Ungranted)
	assert.False(t, c.variant(virtualService("web/a", "a", "b.shop.svc.cluster.local")).Ungranted)
}
