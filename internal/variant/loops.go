package variant

// Loops: a route of a gateway whose copies go to the Service of that gateway, and so come back to it.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Labels by which implementations of the Gateway API mark the pods of a Gateway.
var gatewayNameLabels = []string{"gateway.networking.k8s.io/gateway-name", "gateway.envoyproxy.io/owning-gateway-name"}

// noteGateway notes whether the endpoints of a variant's Service are a gateway's, and whether that gateway
// serves the route itself.
func (v *view) noteGateway(rt *route.Route, s *service, variant *policy.Variant) {
	for _, l := range s.selector {
		if !slices.Contains(gatewayNameLabels, l.Value().key) {
			continue
		}
		variant.Gateway = true
		for _, p := range rt.Parents {
			if p.Kind == kinds[KindGateway].Name && p.Name == l.Value().value && (p.Namespace == s.Namespace || strings.HasPrefix(l.Value().key, "gateway.envoyproxy.io/")) {
				variant.Loop = fmt.Sprintf("Gateway %q", p.Namespace+"/"+p.Name)
			}
		}
	}
	if rt.Kind != route.VirtualService || len(s.selector) == 0 {
		return
	}
	for _, g := range v.base.gateways {
		if g.pods[s.Namespace] == 0 || !v.serves(g, s) {
			continue
		}
		variant.Gateway = true
		if slices.Contains(rt.Gateways, g.String()) {
			variant.Loop = fmt.Sprintf("Gateway %q", g)
		}
	}
}

// serves reports whether a Service selects pods of a gateway.
func (v *view) serves(g *istioGateway, s *service) bool {
	return slices.ContainsFunc(v.workloads(s.Namespace, s.selector), func(w *workload) bool { return g.selects(w.labels) })
}
