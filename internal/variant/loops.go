package variant

// Loops: a route of a gateway whose copies go to the Service of that gateway, and so come back to it.

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

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
	pods := v.workloads(s.Namespace, s.selector)
	serves := func(g *istioGateway) bool {
		return g != nil && g.pods[s.Namespace] > 0 && slices.ContainsFunc(pods, func(w *workload) bool { return g.selects(w.labels) })
	}
	for _, name := range rt.Gateways {
		namespace, short, _ := strings.Cut(name, "/")
		if g := as[*istioGateway](v.base.objects[KindIstioGateway][types.NamespacedName{Namespace: namespace, Name: short}]); serves(g) {
			variant.Gateway, variant.Loop = true, fmt.Sprintf("Gateway %q", g)
		}
	}
	variant.Gateway = variant.Gateway || slices.ContainsFunc(v.base.gateways, serves)
}
