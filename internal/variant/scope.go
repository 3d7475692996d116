package variant

// MirrorLimits and MirrorPolicies: those that concern a route, and the routes that a change of one concerns.

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apilabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// namespace is a Namespace, by whose labels MirrorLimits select routes.
type namespace struct {
	id
	labels labels
}

func (n *namespace) equal(other record) bool {
	return slices.Equal(n.labels, other.(*namespace).labels)
}

func fromNamespace(o metav1.Object) *namespace {
	n := &namespace{id: idOf(KindNamespace, o), labels: newLabels(o.GetLabels())}
	n.Namespace = "" // manifests are given a namespace
	return n
}

// mirrorLimit is a MirrorLimit.
type mirrorLimit struct {
	id
	selector apilabels.Selector
	limit    limits.Limit
	// text is the JSON of the spec, by which two versions are compared.
	text string
}

func (l *mirrorLimit) equal(other record) bool { return l.text == other.(*mirrorLimit).text }

func parseMirrorLimit(h *header, raw []byte) (record, error) {
	var o v1alpha1.MirrorLimit
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	l := &mirrorLimit{id: h.id(KindMirrorLimit), selector: apilabels.Everything()}
	l.Namespace = "" // manifests are given a namespace
	var err error
	if o.Spec.NamespaceSelector != nil {
		if l.selector, err = metav1.LabelSelectorAsSelector(o.Spec.NamespaceSelector); err != nil {
			return nil, err
		}
	}
	l.limit = limits.Limit{Name: o.Name, MaxPercent: o.Spec.MaxPercent, Action: limits.Action(cmp.Or(o.Spec.Action, v1alpha1.ActionLimit))}
	if o.Spec.MaxMirrors != nil {
		l.limit.MaxMirrors = new(int(*o.Spec.MaxMirrors))
	}
	if o.Spec.Targets != nil {
		l.limit.Namespaces = o.Spec.Targets.Namespaces
	}
	l.limit.MaxLoad, l.limit.RequireExpiry = o.Spec.MaxLoad, o.Spec.RequireExpiry
	if o.Spec.MaxDuration != nil {
		l.limit.MaxDuration = o.Spec.MaxDuration.Duration
	}
	for _, method := range o.Spec.Methods {
		l.limit.Methods = append(l.limit.Methods, string(method))
	}
	text, err := json.Marshal(o.Spec)
	l.text = string(text)
	return l, err
}

// mirrorPolicy is a MirrorPolicy.
type mirrorPolicy struct {
	id
	created string
	// words is a hash of everything that people wrote, so that the leader hears of each change.
	words uint64
	// stop is nil where nothing stops the mirrors by itself.
	stop *v1alpha1.Stop
	// resumed is the value of v1alpha1.AnnotationResume.
	resumed string
	// targets are the routes that it is about, with its state for each.
	targets []policyTarget
}

type policyTarget struct {
	route route.Key
	state limits.Policy
}

func (p *mirrorPolicy) equal(other record) bool {
	o := other.(*mirrorPolicy)
	return p.created == o.created && p.words == o.words && reflect.DeepEqual(p.targets, o.targets)
}

func parseMirrorPolicy(h *header, raw []byte) (record, error) {
	var o v1alpha1.MirrorPolicy
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	p := &mirrorPolicy{id: h.id(KindMirrorPolicy), created: h.Metadata.CreationTimestamp, stop: o.Spec.Stop, resumed: o.Annotations[v1alpha1.AnnotationResume]}
	var err error
	if p.words, err = wordsOf(&o); err != nil {
		return nil, err
	}
	for _, ref := range o.Spec.TargetRefs {
		p.targets = append(p.targets, policyTarget{
			route: route.Key{Kind: routeKind(ref.Kind), Namespace: p.Namespace, Name: ref.Name},
			state: stateOf(&o, ref, p.Name),
		})
	}
	return p, nil
}

// routeKind returns the constant of a kind of route, so that no policy has a text of its own for it.
func routeKind(text string) route.Kind {
	for _, kind := range []route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService} {
		if text == string(kind) {
			return kind
		}
	}
	return route.Kind(text)
}

// wordsOf returns a hash of the spec and of the annotations by which people steer a policy.
func wordsOf(o *v1alpha1.MirrorPolicy) (uint64, error) {
	text, err := json.Marshal([]any{
		o.Spec, o.Annotations[v1alpha1.AnnotationResume], o.Annotations[v1alpha1.AnnotationStop], o.Annotations[v1alpha1.AnnotationStep],
	})
	h := fnv.New64a()
	_, _ = h.Write(text)
	return h.Sum64(), err
}

// stateOf returns the state of a policy for one of its targets. Before its leader has written the status, the first step
// is the current one.
func stateOf(o *v1alpha1.MirrorPolicy, ref v1alpha1.TargetRef, name string) limits.Policy {
	p := limits.Policy{Name: name, Section: ref.SectionName}
	var status v1alpha1.TargetStatus
	if i := slices.IndexFunc(o.Status.Targets, func(s v1alpha1.TargetStatus) bool { return s.TargetRef == ref }); i >= 0 {
		status = o.Status.Targets[i]
	}
	p.Expires, p.ActiveSince, p.Expired = timeOf(o.Spec.Expires), timeOf(status.ActiveSince), status.Expired != nil
	if s := status.Stopped; s != nil {
		p.Stopped = cmp.Or(s.Message, string(s.Reason))
	}
	p.ExpiresAt = timeOf(status.ExpiresAt)
	if o.Spec.After != nil {
		p.After = o.Spec.After.Duration
	}
	if o.Spec.Ramp == nil || len(o.Spec.Ramp.Steps) == 0 {
		return p
	}
	steps := o.Spec.Ramp.Steps
	step := 0
	if status.Step != nil {
		step = min(max(int(*status.Step), 0), len(steps)-1)
	}
	p.Percent, p.Step, p.Steps = steps[step].Percent, step+1, len(steps)
	p.Since = timeOf(status.Since)
	if steps[step].For != nil && step+1 < len(steps) {
		p.For, p.Next = steps[step].For.Duration, steps[step+1].Percent
	}
	return p
}

// timeOf returns a time of the API, nil for none.
func timeOf(t *metav1.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC())
}

func nameOnly(name string) types.NamespacedName { return types.NamespacedName{Name: name} }

// scopes finds the limits and policies of routes.
type scopes struct {
	policies map[route.Key][]*mirrorPolicy

	mu sync.Mutex
	// counts are the ready pods of Services, by the labels of a subset.
	counts map[types.NamespacedName]map[string]*heldCount
	// limits are those that select a namespace; they are worked out once, until a label or a limit changes.
	limits map[string][]limits.Limit
}

// scope returns the limits and policies for a route.
func (i *Index) scope(rt *route.Route) limits.Scope {
	scope := limits.Scope{Limits: i.limitsOf(rt.Namespace)}
	policies := i.scopes.policies[rt.Key]
	if len(policies) > 1 {
		policies = slices.Clone(policies)
		slices.SortFunc(policies, (*mirrorPolicy).compare)
	}
	for _, p := range policies {
		for _, t := range p.targets {
			if t.route == rt.Key {
				scope.Policies = append(scope.Policies, t.state)
			}
		}
	}
	return scope
}

func (i *Index) limitsOf(name string) []limits.Limit {
	if len(i.objects[KindMirrorLimit]) == 0 {
		return nil
	}
	i.scopes.mu.Lock()
	defer i.scopes.mu.Unlock()
	found, known := i.scopes.limits[name]
	if known {
		return found
	}
	set := i.namespaceLabels(name)
	for _, rec := range i.objects[KindMirrorLimit] {
		if l := rec.(*mirrorLimit); l.selector.Matches(set) {
			found = append(found, l.limit)
		}
	}
	slices.SortFunc(found, func(a, b limits.Limit) int { return strings.Compare(a.Name, b.Name) })
	if i.scopes.limits == nil {
		i.scopes.limits = map[string][]limits.Limit{}
	}
	i.scopes.limits[name] = found
	return found
}

// namespaceLabels returns the labels of a namespace. Every namespace has that of its name, also one that is in no
// manifest.
func (i *Index) namespaceLabels(name string) apilabels.Set {
	set := apilabels.Set{corev1.LabelMetadataName: name}
	if n, ok := i.objects[KindNamespace][nameOnly(name)].(*namespace); ok {
		for _, l := range n.labels {
			set[l.Value().key] = l.Value().value
		}
	}
	return set
}

func (i *Index) changeNamespace(old, n *namespace, a *affected) {
	if len(i.objects[KindMirrorLimit]) == 0 {
		return
	}
	i.forgetLimits()
	i.affectNamespaces(a, func(name string) bool { return name == cmp.Or(n, old).Name })
}

func (i *Index) changeMirrorLimit(old, l *mirrorLimit, a *affected) {
	i.forgetLimits()
	selected := map[string]bool{}
	i.affectNamespaces(a, func(name string) bool {
		is, known := selected[name]
		if !known {
			set := i.namespaceLabels(name)
			is = old != nil && old.selector.Matches(set) || l != nil && l.selector.Matches(set)
			selected[name] = is
		}
		return is
	})
}

// affectNamespaces adds the routes of namespaces.
func (i *Index) affectNamespaces(a *affected, is func(string) bool) {
	for kind := KindHTTPRoute; kind < kindCount; kind++ {
		for _, rec := range i.objects[kind] {
			if s := rec.(*storedRoute); s.mirrored() && is(s.Namespace) {
				a.addRoute(s.key())
			}
		}
	}
}

func (i *Index) forgetLimits() {
	i.scopes.mu.Lock()
	defer i.scopes.mu.Unlock()
	clear(i.scopes.limits)
}

func (i *Index) changeMirrorPolicy(old, p *mirrorPolicy, a *affected) {
	keys := map[route.Key]bool{}
	for key := range old.routes() {
		removeFrom(i.scopes.policies, key, old)
		keys[key] = true
	}
	for key := range p.routes() {
		if i.scopes.policies == nil {
			i.scopes.policies = map[route.Key][]*mirrorPolicy{}
		}
		addTo(i.scopes.policies, key, p)
		keys[key] = true
	}
	for key := range keys {
		a.addRoute(key)
	}
}

// routes returns the routes that a policy is about, none for no policy.
func (p *mirrorPolicy) routes() map[route.Key]bool {
	if p == nil {
		return nil
	}
	keys := map[route.Key]bool{}
	for _, t := range p.targets {
		keys[t.route] = true
	}
	return keys
}

// Policies yields the names of all MirrorPolicies.
func (i *Index) Policies() iter.Seq[types.NamespacedName] {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Values(slices.Collect(maps.Keys(i.objects[KindMirrorPolicy])))
}

// Stop is a target of a MirrorPolicy that stops by itself.
type Stop struct {
	Policy types.NamespacedName
	// Route is the route, and Section the name of its rule, "" for all but Others.
	Route   route.Key
	Section string
	// Others are the rules that have policies of their own.
	Others []string
	Spec   *v1alpha1.Stop
	// Resumed is the value of v1alpha1.AnnotationResume: what led to a stop before it counts no more.
	Resumed string
	// Stopped is set while it is stopped, or has expired.
	Stopped bool
}

// Stops returns the targets of all MirrorPolicies that stop by themselves, without those that an older policy has.
func (i *Index) Stops() (found []Stop) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	for _, rec := range i.objects[KindMirrorPolicy] {
		p := rec.(*mirrorPolicy)
		if p.stop == nil {
			continue
		}
		for _, t := range p.targets {
			if !i.scopes.holds(p, &t) {
				continue
			}
			s := Stop{
				Policy: p.NamespacedName, Route: t.route, Section: t.state.Section, Spec: p.stop, Resumed: p.resumed,
				Stopped: t.state.Stopped != "" || t.state.Expired,
			}
			if s.Section == "" {
				s.Others = i.scopes.sections(t.route)
			}
			found = append(found, s)
		}
	}
	return found
}

// PolicyStates counts the targets of MirrorPolicies by state: stopped, expired, ramping, or full.
func (i *Index) PolicyStates() map[string]int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	states := map[string]int{"stopped": 0, "expired": 0, "ramping": 0, "full": 0}
	for _, rec := range i.objects[KindMirrorPolicy] {
		for _, t := range rec.(*mirrorPolicy).targets {
			switch s := &t.state; {
			case s.Expired:
				states["expired"]++
			case s.Stopped != "":
				states["stopped"]++
			case s.Step < s.Steps:
				states["ramping"]++
			default:
				states["full"]++
			}
		}
	}
	return states
}

// holds reports whether a policy is the oldest one for a target.
func (s *scopes) holds(p *mirrorPolicy, t *policyTarget) bool {
	for _, other := range s.policies[t.route] {
		if other.precedes(p) && slices.ContainsFunc(other.targets, func(o policyTarget) bool { return o.route == t.route && o.state.Section == t.state.Section }) {
			return false
		}
	}
	return true
}

// precedes reports whether a policy holds against another one.
func (p *mirrorPolicy) precedes(other *mirrorPolicy) bool { return p.compare(other) < 0 }

func (p *mirrorPolicy) compare(other *mirrorPolicy) int {
	return cmp.Or(strings.Compare(p.created, other.created), strings.Compare(p.Name, other.Name))
}

// sections returns the rules of a route that have policies of their own.
func (s *scopes) sections(key route.Key) (names []string) {
	for _, p := range s.policies[key] {
		for _, t := range p.targets {
			if t.route == key && t.state.Section != "" {
				names = append(names, t.state.Section)
			}
		}
	}
	return names
}

// PoliciesFor returns the names of the MirrorPolicies for some routes.
func (i *Index) PoliciesFor(keys []route.Key) []types.NamespacedName {
	i.mu.RLock()
	defer i.mu.RUnlock()
	names := map[types.NamespacedName]bool{}
	for _, key := range keys {
		for _, p := range i.scopes.policies[key] {
			names[p.NamespacedName] = true
		}
	}
	return slices.Collect(maps.Keys(names))
}
