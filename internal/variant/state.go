package variant

// The state of a variant: the rules of DESIGN, section 2, in one place for
// the caches, the live reads and the manifests.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

func (v *view) snapshot(doc *route.Route) policy.Snapshot {
	snap := policy.Snapshot{
		Variants:  map[route.Target]policy.Variant{},
		Loops:     map[route.Target]string{},
		ManagedBy: v.base.managedBy(doc),
	}
	loops := loopFinder{view: v, doc: doc, left: maxEdges}
	v.ways = nil
	for m := range mirrors(doc) {
		key := m.Target.WithoutPort()
		known, done := snap.Variants[key]
		// Two spellings of one host can differ in whether a ServiceEntry has it.
		if done && (known.External || !m.ShortHost) {
			continue
		}
		snap.Variants[key] = v.variant(doc, m)
		if done || !m.Target.IsService() {
			continue
		}
		if back := loops.wayBack(key); back.text != "" {
			snap.Loops[key] = back.text
			if v.ways == nil {
				v.ways = map[route.Target]way{}
			}
			v.ways[key] = back
		}
	}
	snap.Recheck = v.recheck
	return snap
}

func (v *view) variant(doc *route.Route, m *route.Mirror) policy.Variant {
	switch {
	case m.Target.IsService():
		return v.ofService(doc, m)
	case m.Target.Group == "" && m.Target.Kind == route.TargetHost:
		return v.ofHost(doc, m)
	default:
		// What this is we cannot tell; policy refuses the kind.
		return policy.Variant{State: policy.Ready, Exists: true}
	}
}

// ofHost judges a host outside the cluster.
func (v *view) ofHost(doc *route.Route, m *route.Mirror) policy.Variant {
	host := m.Target.Name
	e := v.entry(covering(host), doc.Namespace)
	if e == nil {
		return absent(policy.HostNotFound, "no ServiceEntry defines host %q", host)
	}
	variant := policy.Variant{State: policy.Ready, Exists: true, External: true}
	rules := v.rulesFor(host, e.Namespace, doc.Namespace)
	variant.HasDestinationRule = len(rules) > 0
	variant.Subsets, _, _ = subsetsOf(rules, "")
	return variant
}

func (v *view) ofService(doc *route.Route, m *route.Mirror) policy.Variant {
	name := types.NamespacedName(m.Target.Service())
	var rules []*rule
	if doc.Kind == route.VirtualService {
		// A ServiceEntry with the very host goes before the Service we read into it.
		hosts := []string{v.base.fqdn(m.Target.Service())}
		if m.ShortHost {
			hosts = []string{m.Host}
		}
		if (m.ShortHost || v.service(name) == nil) && v.entry(hosts, doc.Namespace) != nil {
			return policy.Variant{State: policy.Ready, Exists: true, External: true}
		}
		rules = v.rulesFor(v.base.fqdn(m.Target.Service()), name.Namespace, doc.Namespace)
	}
	variant := v.serviceState(name, m.Target.Subset, rules, doc.Namespace)
	variant.HasDestinationRule = len(rules) > 0
	variant.Subsets, _, _ = subsetsOf(rules, "")
	if s := v.service(name); s != nil {
		variant.Exists = true
		variant.ExternalName = s.externalName
		variant.Ports = slices.Clone(s.ports)
	}
	variant.Ungranted = crosses(doc.Kind, doc.Namespace, m.Target) && !v.granted(name.Namespace, name.Name, grantee{Kind: doc.Kind, Namespace: doc.Namespace})
	return variant
}

func (v *view) serviceState(name types.NamespacedName, subset string, rules []*rule, client string) policy.Variant {
	s := v.service(name)
	switch {
	case s == nil:
		return absent(policy.ServiceNotFound, "Service %q not found", name)
	case s.deleting:
		return absent(policy.ServiceDeleting, "Service %q is being deleted", name)
	case s.externalName:
		// There is nothing to wait for; policy refuses the type.
		return policy.Variant{State: policy.Ready}
	}
	var of labels
	if subset != "" {
		if len(rules) == 0 {
			return absent(policy.DestinationRuleNotFound,
				"no DestinationRule for Service %q is visible from namespace %q", name, client)
		}
		names, subsetLabels, found := subsetsOf(rules, subset)
		if !found {
			return absent(policy.SubsetNotFound, "DestinationRule %q has no subset %q (it has %s)",
				rules[0].NamespacedName, subset, orNone(names))
		}
		of = subsetLabels
	}
	if len(s.selector.declared()) == 0 {
		return v.endpointState(s, of)
	}
	want, ok := s.selector.merge(of)
	if !ok {
		return absent(policy.WorkloadNotFound, "subset %q (%s) contradicts the selector of Service %q (%s)",
			subset, of, name, s.selector)
	}
	return v.workloadState(s, of, want)
}

// endpointState judges a Service whose workload cannot be found by its selector.
func (v *view) endpointState(s *service, of labels) policy.Variant {
	if v.ready(s, of) {
		return policy.Variant{State: policy.Ready}
	}
	if v.inGrace(s, of, of, time.Time{}) {
		return graced(present("Service %q has no ready endpoint", s.NamespacedName))
	}
	if _, total := v.endpoints(s.NamespacedName).count(); total == 0 {
		return absent(policy.WorkloadNotFound, "Service %q has no endpoints", s.NamespacedName)
	}
	return present("Service %q has no ready endpoint", s.NamespacedName)
}

func (v *view) workloadState(s *service, of, want labels) policy.Variant {
	all := v.workloads(s.Namespace, want)
	var alive, idle []*workload
	for _, w := range all {
		switch {
		case w.alive():
			alive = append(alive, w)
		case !w.deleting:
			idle = append(idle, w)
		}
	}
	switch {
	case len(all) == 0:
		return absent(policy.WorkloadNotFound, "no workload in namespace %q has pods with %s", s.Namespace, want)
	case len(alive)+len(idle) == 0:
		return absent(policy.WorkloadDeleting, "%s being deleted", named(all, "is", "are"))
	case len(alive) == 0:
		return absent(policy.ScaledToZero, "%s scaled to 0", named(idle, "is", "are"))
	case v.ready(s, of):
		return policy.Variant{State: policy.Ready}
	}
	variant := present("%s no ready pod", named(alive, "has", "have"))
	if first(alive).kind == KindPod {
		variant = present("%s not ready", named(alive, "is", "are"))
	}
	if v.inGrace(s, of, want, oldest(alive)) {
		return graced(variant)
	}
	return variant
}

// graced is a variant that is unready for less than the grace.
func graced(variant policy.Variant) policy.Variant {
	variant.State, variant.InGrace = policy.Ready, true
	return variant
}

// oldest is since when at least one of the workloads has been there.
func oldest(alive []*workload) time.Time {
	return slices.MinFunc(alive, func(a, b *workload) int { return a.since.Compare(b.since) }).since
}

// ready tells whether the Service has a ready endpoint whose pod is of the subset.
func (v *view) ready(s *service, of labels) bool {
	e := v.endpoints(s.NamespacedName)
	if v.base.opts.AssumeReady && (e == nil || len(e.slices) == 0) {
		return len(s.selector) > 0
	}
	if e != nil {
		for _, sl := range e.slices {
			if sl.anonymous > 0 && len(of) == 0 {
				return true
			}
			for _, pod := range sl.ready {
				if len(of) == 0 {
					return true
				}
				have, known := v.podLabels(types.NamespacedName{Namespace: s.Namespace, Name: pod})
				if known && have.contain(of) {
					return true
				}
			}
		}
	}
	return false
}

// inGrace tells whether an endpoint that was lost less than the grace ago, and
// not before since, still counts, and notes for how long. Its pod must have the
// wanted labels: what a selector matched before an edit is no part of the variant.
// Labels that nobody knows any more are taken as right unless it is a subset's.
func (v *view) inGrace(s *service, of, want labels, since time.Time) bool {
	now := v.base.opts.Clock.Now()
	for _, l := range slices.Backward(v.lost(s.NamespacedName)) {
		if v.base.within(l.at, now) && !l.at.Before(since) && (l.labels.contain(want) || l.labels == nil && len(of) == 0) {
			left := v.base.opts.Grace - now.Sub(l.at)
			if v.recheck == 0 || left < v.recheck {
				v.recheck = left
			}
			return true
		}
	}
	return false
}

func absent(reason policy.Reason, format string, args ...any) policy.Variant {
	return policy.Variant{State: policy.Absent, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func present(format string, args ...any) policy.Variant {
	return policy.Variant{State: policy.Present, Reason: policy.NoReadyEndpoints, Detail: fmt.Sprintf(format, args...)}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// first is the workload that stands for several, whatever their order.
func first(workloads []*workload) *workload {
	return slices.MinFunc(workloads, func(a, b *workload) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.kind, b.kind))
	})
}

// named names workloads for people, the first and how many more there are, with
// the verb that fits their number.
func named(workloads []*workload, one, many string) string {
	w := first(workloads)
	if more := len(workloads) - 1; more > 0 {
		return fmt.Sprintf("%s %q and %d more %s", w.kind, w.Name, more, many)
	}
	return fmt.Sprintf("%s %q %s", w.kind, w.Name, one)
}
