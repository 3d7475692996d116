package variant

// Clients: the proxies that see a VirtualService, since the DestinationRules of a mirror and the ports that it
// can have depend on them. A mirror is ready if any client could use it.

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Bounds on the work of one decision: the roots of a delegate and the hosts of a VirtualService that are looked
// at, the DestinationRules of one namespace for one host, and everything else that is looked at: clients' namespaces,
// DestinationRules, ServiceEntries, ports, and workloads. A mirror that would need more stays as it is.
const (
	maxRoots   = 64
	maxHosts   = 64
	maxForHost = 64
	maxRules   = 250_000
)

// clients are proxies that see a route in the same way.
type clients struct {
	// everywhere is set for the sidecars of all namespaces, else namespaces names theirs.
	everywhere bool
	namespaces []string
	// ports are the ports that sidecars call, or that a gateway listens on; anyPort stands for all. Those of
	// sidecars follow from the hosts, and are worked out when they are needed.
	hosts   []route.Target
	ports   map[int32]bool
	anyPort bool
	gateway bool
}

// clientsOf returns the clients of a VirtualService. Those of a delegate are the clients of its roots.
func (v *view) clientsOf(rt *route.Route) []clients {
	if rt.Kind != route.VirtualService {
		return nil
	}
	if !rt.IsDelegate() {
		return v.attached(&rt.Attachment)
	}
	var roots []*storedRoute
	for s := range v.base.routesByName.of(byDelegate.key(rt.Namespace, rt.Name)) {
		if roots = append(roots, s); len(roots) > maxRoots {
			return []clients{{everywhere: true, anyPort: true}}
		}
	}
	slices.SortFunc(roots, func(a, b *storedRoute) int { return compareNames(a.NamespacedName, b.NamespacedName) })
	var all []clients
	for _, s := range roots {
		if exported(rt.ExportTo, s.Namespace) {
			all = append(all, v.attached(&s.root.attachment)...)
		}
	}
	if len(all) == 0 { // its root may come later
		all = append(all, clients{everywhere: len(rt.ExportTo) == 0 || slices.Contains(rt.ExportTo, "*"), namespaces: rt.ExportTo, anyPort: true})
	}
	return all
}

// attached returns the clients of a VirtualService that is not a delegate.
func (v *view) attached(a *route.Attachment) []clients {
	var all []clients
	everywhere := len(a.ExportTo) == 0 || slices.Contains(a.ExportTo, "*")
	meshed := slices.Contains(a.Gateways, route.Mesh)
	exportTo := map[string]bool{}
	for _, to := range a.ExportTo {
		exportTo[to] = true
	}
	for _, name := range a.Gateways {
		if name == route.Mesh {
			all = append(all, clients{everywhere: everywhere, namespaces: a.ExportTo, hosts: a.Hosts})
			continue
		}
		own, short, _ := strings.Cut(name, "/")
		c := clients{gateway: true}
		g := as[*istioGateway](v.base.objects[KindIstioGateway][types.NamespacedName{Namespace: own, Name: short}])
		if g == nil && meshed {
			continue // it has no clients yet, and the route has others
		}
		if g == nil || len(g.pods) == 0 { // nothing is known of its pods
			c.namespaces, c.anyPort = []string{own}, true
		} else {
			c.namespaces = slices.Sorted(maps.Keys(g.pods))
		}
		if g != nil {
			c.ports, c.anyPort = map[int32]bool{}, false
			for _, p := range g.ports {
				c.ports[p] = true
			}
		}
		if !everywhere {
			c.namespaces = slices.DeleteFunc(c.namespaces, func(ns string) bool { return !exportTo[ns] })
		}
		all = append(all, c)
	}
	nobody := func(c clients) bool { return !c.everywhere && len(c.namespaces) == 0 }
	if slices.ContainsFunc(all, func(c clients) bool { return !nobody(c) }) {
		all = slices.DeleteFunc(all, nobody)
	}
	return all
}

// exported reports whether an Istio object with this exportTo is seen from a namespace.
func exported(exportTo []string, client string) bool {
	return len(exportTo) == 0 || slices.Contains(exportTo, "*") || slices.Contains(exportTo, client)
}

// seeing returns those of the clients that find a ServiceEntry, by namespace where not all of them do: which ports
// they call may depend on the ServiceEntries that they find.
func (c *clients) seeing(e *serviceEntry) (some []clients) {
	namespaces := c.namespaces
	switch {
	case !c.sees(e):
		return nil
	case len(e.exportTo) == 0 || slices.Contains(e.exportTo, "*"):
		return []clients{*c}
	case c.everywhere:
		namespaces = append(slices.Clone(e.exportTo), e.Namespace)
	}
	for _, ns := range namespaces {
		one := *c
		one.everywhere, one.namespaces = false, []string{ns}
		if len(c.hosts) > 0 {
			one.ports, one.anyPort = nil, false
		}
		if one.sees(e) {
			some = append(some, one)
		}
	}
	return some
}

// sees reports whether any of the clients finds a ServiceEntry. From a sidecar of its own namespace a destination
// finds it whatever its exportTo is, unless that is nobody.
func (c *clients) sees(e *serviceEntry) bool {
	if c.everywhere || slices.Equal(e.exportTo, []string{"~"}) {
		return !slices.Equal(e.exportTo, []string{"~"})
	}
	return slices.ContainsFunc(c.namespaces, func(ns string) bool { return (ns == e.Namespace && !c.gateway) || exported(e.exportTo, ns) })
}
