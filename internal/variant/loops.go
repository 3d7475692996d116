package variant

// Loops: mirrors by which copies of requests come back to the route that made them. The Services are the
// nodes of a graph, and the mirrors of the routes in front of them are its edges.

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// maxEdges bounds the number of mirrors that are followed in search of the loops of one route. A real loop is
// found within a few.
const maxEdges = 100_000

// loop is how copies of a mirror come back to a Service that the mirror's route stands in front of. The zero
// value is no loop.
type loop struct {
	// path names the Services of the loop: "default/b -> default/a".
	path string
	// via are the other routes of the loop, one from each Service to the next.
	via []Query
}

// loopFinder finds the loops of one route.
type loopFinder struct {
	view *view
	rt   *route.Route
	// edges is how many more mirrors may be followed.
	edges int
}

// find returns the shortest loop that starts with a mirror to target.
func (f *loopFinder) find(target route.Target) loop {
	start := target.Service()
	if f.rt.Kind != route.VirtualService && slices.Contains(f.rt.Serves, start) {
		return loop{path: start.String()}
	}
	visited := map[route.ServiceName]bool{start: true}
	for queue := []*step{{to: start}}; len(queue) > 0; queue = queue[1:] {
		edges := f.mirroredFrom(queue[0].to)
		// Sorted, so that every replica finds the same loop.
		for _, next := range slices.SortedFunc(maps.Keys(edges), compareNames) {
			if visited[next] {
				continue
			}
			visited[next] = true
			s := &step{to: next, via: edges[next], previous: queue[0]}
			if slices.Contains(f.rt.Serves, next) {
				return s.loop()
			}
			queue = append(queue, s)
		}
	}
	return loop{}
}

// step is the last edge of a path through the graph; that of the first node has no previous one.
type step struct {
	to       route.ServiceName
	via      Query
	previous *step
}

// loop returns the loop that the step closes.
func (s *step) loop() loop {
	var l loop
	var names []string
	for ; s.previous != nil; s = s.previous {
		names = append(names, s.to.String())
		l.via = append(l.via, s.via)
	}
	names = append(names, s.to.String())
	slices.Reverse(names)
	l.path = strings.Join(names, " -> ")
	return l
}

func compareNames(a, b route.ServiceName) int { return strings.Compare(a.String(), b.String()) }

// mirroredFrom returns the Services to which other routes in front of a Service mirror, each with one of
// these routes. A VirtualService that mirrors to its own host is no edge: the copy goes straight to the
// endpoints.
func (f *loopFinder) mirroredFrom(from route.ServiceName) map[route.ServiceName]Query {
	edges := map[route.ServiceName]Query{}
	for s := range f.view.base.routesByParent[types.NamespacedName(from)] {
		if s.key() == f.rt.Key {
			continue
		}
		q := routeQuery(s)
		if f.view.covered[q] {
			if s = as[*storedRoute](f.view.live.objects[s.kind][s.NamespacedName]); s == nil || !slices.Contains(s.serves, from) {
				continue
			}
		}
		for _, m := range s.mirrors {
			if f.edges--; f.edges < 0 {
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

// better reports whether a route stands for an edge rather than another one, which is zero when there is
// none: a route that was read live comes first, then the order is the same on every replica.
func (f *loopFinder) better(q, other Query) bool {
	if a, b := f.view.covered[q], f.view.covered[other]; a != b {
		return a
	}
	return other == Query{} || cmp.Or(
		cmp.Compare(q.Kind, other.Kind), strings.Compare(q.Namespace, other.Namespace), strings.Compare(q.Name, other.Name)) < 0
}
