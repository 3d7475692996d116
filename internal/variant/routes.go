package variant

// The stored routes, found by each object that can change a decision about them.

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

type routeSet map[*storedRoute]struct{}

func (i *Index) changeRoute(old, s *storedRoute, a *affected) {
	if old != nil {
		i.eachRouteSet(old, func(set routeSet) { delete(set, old) })
		i.pruneRouteSets(old)
		a.addRoute(old.key())
	}
	if s != nil {
		i.eachRouteSet(s, func(set routeSet) { set[s] = struct{}{} })
		a.addRoute(s.key())
	}
}

// eachRouteSet calls fn with every set that the route belongs to.
func (i *Index) eachRouteSet(s *storedRoute, fn func(routeSet)) {
	for _, name := range s.serves {
		fn(setOf(i.routesByParent, types.NamespacedName(name)))
	}
	kind := s.key().Kind
	for _, m := range s.mirrors {
		if m.IsService() {
			fn(setOf(i.routesByTarget, types.NamespacedName(m.Service())))
		}
		if crosses(kind, s.Namespace, m.Target) {
			fn(setOf(i.routesByCrossing, crossing{m.Namespace, grantee{Kind: kind, Namespace: s.Namespace}}))
		}
		if kind == route.VirtualService {
			for _, host := range i.hostsOf(m) {
				for _, name := range covering(host) {
					fn(setOf(i.routesByHost, name))
				}
			}
		}
	}
}

// pruneRouteSets drops the sets whose last member the route was.
func (i *Index) pruneRouteSets(s *storedRoute) {
	for _, name := range s.serves {
		pruneSet(i.routesByParent, types.NamespacedName(name))
	}
	for _, m := range s.mirrors {
		pruneSet(i.routesByTarget, types.NamespacedName(m.Service()))
		pruneSet(i.routesByCrossing, crossing{m.Namespace, grantee{Kind: s.key().Kind, Namespace: s.Namespace}})
		for _, host := range i.hostsOf(m) {
			for _, name := range covering(host) {
				pruneSet(i.routesByHost, name)
			}
		}
	}
}

func setOf[K comparable](sets map[K]routeSet, key K) routeSet {
	if sets[key] == nil {
		sets[key] = routeSet{}
	}
	return sets[key]
}

func pruneSet[K comparable](sets map[K]routeSet, key K) {
	if set, ok := sets[key]; ok && len(set) == 0 {
		delete(sets, key)
	}
}

// Route returns a stored route, nil when there is none or it has nothing to do with mirrors.
func (i *Index) Route(key route.Key) *route.Route {
	i.mu.RLock()
	defer i.mu.RUnlock()
	rec := i.objects[kindOfRoute(key.Kind)][types.NamespacedName{Namespace: key.Namespace, Name: key.Name}]
	if rec == nil {
		return nil
	}
	return rec.(*storedRoute).unpack(i.opts)
}

// Routes yields all routes that are stored when the iteration starts.
func (i *Index) Routes() iter.Seq[*route.Route] {
	return func(yield func(*route.Route) bool) {
		for _, s := range i.storedRoutes() {
			i.mu.RLock()
			rt := s.unpack(i.opts)
			i.mu.RUnlock()
			if rt != nil && !yield(rt) {
				return
			}
		}
	}
}

// Keys yields the keys of all stored routes.
func (i *Index) Keys() iter.Seq[route.Key] {
	return func(yield func(route.Key) bool) {
		for _, s := range i.storedRoutes() {
			if !yield(s.key()) {
				return
			}
		}
	}
}

func (i *Index) storedRoutes() (all []*storedRoute) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	for kind := KindHTTPRoute; kind < kindCount; kind++ {
		for _, rec := range i.objects[kind] {
			all = append(all, rec.(*storedRoute))
		}
	}
	return all
}

// mirrors yields the mirrors of a route.
func mirrors(rt *route.Route) iter.Seq[*route.Mirror] {
	return func(yield func(*route.Mirror) bool) {
		for r := range rt.Rules {
			for m := range rt.Rules[r].Mirrors {
				if !yield(&rt.Rules[r].Mirrors[m]) {
					return
				}
			}
		}
	}
}
