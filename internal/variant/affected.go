package variant

// Which routes and Services an event affects, so that subscribers hear of these alone.

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
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
	for s := range i.routesByTarget[name] {
		for _, m := range s.mirrors {
			if m.IsService() && types.NamespacedName(m.Service()) == name && selects(m) {
				a.addRoute(s.key())
				break
			}
		}
	}
}

// affectHost adds the routes with a mirror to a host, which may be a wildcard.
func (i *Index) affectHost(host string, a *affected) {
	for s := range i.routesByHost[host] {
		a.addRoute(s.key())
	}
}
