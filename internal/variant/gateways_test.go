package variant

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// What the class of a route's gateways claims is known only where it claims anything at all.
func TestSupportOfAGatewayClass(t *testing.T) {
	gateway := func(name, class string) string {
		return fmt.Sprintf(`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: shop, name: %s}, spec: {gatewayClassName: %s}}`, name, class)
	}
	class := func(name, features string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": %q}, "status": {"supportedFeatures": [%s]}}`, name, features))
	}
	c := newCluster(t, gateway("none", "none"), gateway("all", "all"), gateway("half", "half"), gateway("silent", "silent"), gateway("lost", "lost"),
		class("none", `{"name": "Gateway"}`), class("silent", ""), class("half", `{"name": "HTTPRouteRequestMirror"}`),
		class("all", `"HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"`))
	for name, want := range map[string][2]string{
		"none":   {`GatewayClass "none"`, ""},
		"half":   {"", `GatewayClass "half" does not claim HTTPRouteRequestPercentageMirror`},
		"all":    {},
		"silent": {},
		"lost":   {},
		"absent": {},
	} {
		rt := httpRoute("shop/r", "shop/a", "shop/b")
		rt.Parents = append(rt.Parents, route.Parent{Group: route.GatewayGroup, Kind: "Gateway", Namespace: "shop", Name: name})
		snap := c.Snapshot(rt)
		assert.Equal(t, want, [2]string{snap.LacksMirrors, snap.LacksShares}, name)
	}
	grpc := gatewayRoute(route.GRPCRoute, "shop/r", "shop/a", "shop/b")
	grpc.Parents = []route.Parent{{Group: route.GatewayGroup, Kind: "Gateway", Namespace: "shop", Name: "none"}}
	assert.Empty(t, c.Snapshot(grpc).LacksMirrors, "no feature is about mirrors of GRPCRoutes")
}

// A CustomResourceDefinition without percent and fraction prunes them.
func TestPrunedShares(t *testing.T) {
	for name, tc := range map[string]struct {
		crd, version, channel string
		want                  any
	}{
		"standard before":     {"httproutes.gateway.networking.k8s.io", "v1.2.1", "standard", "the CRD of HTTPRoutes (Gateway API v1.2.1, standard)"},
		"standard since":      {"httproutes.gateway.networking.k8s.io", "v1.3.0", "standard", nil},
		"experimental before": {"httproutes.gateway.networking.k8s.io", "v1.1.0", "experimental", "the CRD of HTTPRoutes (Gateway API v1.1.0, experimental)"},
		"experimental since":  {"httproutes.gateway.networking.k8s.io", "v1.2.0", "experimental", nil},
		"no release":          {"httproutes.gateway.networking.k8s.io", "", "", nil},
		"another":             {"grpcroutes.gateway.networking.k8s.io", "v1.2.0", "standard", nil},
	} {
		crd := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: tc.crd, Annotations: map[string]string{bundleVersion: tc.version, bundleChannel: tc.channel}}}
		assert.Equal(t, tc.want, withoutShares(crd), name)
	}
	c := newCluster(t)
	c.notePruned("the CRD")
	assert.Equal(t, "the CRD has no percent or fraction", c.Snapshot(httpRoute("shop/r", "shop/a", "shop/b")).LacksShares)
	c.notePruned("")
	assert.Empty(t, c.Snapshot(httpRoute("shop/r", "shop/a", "shop/b")).LacksShares)
}
