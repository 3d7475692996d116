package iter8

// From the route that a document wants to the stored one.

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// desired is a route as a document wants it.
type desired struct {
	*document
	// object is the route with all of its mirrors.
	object map[string]any
	// noMirrors is the reason why the route may have no mirror, "" when policy decides on each.
	noMirrors string
	// updateOnly is set when the route is not created, only kept up to date.
	updateOnly bool
	// rendered is the result of a template that object is, nil for the route of a policy.
	rendered *rendered
	// away says which versions of a routemap are not there, and why.
	away string
	// shared is set where somebody else made the route, and has given its fields to the document.
	shared bool
}

func (d *desired) key() route.Key {
	u := unstructured.Unstructured{Object: d.object}
	return route.Key{Kind: route.Kind(u.GetKind()), Namespace: u.GetNamespace(), Name: u.GetName()}
}

// body returns the request that applies the route: to the object with a uid, or to any if it is "". A route of
// somebody else gets no owner reference, so that it outlives the document.
func (d *desired) body(uid types.UID) []byte {
	metadata, _ := d.object["metadata"].(map[string]any)
	if uid != "" {
		metadata["uid"] = string(uid)
	}
	if !d.shared {
		metadata["ownerReferences"] = []any{map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "name": d.cm.Name, "uid": string(d.cm.UID), "controller": true,
		}}
	}
	return encode(d.object)
}

// claim is a route that a document wants.
type claim struct {
	document types.UID
	key      route.Key
}

// applied is the latest application of a claim.
type applied struct {
	// hash is that of the body; uid and generation are those of the response.
	hash       [sha256.Size]byte
	uid        types.UID
	generation int64
	// created is set if this application made the route, wrote if it changed it.
	created, wrote bool
	// out are the mirrors that were left out, by their ids, and mirrors those that the route has; both are nil
	// before the first application.
	out     map[string]string
	mirrors []mirror
	// failed is the latest attempt if it failed, else nil.
	failed *attempt
}

// attempt is one application of a route.
type attempt struct {
	key    route.Key
	stored *watched // the route before it, nil if there was none
	hash   [sha256.Size]byte
	out    leftOut
	// mirrors are those that are left in the route.
	mirrors []mirror
	// If it failed: the result, the number of attempts in vain up to this one, and when to make the next.
	result   string
	failures int
	retry    time.Time
}

// repeats reports whether the attempt is the same as an earlier one, on the same state of the stored route.
func (at *attempt) repeats(earlier *attempt) bool {
	return earlier != nil && earlier.hash == at.hash && earlier.observed() == at.observed()
}

// observed identifies the state of the stored route.
func (at *attempt) observed() string {
	if at.stored == nil {
		return ""
	}
	return fmt.Sprint(at.stored.UID, at.stored.Generation, at.stored.OwnerReferences, at.stored.DeletionTimestamp, at.stored.Annotations)
}

// reference names the route as it is stored.
func (at *attempt) reference() *corev1.ObjectReference {
	ref := &corev1.ObjectReference{
		APIVersion: at.key.Kind.Group() + "/v1", Kind: string(at.key.Kind), Namespace: at.key.Namespace, Name: at.key.Name,
	}
	if at.stored != nil {
		ref.UID, ref.ResourceVersion = at.stored.UID, at.stored.ResourceVersion
	}
	return ref
}

// bring makes the stored route the desired one. It writes only where the two differ.
func (s *namespaceState) bring(ctx context.Context, d *desired) {
	key := d.key()
	if s.held[key] {
		s.warn(d.document, problemf("RouteTaken", "%s is made by another document or template of this namespace, which came first: this one does not get it", key))
		return
	}
	c := claim{d.cm.UID, key}
	s.claimed[c] = true
	a := s.routes[c]
	if a == nil {
		a = &applied{}
		s.routes[c] = a
	}
	gvr, ok := s.listedRoutes(d)
	if !ok {
		return
	}
	at := attempt{key: key, stored: s.watches.get(gvr, key.Name)}
	if d.updateOnly && at.stored == nil {
		return
	}
	d.shared = at.stored.givenTo(d.cm.Name)
	at.out, at.mirrors = s.gate(d, at.stored, a.out)
	at.hash = sha256.Sum256(d.body(""))
	if a.failed == nil && a.hash == at.hash && at.stored != nil && at.stored.UID == a.uid && at.stored.Generation <= a.generation {
		s.held[key] = true
		s.run.managed.Store(key, a.uid)
		a.created, a.wrote = false, false
		s.announce(d, a, &at)
		return
	}
	if at.repeats(a.failed) && time.Now().Before(a.failed.retry) {
		s.held[key] = a.failed.result != taken
		s.recheckIn(time.Until(a.failed.retry))
		return
	}
	s.record(d, a, s.apply(ctx, d, a), at)
}

// listedRoutes returns the resource of a route. It returns false while the cluster has none, or its objects
// are not listed yet.
func (s *namespaceState) listedRoutes(d *desired) (schema.GroupVersionResource, bool) {
	kind := d.key().Kind
	gvr, err := s.run.routes.resource(s.run.kinds, kind)
	switch {
	case meta.IsNoMatchError(err):
		s.warn(d.document, problemf("RouteRefused", "the cluster has no %s of %s/v1", kind, kind.Group()))
		s.recheckIn(slowRetry)
		return gvr, false
	case err != nil:
		s.run.opts.Log.V(1).Info("Cannot discover routes", "kind", string(kind), "error", err.Error())
		s.recheckIn(time.Second)
		return gvr, false
	}
	listed, err := s.watches.listed(gvr)
	if !listed && err != nil {
		s.warn(d.document, cannotWatch(gvr, err))
	}
	return gvr, listed
}

// record keeps the outcome of an attempt, and reports it.
func (s *namespaceState) record(d *desired, a *applied, f *failure, at attempt) {
	s.held[at.key] = f == nil || f.result != taken
	if f == nil {
		s.announce(d, a, &at)
		a.hash, a.failed = at.hash, nil
		s.run.managed.Store(at.key, a.uid)
		s.run.opts.Metrics.applies.WithLabelValues("applied").Inc()
		d.reported.Forget("RouteTaken", "RouteConflict", "RouteRefused", "RouteDelayed")
		return
	}
	at.result, at.failures = f.result, 1
	if at.repeats(a.failed) {
		at.failures += a.failed.failures
	}
	delay := slowRetry
	if f.transient {
		delay = loop.Backoff(at.failures)
	}
	at.retry = time.Now().Add(delay)
	a.failed = &at
	s.recheckIn(delay)
	s.run.opts.Metrics.applies.WithLabelValues(f.result).Inc()
	if f.result != transientError && f.result != taken { // another document manages a route that is taken
		s.run.managed.Delete(at.key)
	}
	s.run.opts.Log.V(1).Info("A route is not applied", "route", at.key.String(), "document", d.cm.Name, "why", f.note, "retry", delay.String())
	if !f.transient || at.failures == delayed {
		f.route = at.reference()
		s.warn(d.document, &f.problem)
	}
}

// delayed is the number of attempts in vain after which an Event reports a failure that may pass by itself,
// about two seconds after the first.
const delayed = 6

// apply applies the route unless it belongs to somebody else.
func (s *namespaceState) apply(ctx context.Context, d *desired, a *applied) *failure {
	key, routes := d.key(), s.run.routes
	live, err := routes.get(ctx, key)
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case err != nil:
		return transient("%s cannot be read: %v", key, err)
	}
	if f := s.checkOwner(d, live); f != nil {
		return f
	}
	uid := types.UID("")
	if live != nil { // this very object, and no other one that takes its name meanwhile
		uid = live.GetUID()
	}
	stored, err := routes.apply(ctx, key, d.body(uid), d.shared)
	if err != nil {
		return applyFailed(d, err)
	}
	if live == nil {
		if others := managersOf(stored); len(others) > 0 { // somebody created it meanwhile
			if err := routes.release(ctx, key, stored.GetUID()); err != nil {
				return transient("%s: %v", key, err)
			}
			return failed(taken, "RouteTaken", "%s exists and does not belong to this document; field managers: %s", key, strings.Join(others, ", "))
		}
	}
	// Admission decided on the route while it followed no document.
	if annotated(stored) {
		if stored, err = routes.clean(ctx, key, stored.GetUID()); err != nil {
			return transient("%s: %v", key, err)
		}
	}
	a.created = live == nil
	a.wrote = live == nil || stored.GetGeneration() != live.GetGeneration()
	a.uid, a.generation = stored.GetUID(), stored.GetGeneration()
	return nil
}
