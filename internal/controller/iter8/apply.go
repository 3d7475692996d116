package iter8

// From a route that a document wants to the stored one.

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// wish is a route as a document wants it.
type wish struct {
	*document
	// object is the route with all of its mirrors.
	object map[string]any
	// away says why no mirror of it may be there, "" when policy decides on each.
	away string
	// existing is set when a route is not made, only kept.
	existing bool
}

func (w *wish) key() route.Key {
	u := unstructured.Unstructured{Object: w.object}
	return route.Key{Kind: route.Kind(u.GetKind()), Namespace: u.GetNamespace(), Name: u.GetName()}
}

// claim is a route that a document, by its uid, wants.
type claim struct {
	by  types.UID
	key route.Key
}

// applied is what is known of a claim.
type applied struct {
	// hash is what was applied last; uid and generation are those of the answer.
	hash       [sha256.Size]byte
	uid        types.UID
	generation int64
	// out are the mirrors that it was applied without, nil before the first time.
	out map[string]bool
	// Of the last attempt, if it failed: what was tried on which object, how often, and when to try again.
	failed   [sha256.Size]byte
	result   string
	on       string
	attempts int
	retry    time.Time
}

// want brings a route to what a document wants.
func (s *namespaceState) want(ctx context.Context, w *wish) {
	key := w.key()
	if s.held[key] {
		s.tell(w.document, problemf("RouteTaken", "%s is made by another document or template of this namespace, which came first: this one does not get it", key))
		return
	}
	c := claim{w.cm.UID, key}
	s.wanted[c] = true
	a := s.routes[c]
	if a == nil {
		a = &applied{}
		s.routes[c] = a
	}
	gvr, err := s.run.routes.resource(s.run.kinds, key.Kind)
	if err != nil && !meta.IsNoMatchError(err) { // a moment's
		s.run.opts.Log.V(1).Info("cannot discover routes", "kind", string(key.Kind), "error", err.Error())
		s.again(time.Second)
		return
	}
	if err != nil {
		s.tell(w.document, problemf("RouteRefused", "the cluster has no %s of %s/v1", key.Kind, key.Kind.Group()))
		s.again(slowRetry)
		return
	}
	if synced, failure := s.watches.synced(gvr); !synced {
		if failure != nil {
			s.tell(w.document, problemf("CannotWatch", "%s cannot be watched: %v; docs/iter8.md has the rights that mirrorgate needs", gvr.GroupResource(), failure))
		}
		return
	}
	seen := s.watches.get(gvr, key.Name)
	if w.existing && seen == nil {
		return
	}
	out, why := s.gate(w, a)
	documents.WithoutMirrors(w.object, func(path string) bool { return out[path] })
	body := w.body()
	hash := sha256.Sum256(body)
	if a.attempts == 0 && a.hash == hash && seen != nil && seen.UID == a.uid && seen.Generation <= a.generation {
		s.held[key] = true
		s.run.manage(key, a.uid)
		return
	}
	on := ""
	if seen != nil {
		on = fmt.Sprint(seen.UID, seen.Generation, seen.OwnerReferences, seen.DeletionTimestamp)
	}
	if a.attempts > 0 && a.failed == hash && a.on == on && time.Now().Before(a.retry) {
		s.held[key] = a.result != taken
		s.again(time.Until(a.retry))
		return
	}
	s.settle(w, a, s.apply(ctx, w, a, body), attempt{key, reference(key, seen), hash, on, out, why})
}

// reference names a route as it is stored.
func reference(key route.Key, seen *watched) *corev1.ObjectReference {
	ref := &corev1.ObjectReference{APIVersion: key.Kind.Group() + "/v1", Kind: string(key.Kind), Namespace: key.Namespace, Name: key.Name}
	if seen != nil {
		ref.UID, ref.ResourceVersion = seen.UID, seen.ResourceVersion
	}
	return ref
}

// taken is the result where a route is somebody else's.
const taken = "taken"

// attempt is one application of a route.
type attempt struct {
	key  route.Key
	ref  *corev1.ObjectReference
	hash [sha256.Size]byte
	on   string
	out  map[string]bool
	why  string
}

// settle notes what came of an attempt, and tells of it.
func (s *namespaceState) settle(w *wish, a *applied, f *failure, at attempt) {
	s.held[at.key] = f == nil || f.result != taken
	if f == nil {
		s.announce(w, a, at)
		a.hash, a.out, a.attempts = at.hash, at.out, 0
		s.run.manage(at.key, a.uid)
		s.run.opts.Metrics.applies.WithLabelValues("applied").Inc()
		w.reported.Forget("RouteTaken", "RouteConflict", "RouteRefused", "RouteDelayed")
		return
	}
	if a.failed != at.hash || a.on != at.on {
		a.attempts = 0
	}
	a.failed, a.on, a.result = at.hash, at.on, f.result
	a.attempts++
	wait := slowRetry
	if f.soon {
		wait = loop.Backoff(a.attempts)
	}
	a.retry = time.Now().Add(wait)
	s.again(wait)
	s.run.opts.Metrics.applies.WithLabelValues(f.result).Inc()
	if f.result != "error" && f.result != taken { // what is taken is somebody else's to manage
		s.run.unmanage(at.key)
	}
	s.run.opts.Log.V(1).Info("a route is not applied", "route", at.key.String(), "document", w.cm.Name, "why", f.note, "again", wait.String())
	if !f.soon || a.attempts == 6 { // about two seconds
		f.route = at.ref
		s.tell(w.document, &f.problem)
	}
}

// announce tells of a route that is new, and of mirrors that came or went.
func (s *namespaceState) announce(w *wish, a *applied, at attempt) {
	if a.out != nil && maps.Equal(a.out, at.out) || a.out == nil && a.uid != "" && !a.made() {
		return // as it was, or as another replica had it
	}
	state := "with all of its mirrors"
	if len(at.out) > 0 {
		state = "without " + strings.Join(slices.Sorted(maps.Keys(at.out)), ", ") + ": " + at.why
	}
	s.report(w.document, at.ref, corev1.EventTypeNormal, "RouteApplied", fmt.Sprintf("%s is applied %s", at.key, state))
	s.run.opts.Log.Info("route applied", "route", at.key.String(), "document", w.cm.Name, "state", state)
}

// made tells whether the route has only just been created.
func (a *applied) made() bool { return a.generation == 1 }

// gate tells which mirrors have to stay out, and why the first of them has to.
func (s *namespaceState) gate(w *wish, a *applied) (out map[string]bool, why string) {
	out = map[string]bool{}
	raw, err := json.Marshal(w.object)
	if err != nil { // it came from JSON
		return out, err.Error()
	}
	doc, err := route.Decode(raw, route.Options{ClusterDomain: s.run.opts.ClusterDomain, Namespace: s.namespace})
	if err != nil {
		return out, err.Error() // the API server says it better
	}
	leave := func(m *route.Mirror, because string) {
		out[m.Path] = true
		if why == "" {
			why = because
		}
	}
	if w.away != "" {
		for _, m := range doc.Every {
			leave(m, w.away)
		}
		return out, why
	}
	snap := s.run.index.Snapshot(doc)
	for _, m := range doc.Every {
		if target := m.Target.WithoutPort(); a.out[m.Path] { // a grace brings nothing back
			v := snap.Variants[target]
			v.WasParked = true
			snap.Variants[target] = v
		}
	}
	rules := s.run.opts.Policy
	rules.Strict = false // nothing is parked, so that nothing has to be denied in place of it
	decision, err := policy.Decide(doc, snap, rules)
	if err != nil {
		return out, err.Error()
	}
	if snap.Recheck > 0 {
		s.again(snap.Recheck)
	}
	for _, v := range decision.Verdicts {
		if v.Park {
			leave(v.Mirror, fmt.Sprintf("%s: %s", v.Reason, v.Detail))
			s.again(recheck)
		}
	}
	s.judge(w, doc, decision.Findings, leave)
	return out, why
}

// judge leaves out what admission would deny, and says what is wrong.
func (s *namespaceState) judge(w *wish, doc *route.Route, findings []policy.Finding, leave func(*route.Mirror, string)) {
	var texts []string
	for _, f := range findings {
		texts = append(texts, f.Error())
		for rule, m := range doc.Every {
			// A finding is about a mirror, or about the rule.
			if strings.HasPrefix(f.Field, m.Path) || !strings.Contains(f.Field, "irror") && strings.HasPrefix(f.Field, rule.Path) {
				leave(m, f.Error())
			}
		}
	}
	if len(texts) == 0 {
		w.reported.Forget("MirrorRefused")
		return
	}
	s.tell(w.document, problemf("MirrorRefused", "%s", strings.Join(slices.Compact(texts), "; ")))
}

// body is what is applied.
func (w *wish) body() []byte {
	metadata, _ := w.object["metadata"].(map[string]any)
	metadata["ownerReferences"] = []any{map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "name": w.cm.Name, "uid": string(w.cm.UID), "controller": true,
	}}
	raw, err := json.Marshal(w.object)
	if err != nil {
		return nil // it came from JSON
	}
	return raw
}

// failure is why a route was not applied. Soon is set for what may go right in a moment.
type failure struct {
	problem
	result string
	soon   bool
}

func failed(result, reason, format string, args ...any) *failure {
	return &failure{problem: *problemf(reason, format, args...), result: result}
}

func later(format string, args ...any) *failure {
	f := failed("error", "RouteDelayed", format, args...)
	f.soon = true
	return f
}

// apply applies the route unless it is somebody else's.
func (s *namespaceState) apply(ctx context.Context, w *wish, a *applied, body []byte) *failure {
	key, routes := w.key(), s.run.routes
	live, err := routes.get(ctx, key)
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case err != nil:
		return later("%s cannot be read: %v", key, err)
	}
	if f := s.foreign(w, live); f != nil {
		return f
	}
	if live != nil { // this one, and not another that takes its name meanwhile
		body = withUID(body, live.GetUID())
	}
	answer, err := routes.apply(ctx, key, body)
	if err != nil {
		return refusal(key, err)
	}
	if live == nil {
		if others := managersOf(answer); len(others) > 0 { // it came between
			if err := routes.release(ctx, key, answer.GetUID()); err != nil {
				return later("%s: %v", key, err)
			}
			return failed(taken, "RouteTaken", "%s exists and is not of this document; field managers: %s", key, strings.Join(others, ", "))
		}
	}
	if f := s.clean(ctx, key, answer); f != nil {
		return f
	}
	a.uid, a.generation = answer.GetUID(), answer.GetGeneration()
	return nil
}

// foreign tells whose a route is that this document does not have.
func (s *namespaceState) foreign(w *wish, live *unstructured.Unstructured) *failure {
	if live == nil {
		return nil
	}
	key := w.key()
	if live.GetDeletionTimestamp() != nil {
		return later("%s is being deleted", key)
	}
	for _, owner := range live.GetOwnerReferences() {
		if owner.Kind != "ConfigMap" || owner.APIVersion != "v1" {
			continue
		}
		if owner.UID == w.cm.UID || owner.Name == w.cm.Name && appliedByUs(live) { // an immutable ConfigMap that was replaced
			return nil
		}
		if s.read[owner.UID] == nil && appliedByUs(live) { // the garbage collector has not come to it yet
			return later("%s is of ConfigMap %q, which is gone", key, owner.Name)
		}
		return failed(taken, "RouteTaken", "%s is of ConfigMap %q: two documents cannot have the same route", key, owner.Name)
	}
	return failed(taken, "RouteTaken", "%s exists and is of nobody's documents; field managers: %s. Delete it, and this document makes its own",
		key, strings.Join(managersOf(live), ", "))
}

// clean takes our annotations off a route that admission decided on while it was not ours.
func (s *namespaceState) clean(ctx context.Context, key route.Key, answer *unstructured.Unstructured) *failure {
	annotations := answer.GetAnnotations()
	_, parked := annotations[route.ParkedAnnotation]
	_, variants := annotations[route.VariantsAnnotation]
	if !parked && !variants {
		return nil
	}
	cleaned, err := s.run.routes.clean(ctx, key, answer.GetUID())
	if err != nil {
		return later("%s: %v", key, err)
	}
	*answer = *cleaned
	return nil
}

// refusal tells what to do about an answer of the API server.
func refusal(key route.Key, err error) *failure {
	var status apierrors.APIStatus
	conflict := apierrors.IsConflict(err) && errors.As(err, &status) && status.Status().Details != nil &&
		slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Type == metav1.CauseTypeFieldManagerConflict })
	switch {
	case conflict:
		return failed("conflict", "RouteConflict", "%s: somebody else set what this document sets, and is not overruled: %v", key, err)
	case apierrors.HasStatusCause(err, "NamespaceTerminating"):
		return failed("refused", "", "%s: %v", key, err)
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return later("%s: %v", key, err)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err), strings.Contains(err.Error(), "field not declared in schema"):
		return failed("refused", "RouteRefused", "the API server refuses %s: %v", key, err)
	}
	return later("%s: %v", key, err)
}
