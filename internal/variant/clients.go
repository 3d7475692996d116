package variant

// Clients: the proxies that see a VirtualService, since the DestinationRules of a mirror and the ports that it
// can have depend on them. A mirror is ready if any client could use it.

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// Bounds on the work of one decision: the roots of a delegate that are looked at, the DestinationRules of one
// namespace for one host, and all DestinationRules. A mirror that would need more stays as it is.
const (
	maxRoots   = 64
	maxForHost = 64
	maxRules   = 500_000
)

// clients are proxies that see a route in the same way.
type clients struct {
	// everywhere is set for the sidecars of all namespaces, else namespaces names theirs.
	everywhere bool
	namespaces []string
	// ports are the ports that sidecars call, or that a gateway listens on; anyPort stands for all.
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
	var all []clients
	roots := slices.SortedFunc(maps.Keys(v.base.roots[types.NamespacedName{Namespace: rt.Namespace, Name: rt.Name}]),
		func(a, b *storedRoute) int { return compareNames(a.NamespacedName, b.NamespacedName) })
	for n, s := range roots {
		if n == maxRoots {
			return append(all, clients{everywhere: true, anyPort: true})
		}
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
	for _, name := range a.Gateways {
		if name == route.Mesh {
			c := clients{everywhere: everywhere, namespaces: a.ExportTo}
			c.ports, c.anyPort = v.calledPorts(a)
			all = append(all, c)
			continue
		}
		own, short, _ := strings.Cut(name, "/")
		c := clients{gateway: true}
		g := as[*istioGateway](v.base.objects[KindIstioGateway][types.NamespacedName{Namespace: own, Name: short}])
		if g == nil && slices.Contains(a.Gateways, route.Mesh) {
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
			c.namespaces = slices.DeleteFunc(c.namespaces, func(ns string) bool { return !slices.Contains(a.ExportTo, ns) })
		}
		all = append(all, c)
	}
	return all
}

// calledPorts returns the ports at which sidecars call the hosts of a VirtualService. Istio serves a host that
// it does not know at port 80 alone; a Service that is not there may come with any port.
func (v *view) calledPorts(a *route.Attachment) (ports map[int32]bool, anyPort bool) {
	ports = map[int32]bool{}
	for _, t := range a.Hosts {
		var s *service
		if t.IsService() {
			s = v.service(types.NamespacedName(t.Service()))
		}
		switch {
		case s != nil:
			for _, p := range s.ports {
				ports[p.Number] = true
			}
		case t.IsService(), strings.HasPrefix(t.Name, "*"):
			return nil, true
		default:
			ports[80] = true
			for _, e := range v.source(serviceEntriesQuery()).serviceEntries[t.Name] {
				for _, p := range e.ports {
					ports[p] = true
				}
			}
		}
	}
	return ports, false
}

// exported reports whether an Istio object with this exportTo is seen from a namespace.
func exported(exportTo []string, client string) bool {
	return len(exportTo) == 0 || slices.Contains(exportTo, "*") || slices.Contains(exportTo, client)
}

// sees reports whether any of the clients finds a ServiceEntry. From a sidecar of its own namespace a destination
// finds it whatever its exportTo is, unless that is nobody.
func (c *clients) sees(e *serviceEntry) bool {
	if c.everywhere || slices.Equal(e.exportTo, []string{"~"}) {
		return !slices.Equal(e.exportTo, []string{"~"})
	}
	return slices.ContainsFunc(c.namespaces, func(ns string) bool { return (ns == e.Namespace && !c.gateway) || exported(e.exportTo, ns) })
}

// reach returns the names of the Service's ports that a mirror without a port goes to from these clients. A
// gateway takes the only port of a Service, whichever it listens on.
func (c *clients) reach(ports []policy.Port) (names []string) {
	for _, p := range ports {
		if c.anyPort || c.ports[p.Number] || (c.gateway && len(ports) == 1) {
			names = append(names, p.Name)
		}
	}
	return names
}

// subsetView is what clients find of a subset.
type subsetView struct {
	// found holds the labels of the subset, each once, as single clients find them.
	found []labels
	// lacking are the rules for exactly the host that a client found without the subset.
	lacking []*destinationRule
}

// subset returns what clients find of a subset of a host, whose Service or ServiceEntry is in a namespace. A
// rule counts as lacking only in the namespaces of the route and the Service and in the root: others are not
// asked.
func (v *view) subset(cs []clients, own, service, host, name string) subsetView {
	var out subsetView
	for _, client := range v.clientNamespaces(cs, own, service, host, name) {
		if v.visits > maxRules {
			return out
		}
		views := hosts.Views(v.rules().For(host, service, client), client, func(selector labels) bool {
			return len(v.base.workloads(client, selector)) > 0
		})
		for _, m := range views {
			found, ok := m.Subset(name)
			switch {
			case ok && !slices.ContainsFunc(out.found, func(have labels) bool { return slices.Equal(have, found) }):
				out.found = append(out.found, found)
			case !ok:
				out.lacking = append(out.lacking, v.exactRules(m, own, service, host)...)
			}
		}
	}
	return out
}

// exactRules returns the rules that are for exactly the host and in one of the namespaces that count.
func (v *view) exactRules(m *hosts.Merged[labels], own, service, host string) (exact []*destinationRule) {
	for _, r := range m.Rules {
		if r.Pattern == hosts.Parse(host) && (r.Namespace == own || r.Namespace == service || r.Namespace == v.base.opts.RootNamespace) {
			exact = append(exact, &destinationRule{Rule: *r})
		}
	}
	return exact
}

func (v *view) rules() hosts.Lookup[labels] {
	return hosts.Lookup[labels]{Root: v.base.opts.RootNamespace, At: func(namespace string, p hosts.Pattern) []*hosts.Rule[labels] {
		found := v.source(destinationRulesQuery(namespace)).destinationRules[namespacedHost{namespace, p}]
		found = found[:min(len(found), maxForHost)]
		v.visits += 1 + len(found)
		out := make([]*hosts.Rule[labels], len(found))
		for i, r := range found {
			out[i] = &r.Rule
		}
		return out
	}}
}

// clientNamespaces returns the namespaces of clients that may find a subset in different ways. For sidecars
// everywhere these are the namespaces of the route, the Service and the root, one without rules of its own, and
// those in which rules have the subset or to which they are exported.
func (v *view) clientNamespaces(cs []clients, own, service, host, subset string) []string {
	seen := map[string]bool{}
	var out []string
	add := func(names ...string) {
		for _, ns := range names {
			if !seen[ns] && ns != "~" && ns != "*" {
				seen[ns] = true
				out = append(out, ns)
			}
		}
	}
	for _, c := range cs {
		if !c.everywhere {
			add(c.namespaces...)
			continue
		}
		add(own, service, v.base.opts.RootNamespace, "")
		for p := range hosts.Covering(host) {
			for _, r := range v.base.rulesByPattern[p] {
				if v.visits++; v.visits > maxRules {
					return out
				}
				if _, has := r.Subset(subset); !has {
					continue
				}
				add(r.Namespace)
				add(r.ExportTo...)
			}
		}
	}
	return out
}
