package variant

// Gateways: which namespaces their pods are in and which ports they listen on, for Istio's; and whether their
// class claims mirrors, for those of the Gateway API.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// gatewayKey identifies a gateway of Istio or of the Gateway API.
type gatewayKey struct {
	kind Kind
	types.NamespacedName
}

// istioGateway is a Gateway of Istio.
type istioGateway struct {
	id
	selector labels
	ports    []int32
	// pods is the number of workloads in each namespace that the selector selects. It changes while the
	// record is in the Index.
	pods map[string]int
}

func (g *istioGateway) equal(other record) bool {
	o := other.(*istioGateway)
	return slices.Equal(g.selector, o.selector) && slices.Equal(g.ports, o.ports)
}

// selects reports whether pods with these labels serve the gateway. One without a selector names none of its
// own.
func (g *istioGateway) selects(pods labels) bool {
	return len(g.selector) > 0 && pods.contain(g.selector)
}

func parseIstioGateway(h *header, raw []byte) (record, error) {
	var o struct {
		Spec struct {
			Selector map[string]string `json:"selector"`
			Servers  []struct {
				Port struct {
					Number int32 `json:"number"`
				} `json:"port"`
			} `json:"servers"`
		} `json:"spec"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	g := &istioGateway{id: h.id(KindIstioGateway), selector: newLabels(o.Spec.Selector)}
	for _, s := range o.Spec.Servers {
		g.ports = append(g.ports, s.Port.Number)
	}
	slices.Sort(g.ports)
	g.ports = slices.Compact(g.ports)
	return g, nil
}

func (i *Index) changeIstioGateway(old, g *istioGateway, a *affected) {
	if old != nil {
		i.gateways = removeItem(i.gateways, old)
	}
	if g != nil {
		i.gateways = append(i.gateways, g)
		g.pods = map[string]int{}
		if declared := g.selector.declared(); len(declared) > 0 {
			for namespace := range i.namespacesOf[declared[0]] {
				if n := len(i.workloads(namespace, g.selector)); n > 0 {
					g.pods[namespace] = n
				}
			}
		}
	}
	i.affectServed(gatewayKey{KindIstioGateway, cmp.Or(g, old).NamespacedName}, a)
}

// countPods counts a workload for the gateways that select it: by is 1 when it comes, -1 when it goes.
func (i *Index) countPods(w *workload, by int, a *affected) {
	for _, g := range i.gateways {
		if !g.selects(w.labels) {
			continue
		}
		if g.pods[w.Namespace] += by; g.pods[w.Namespace] == 0 || g.pods[w.Namespace] == by {
			i.affectServed(gatewayKey{KindIstioGateway, g.NamespacedName}, a)
		}
		if g.pods[w.Namespace] == 0 {
			delete(g.pods, w.Namespace)
		}
	}
}

// affectSelected adds the routes to which DestinationRules for the clients on a workload apply.
func (i *Index) affectSelected(w *workload, a *affected) {
	seen := map[hosts.Pattern]bool{}
	for _, r := range i.selectingRules[w.Namespace] {
		// It matters whether any workload matches: only the first that comes and the last that goes change that.
		if w.labels.contain(r.Selector) && !seen[r.Pattern] && len(i.workloads(w.Namespace, r.Selector)) <= 1 {
			seen[r.Pattern] = true
			i.affectPattern(r.Pattern, a)
		}
	}
}

// affectServed adds the routes that a gateway serves, and their delegates.
func (i *Index) affectServed(key gatewayKey, a *affected) {
	for s := range i.routesByName.of(gatewayNameKey(key)) {
		i.affectWithDelegates(s, a)
	}
}

// gateway is a Gateway of the Gateway API.
type gateway struct {
	id
	class string
}

func (g *gateway) equal(other record) bool { return g.class == other.(*gateway).class }

func parseGateway(h *header, raw []byte) (record, error) {
	var o struct {
		Spec struct {
			Class string `json:"gatewayClassName"`
		} `json:"spec"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	return &gateway{h.id(KindGateway), o.Spec.Class}, nil
}

func (i *Index) changeGateway(old, g *gateway, a *affected) {
	i.affectServed(gatewayKey{KindGateway, cmp.Or(g, old).NamespacedName}, a)
}

// gatewayClass is a GatewayClass.
type gatewayClass struct {
	id
	// claims is set where the class says which features it supports; mirrors and shares are two of them.
	claims, mirrors, shares bool
}

func (c *gatewayClass) equal(other record) bool {
	o := other.(*gatewayClass)
	return c.claims == o.claims && c.mirrors == o.mirrors && c.shares == o.shares
}

func parseGatewayClass(h *header, raw []byte) (record, error) {
	var o struct {
		Status struct {
			Features []json.RawMessage `json:"supportedFeatures"`
		} `json:"status"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	c := &gatewayClass{id: h.id(KindGatewayClass), claims: len(o.Status.Features) > 0}
	c.Namespace = "" // manifests are given a namespace
	for _, raw := range o.Status.Features {
		// A name until v1.1 of the Gateway API, then an object with a name.
		var name string
		var object struct {
			Name string `json:"name"`
		}
		if unmarshal(raw, &name) != nil && unmarshal(raw, &object) == nil {
			name = object.Name
		}
		c.mirrors = c.mirrors || name == "HTTPRouteRequestMirror"
		c.shares = c.shares || name == "HTTPRouteRequestPercentageMirror"
	}
	return c, nil
}

func (i *Index) changeGatewayClass(old, c *gatewayClass, a *affected) {
	name := cmp.Or(c, old).Name
	for _, rec := range i.objects[KindGateway] {
		if g := rec.(*gateway); g.class == name {
			i.affectServed(gatewayKey{KindGateway, g.NamespacedName}, a)
		}
	}
}

// noteSupport notes in a snapshot which of the route's gateways do not claim mirrors, or shares of them.
func (v *view) noteSupport(rt *route.Route, snap *policy.Snapshot) {
	if rt.Kind == route.VirtualService {
		return
	}
	if crd := v.base.prunes; crd != "" {
		snap.LacksShares = crd + " has no percent or fraction" // that of GRPCRoutes is of the same release
	}
	if rt.Kind != route.HTTPRoute {
		return // no feature is about mirrors of GRPCRoutes
	}
	for _, p := range rt.Parents {
		if p.Group != route.GatewayGroup || p.Kind != kinds[KindGateway].Name {
			continue
		}
		g := as[*gateway](v.base.objects[KindGateway][types.NamespacedName{Namespace: p.Namespace, Name: p.Name}])
		if g == nil {
			continue
		}
		c := as[*gatewayClass](v.base.objects[KindGatewayClass][types.NamespacedName{Name: g.class}])
		switch {
		case c == nil || !c.claims:
		case !c.mirrors:
			snap.LacksMirrors = cmp.Or(snap.LacksMirrors, fmt.Sprintf("GatewayClass %q", g.class))
		case !c.shares:
			snap.LacksShares = cmp.Or(snap.LacksShares, fmt.Sprintf("GatewayClass %q does not claim HTTPRouteRequestPercentageMirror", g.class))
		}
	}
}
