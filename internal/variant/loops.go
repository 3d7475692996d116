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

// gatewayNote is set where the endpoints of a Service are a gateway's; loop is that gateway if it serves the route.
type gatewayNote struct {
	is   bool
	loop string
}

// noteGateway notes whether the endpoints of a variant's Service are a gateway's, and whether that gateway
// serves the route itself. Mirrors to one Service share the answer.
func (v *view) noteGateway(rt *route.Route, s *service, variant *policy.Variant) {
	note, known := v.gatewayNotes[s.NamespacedName]
	if !known {
		note = v.gatewayOf(rt, s)
		if v.gatewayNotes == nil {
			v.gatewayNotes = map[types.NamespacedName]gatewayNote{}
		}
		v.gatewayNotes[s.NamespacedName] = note
	}
	variant.Gateway, variant.Loop = note.is, note.loop
}

func (v *view) gatewayOf(rt *route.Route, s *service) (note gatewayNote) {
	for _, l := range s.selector {
		if !slices.Contains(gatewayNameLabels, l.Value().key) {
			continue
		}
		note.is = true
		for _, p := range rt.Parents {
			if p.Kind == kinds[KindGateway].Name && p.Name == l.Value().value && (p.Namespace == s.Namespace || strings.HasPrefix(l.Value().key, "gateway.envoyproxy.io/")) {
				note.loop = fmt.Sprintf("Gateway %q", p.Namespace+"/"+p.Name)
			}
		}
	}
	if rt.Kind != route.VirtualService || len(s.selector) == 0 {
		return note
	}
	pods := v.workloads(s.Namespace, s.selector)
	serves := func(g *istioGateway) bool {
		return g.pods[s.Namespace] > 0 && slices.ContainsFunc(pods, func(w *workload) bool { return g.selects(w.labels) })
	}
	for _, g := range v.gateways {
		if serves(g) {
			note = gatewayNote{true, fmt.Sprintf("Gateway %q", g)}
		}
	}
	note.is = note.is || slices.ContainsFunc(v.base.gateways, serves)
	return note
}

// gatewaysOf returns Istio's gateways that serve a route, as far as they exist.
func (v *view) gatewaysOf(rt *route.Route) (found []*istioGateway) {
	for _, name := range rt.Gateways {
		namespace, short, _ := strings.Cut(name, "/")
		if g := as[*istioGateway](v.base.objects[KindIstioGateway][types.NamespacedName{Namespace: namespace, Name: short}]); g != nil {
			found = append(found, g)
		}
	}
	return found
}
