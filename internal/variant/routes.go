package variant

// The stored routes, found by each object that can change a decision about them.

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func (i *Index) changeRoute(old, s *storedRoute, a *affected) {
	if old != nil {
		i.routesByName.leave(old)
		i.affectWithDelegates(old, a)
	}
	if s != nil {
		i.routesByName.enter(s)
		i.affectWithDelegates(s, a)
	}
}

// Route returns a stored route, nil when there is none or it has nothing to do with mirrors.
func (i *Index) Route(key route.Key) *route.Route {
	kind, _ := kindOf(key.Kind.Group(), string(key.Kind))
	i.mu.RLock()
	s, _ := i.objects[kind][types.NamespacedName{Namespace: key.Namespace, Name: key.Name}].(*storedRoute)
	i.mu.RUnlock()
	if s == nil {
		return nil
	}
	return i.unpack(s)
}

// unpack returns a stored route. Its author decides how long that takes, so the Index is not locked for it.
func (i *Index) unpack(s *storedRoute) *route.Route {
	rt := s.unpack(i.opts)
	if rt != nil {
		i.mu.RLock()
		rt.ResourceVersion = s.version
		i.mu.RUnlock()
	}
	return rt
}

// Routes yields all routes that are stored when the iteration starts.
func (i *Index) Routes() iter.Seq[*route.Route] {
	return func(yield func(*route.Route) bool) {
		for _, s := range i.storedRoutes() {
			if rt := i.unpack(s); rt != nil && !yield(rt) {
				return
			}
		}
	}
}

// Keys yields the keys of all stored routes.
func (i *Index) Keys() iter.Seq[route.Key] {
	return func(yield func(route.Key) bool) {
		for _, s := range i.storedRoutes() {
			if s.mirrored() && !yield(s.key()) {
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
