package variant

// Which routes and Services an event affects, so that subscribers hear of these alone.

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// affected collects the routes whose decision an event may change, and, while somebody subscribes to
// Services, the Services whose state it may change.
type affected struct {
	routes   map[route.Key]struct{}
	services map[types.NamespacedName]struct{}
}

func (a *affected) addRoute(key route.Key) {
	if a.routes == nil {
		a.routes = map[route.Key]struct{}{}
	}
	a.routes[key] = struct{}{}
}

// anyMirror selects all mirrors to a Service.
func anyMirror(storedMirror) bool { return true }

// subsetMirror selects the mirrors whose state depends on the labels of single pods.
func subsetMirror(m storedMirror) bool { return m.Subset != "" }

// affectService adds a Service, and the routes that have a selected mirror to it.
func (i *Index) affectService(name types.NamespacedName, a *affected, selects func(storedMirror) bool) {
	if len(i.serviceSubscribers) > 0 {
		if a.services == nil {
			a.services = map[types.NamespacedName]struct{}{}
		}
		a.services[name] = struct{}{}
	}
	i.affectTargets(name, a, selects)
	if len(i.aliases) > 0 {
		i.affectAliases(i.fqdn(route.ServiceName(name)), a, selects)
	}
}

// affectAliases adds the routes that have a selected mirror to a Service that stands for a host.
func (i *Index) affectAliases(host string, a *affected, selects func(storedMirror) bool) {
	for _, alias := range i.aliases[host] {
		i.affectTargets(alias.NamespacedName, a, selects)
	}
}

// affectTargets adds the routes that have a selected mirror to a Service.
func (i *Index) affectTargets(name types.NamespacedName, a *affected, selects func(storedMirror) bool) {
	for s := range i.routesByTarget[name] {
		for _, m := range s.mirrors {
			if m.service == name && selects(m) {
				a.addRoute(s.key())
				break
			}
		}
	}
}

// affectHost adds the routes with a mirror to a host, or to a Service that stands for it.
func (i *Index) affectHost(host string, a *affected) {
	for s := range i.routesByHost[host] {
		a.addRoute(s.key())
	}
	i.affectAliases(host, a, anyMirror)
}

// affectPattern adds the routes with a mirror to a host that a pattern covers.
func (i *Index) affectPattern(p hosts.Pattern, a *affected) {
	if !p.Wild {
		i.affectHost(p.Text, a)
		return
	}
	for host := range i.routesByHost {
		if p.Covers(host) {
			i.affectHost(host, a)
		}
	}
	for host := range i.aliases {
		if p.Covers(host) {
			i.affectAliases(host, a, anyMirror)
		}
	}
}

// affectWithDelegates adds a route, and those to which it delegates.
func (i *Index) affectWithDelegates(s *storedRoute, a *affected) {
	a.addRoute(s.key())
	if s.root != nil {
		for _, name := range s.root.delegates {
			a.addRoute(route.Key{Kind: route.VirtualService, Namespace: name.Namespace, Name: name.Name})
		}
	}
}

// affectClients adds the routes that serve the clients of a host whose ports changed.
func (i *Index) affectClients(host string, a *affected) {
	for p := range hosts.Covering(host) {
		for s := range i.routesByClients[p] {
			i.affectWithDelegates(s, a)
		}
	}
}
