package iter8

// A namespace with documents in it, and its reconciliation. Documents are served one after the other, the
// oldest first, so that the oldest of several that want the same route creates it. The document that has
// created a route keeps it: the route's owner reference names it.

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// namespaceState is used by one worker at a time.
type namespaceState struct {
	run       *run
	namespace string
	watches   *watches
	readiness map[types.UID]*readiness
	documents map[types.UID]*document
	routes    map[claim]*applied

	// pass numbers the reconciliations. The fields below belong to the current one.
	pass int
	// needed are the resources to watch.
	needed map[schema.GroupVersionResource]bool
	// claimed are the claims of all documents.
	claimed map[claim]bool
	// held are the routes whose document has been found.
	held map[route.Key]bool
	// recheck is the time until the next reconciliation, 0 for none.
	recheck time.Duration
}

func newNamespaceState(r *run, namespace string) *namespaceState {
	return &namespaceState{
		run: r, namespace: namespace,
		watches: &watches{
			client: r.objects, namespace: namespace, changed: func() { r.loop.Add(namespace) },
			running: map[schema.GroupVersionResource]*watch{},
		},
		readiness: map[types.UID]*readiness{}, documents: map[types.UID]*document{}, routes: map[claim]*applied{},
	}
}

// recheckIn makes the next reconciliation come after d at the latest.
func (s *namespaceState) recheckIn(d time.Duration) {
	if s.recheck == 0 || d < s.recheck {
		s.recheck = max(d, time.Millisecond)
	}
}

// reconcile serves all documents, and returns the time until the next reconciliation, 0 for none.
func (s *namespaceState) reconcile(ctx context.Context, configmaps []*corev1.ConfigMap) time.Duration {
	s.pass++
	s.needed, s.claimed, s.held, s.recheck = map[schema.GroupVersionResource]bool{}, map[claim]bool{}, map[route.Key]bool{}, 0
	docs := s.readAll(configmaps)
	subjects := s.subjects(docs)
	var plans []*plan
	for _, d := range docs {
		if d.invalid == nil && d.cm.DeletionTimestamp == nil && d.Subject == nil {
			plans = append(plans, s.plan(d, subjects))
		}
	}
	s.watches.keep(s.run.ctx, s.needed) //nolint:contextcheck // watches live as long as the run, not as one reconciliation
	for _, p := range plans {
		s.serve(ctx, p)
	}
	for _, d := range docs {
		if d.invalid != nil {
			s.warn(d, d.invalid)
		}
	}
	s.prune()
	s.run.opts.Metrics.count(s.namespace, docs)
	return s.recheck
}

// unmanage gives a route up, unless another document has it.
func (s *namespaceState) unmanage(key route.Key) {
	if !s.held[key] {
		s.run.managed.Delete(key)
	}
}

// prune forgets the routes that no document claims any more, and the objects that none names.
func (s *namespaceState) prune() {
	for c := range s.routes {
		if !s.claimed[c] {
			delete(s.routes, c)
			s.unmanage(c.key)
		}
	}
	for uid, r := range s.readiness {
		if r.pass != s.pass {
			delete(s.readiness, uid)
		}
	}
}

// end gives up all routes, since the namespace has no documents any more.
func (s *namespaceState) end() {
	s.watches.keep(s.run.ctx, nil)
	s.claimed, s.held = nil, nil
	s.prune()
	s.run.opts.Metrics.count(s.namespace, nil)
}
