package variant

// Which routes and Services an event affects, so that subscribers hear of these alone.

import (
	"strings"

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

// affectService adds a Service, and the routes that so name it.
func (i *Index) affectService(name types.NamespacedName, a *affected, how naming) {
	if len(i.serviceSubscribers) > 0 {
		if a.services == nil {
			a.services = map[types.NamespacedName]struct{}{}
		}
		a.services[name] = struct{}{}
	}
	i.affectTargets(name, a, how)
	if len(i.aliases) > 0 {
		i.affectAliases(i.fqdn(route.ServiceName(name)), a, how)
	}
}

// affectAliases adds the routes that so name a Service that stands for a host.
func (i *Index) affectAliases(host string, a *affected, how naming) {
	for _, alias := range i.aliases[host] {
		i.affectTargets(alias.NamespacedName, a, how)
	}
}

// affectTargets adds the routes that so name a Service.
func (i *Index) affectTargets(name types.NamespacedName, a *affected, how naming) {
	for s := range i.routesByName.of(how.of(name)) {
		a.addRoute(s.key())
	}
	if how != byService {
		return
	}
	short := name.Name + "." + name.Namespace
	for _, host := range []string{short, short + ".svc"} { // which the author may have meant
		for s := range i.routesByName.of(byHost.key(host)) {
			a.addRoute(s.key())
		}
	}
}

// affectHost adds the routes with a mirror to a host, or to a Service that stands for it.
func (i *Index) affectHost(host string, a *affected) {
	for s := range i.routesByName.of(byHost.key(host)) {
		a.addRoute(s.key())
	}
	if name, ok := i.serviceOf(host); ok {
		for s := range i.routesByName.of(byService.of(name)) {
			if s.kind == KindVirtualService {
				a.addRoute(s.key())
			}
		}
	}
	i.affectAliases(host, a, byService)
}

// affectPattern adds the routes with a mirror to a host that a pattern covers.
func (i *Index) affectPattern(p hosts.Pattern, a *affected) {
	if !p.Wild {
		i.affectHost(p.Text, a)
		return
	}
	for _, rec := range i.objects[KindVirtualService] {
		if s := rec.(*storedRoute); s.mirrorsTo(p, i.opts.ClusterDomain) {
			a.addRoute(s.key())
		}
	}
	for host := range i.aliases {
		if p.Covers(host) {
			i.affectAliases(host, a, byService)
		}
	}
}

// affectWithDelegates adds a route, and those to which it delegates.
func (i *Index) affectWithDelegates(s *storedRoute, a *affected) {
	a.addRoute(s.key())
	if s.root != nil {
		for line := range strings.Lines(s.root.delegates) {
			namespace, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "/")
			a.addRoute(route.Key{Kind: route.VirtualService, Namespace: namespace, Name: name})
		}
	}
}

// affectClients adds the routes that serve the clients of a host whose ports changed.
func (i *Index) affectClients(host string, a *affected) {
	for p := range hosts.Covering(host) {
		for s := range i.routesByName.of(clientsKey(p)) {
			i.affectWithDelegates(s, a)
		}
	}
}
