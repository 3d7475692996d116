package variant

// The stored routes: by everything that can change what is decided about them,
// and as a graph of mirrors in which loops are found.

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// crossing is a reference into a namespace that needs a ReferenceGrant there.
type crossing struct {
	into string
	from grantee
}

// crosses tells whether a route of some kind and namespace needs a grant for a
// mirror target. VirtualServices know no such permission.
func crosses(kind route.Kind, namespace string, t route.Target) bool {
	return kind != route.VirtualService && t.IsService() && t.Namespace != namespace
}

func (i *Index) changeRoute(old, s *stored, t *touched) {
	if old != nil {
		i.eachIndex(old, func(set routeSet) { delete(set, old) })
		i.prune(old)
		t.set().add(old.key())
	}
	if s != nil {
		i.eachIndex(s, func(set routeSet) { set[s] = struct{}{} })
		t.set().add(s.key())
	}
}

// eachIndex calls fn with every set that the route belongs to.
func (i *Index) eachIndex(s *stored, fn func(routeSet)) {
	for _, name := range s.serves {
		fn(setOf(i.serving, types.NamespacedName(name)))
	}
	kind := s.key().Kind
	for _, m := range s.mirrors {
		if m.IsService() {
			fn(setOf(i.targeting, types.NamespacedName(m.Service())))
		}
		if crosses(kind, s.Namespace, m.Target) {
			fn(setOf(i.crossing, crossing{m.Namespace, grantee{Kind: kind, Namespace: s.Namespace}}))
		}
		if kind == route.VirtualService {
			for _, host := range i.hostsOf(m) {
				for _, name := range covering(host) {
					fn(setOf(i.naming, name))
				}
			}
		}
	}
}

// prune drops the sets that the route was the last member of.
func (i *Index) prune(s *stored) {
	for _, name := range s.serves {
		pruneSet(i.serving, types.NamespacedName(name))
	}
	for _, m := range s.mirrors {
		pruneSet(i.targeting, types.NamespacedName(m.Service()))
		pruneSet(i.crossing, crossing{m.Namespace, grantee{Kind: s.key().Kind, Namespace: s.Namespace}})
		for _, host := range i.hostsOf(m) {
			for _, name := range covering(host) {
				pruneSet(i.naming, name)
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

// maxEdges bounds the mirrors that are followed in search of the loops of one
// route. Real ones are found within a few.
const maxEdges = 100_000

// way is how copies of a mirror come back to a Service that its route stands in
// front of.
type way struct {
	// text names the Services on it: "default/b -> default/a", "" when there is none.
	text string
	// over are other routes by whose mirrors it leads, one from each Service to the next.
	over []Query
}

// loopFinder finds the ways that lead from a mirror of a route back to the
// route. The edges are the mirrors of the other routes.
type loopFinder struct {
	view *view
	doc  *route.Route
	left int
}

// wayBack tells how a request that is mirrored to target comes back.
func (f *loopFinder) wayBack(target route.Target) way {
	start := target.Service()
	if f.doc.Kind != route.VirtualService && slices.Contains(f.doc.Serves, start) {
		return way{text: start.String()}
	}
	type step struct {
		at       route.ServiceName
		by       Query
		previous *step
	}
	seen := map[route.ServiceName]bool{start: true}
	for queue := []*step{{at: start}}; len(queue) > 0; queue = queue[1:] {
		here := queue[0]
		edges := f.mirroredFrom(here.at)
		// Sorted, so that every replica finds the same way.
		for _, next := range slices.SortedFunc(maps.Keys(edges), compareNames) {
			if seen[next] {
				continue
			}
			seen[next] = true
			there := &step{at: next, by: edges[next], previous: here}
			if !slices.Contains(f.doc.Serves, next) {
				queue = append(queue, there)
				continue
			}
			names, back := []string{start.String()}, way{}
			for s := there; s.previous != nil; s = s.previous {
				names = slices.Insert(names, 1, s.at.String())
				back.over = append(back.over, s.by)
			}
			back.text = strings.Join(names, " -> ")
			return back
		}
	}
	return way{}
}

func compareNames(a, b route.ServiceName) int { return strings.Compare(a.String(), b.String()) }

// mirroredFrom returns the Services to which other routes in front of a Service
// mirror, each with one of these routes. A VirtualService that mirrors to a subset of
// its own host is no edge: the copy goes straight to the endpoints.
func (f *loopFinder) mirroredFrom(from route.ServiceName) map[route.ServiceName]Query {
	edges := map[route.ServiceName]Query{}
	for s := range f.view.base.serving[types.NamespacedName(from)] {
		if s.key() == f.doc.Key {
			continue
		}
		q := routeQuery(s)
		if f.view.covered[q] {
			if s = as[*stored](f.view.live.objects[s.kind][s.NamespacedName]); s == nil || !slices.Contains(s.serves, from) {
				continue
			}
		}
		for _, m := range s.mirrors {
			if f.left--; f.left < 0 {
				return nil
			}
			own := s.kind == KindVirtualService && m.Service() == from
			if m.IsService() && !own && m.sends && f.better(q, edges[m.Service()]) {
				edges[m.Service()] = q
			}
		}
	}
	return edges
}

// better tells which of two routes should stand for an edge: one that was read live,
// else the same on every replica.
func (f *loopFinder) better(q, than Query) bool {
	if a, b := f.view.covered[q], f.view.covered[than]; a != b {
		return a
	}
	return than == Query{} || cmp.Or(cmp.Compare(q.Kind, than.Kind), strings.Compare(q.Namespace, than.Namespace), strings.Compare(q.Name, than.Name)) < 0
}

// managedBy names the tool that rewrites the route on its own.
func (i *Index) managedBy(doc *route.Route) string {
	for _, owner := range doc.Owners {
		if tool := wellknown.OwnerTool(owner.Group, owner.Kind); tool != "" {
			return tool
		}
	}
	if i.managed[doc.Key] > 0 {
		return wellknown.ArgoRollouts
	}
	return ""
}
