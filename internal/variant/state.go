package variant

// The state of a variant, by the same rules for the caches, the live reads and the manifests. They are
// described in docs/design/admission.md.

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

func (v *view) snapshot(rt *route.Route) policy.Snapshot {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}, ManagedBy: v.base.managedBy(rt)}
	for m := range mirrors(rt) {
		if _, done := snap.Variants[m.Target]; !done {
			snap.Variants[m.Target] = v.variant(rt, m)
		}
	}
	snap.Recheck = v.recheck
	return snap
}

func (v *view) variant(rt *route.Route, m *route.Mirror) policy.Variant {
	switch {
	case m.Target.IsService():
		return v.ofService(rt, m)
	case rt.Kind == route.VirtualService:
		return v.ofHost(rt, m)
	default:
		return policy.Variant{
			State: policy.Ready, Exists: true, External: true,
			Detail: fmt.Sprintf("kind %q is not judged; the mirror is left alone", strings.Trim(m.Target.Kind+"."+m.Target.Group, ".")),
		}
	}
}

// ofHost returns the variant of a mirror to a host outside the cluster.
func (v *view) ofHost(rt *route.Route, m *route.Mirror) policy.Variant {
	host := m.Target.Name
	e := v.serviceEntry([]string{host}, rt.Namespace)
	if e == nil {
		return absent(policy.HostNotFound, "no ServiceEntry defines host %q", host)
	}
	variant := policy.Variant{State: policy.Ready, Exists: true, External: true}
	noteSubset(&variant, v.destinationRulesFor(host, e.Namespace, rt.Namespace), m.Target.Subset)
	return variant
}

// ofService returns the variant of a mirror to a Service.
func (v *view) ofService(rt *route.Route, m *route.Mirror) policy.Variant {
	service := m.Target.Service()
	name := types.NamespacedName(service)
	var rules []*destinationRule
	if rt.Kind == route.VirtualService {
		if v.service(name) == nil && v.serviceEntry([]string{v.base.fqdn(service)}, rt.Namespace) != nil {
			return policy.Variant{State: policy.Ready, Exists: true, External: true}
		}
		rules = v.destinationRulesFor(v.base.fqdn(service), name.Namespace, rt.Namespace)
	}
	variant := v.serviceState(name, m.Target.Subset, rules, rt.Namespace)
	noteSubset(&variant, rules, m.Target.Subset)
	if s := v.service(name); s != nil {
		variant.Exists = true
		variant.External = s.externalName
		variant.Ports = slices.Clone(s.ports)
	}
	variant.Ungranted = crosses(rt.Kind, rt.Namespace, m.Target) &&
		!v.granted(name.Namespace, name.Name, grantee{Kind: rt.Kind, Namespace: rt.Namespace})
	return variant
}

// noteSubset notes whether DestinationRules for the host contradict a subset.
func noteSubset(variant *policy.Variant, rules []*destinationRule, subset string) {
	if names, _, found := subsetsOf(rules, subset); subset != "" && len(rules) > 0 && !found {
		variant.LacksSubset, variant.Subsets = true, names
	}
}

// serviceState returns the state of a Service, or of a subset of it. rules are the DestinationRules that
// clients in the namespace client use for it.
func (v *view) serviceState(name types.NamespacedName, subset string, rules []*destinationRule, client string) policy.Variant {
	s := v.service(name)
	switch {
	case s == nil:
		return absent(policy.ServiceNotFound, "Service %q not found", name)
	case s.deleting:
		return absent(policy.ServiceDeleting, "Service %q is being deleted", name)
	case s.externalName:
		return policy.Variant{State: policy.Ready, Detail: fmt.Sprintf("Service %q is an ExternalName; the mirror is left alone", name)}
	}
	var subsetLabels labels
	if subset != "" {
		if len(rules) == 0 {
			return absent(policy.DestinationRuleNotFound,
				"no DestinationRule for Service %q is visible from namespace %q", name, client)
		}
		names, found, ok := subsetsOf(rules, subset)
		if !ok {
			return absent(policy.SubsetNotFound, "DestinationRule %q has no subset %q (it has %s)",
				rules[0].NamespacedName, subset, cmp.Or(strings.Join(names, ", "), "none"))
		}
		subsetLabels = found
	}
	if len(s.selector.declared()) == 0 {
		return v.endpointState(s, subsetLabels)
	}
	want, ok := s.selector.merge(subsetLabels)
	if !ok {
		return absent(policy.WorkloadNotFound, "subset %q (%s) contradicts the selector of Service %q (%s)",
			subset, subsetLabels, name, s.selector)
	}
	return v.workloadState(s, subsetLabels, want)
}

// endpointState returns the state of a Service whose workloads cannot be found by its selector.
func (v *view) endpointState(s *service, subsetLabels labels) policy.Variant {
	if v.ready(s, subsetLabels) {
		return policy.Variant{State: policy.Ready}
	}
	variant := present("Service %q has no ready endpoint", s.NamespacedName)
	if v.inGrace(s, subsetLabels, subsetLabels, time.Time{}) {
		return graced(variant)
	}
	if _, total := v.endpoints(s.NamespacedName).count(); total == 0 {
		return absent(policy.WorkloadNotFound, "Service %q has no endpoints", s.NamespacedName)
	}
	return variant
}

// workloadState returns the state of a Service whose workloads have the labels want.
func (v *view) workloadState(s *service, subsetLabels, want labels) policy.Variant {
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
	case v.ready(s, subsetLabels):
		return policy.Variant{State: policy.Ready}
	}
	variant := present("%s no ready pod", named(alive, "has", "have"))
	if first(alive).kind == KindPod {
		variant = present("%s not ready", named(alive, "is", "are"))
	}
	oldest := slices.MinFunc(alive, func(a, b *workload) int { return a.since.Compare(b.since) })
	if v.inGrace(s, subsetLabels, want, oldest.since) {
		return graced(variant)
	}
	return variant
}

// graced returns a variant that is not ready as one that still counts as ready.
func graced(variant policy.Variant) policy.Variant {
	variant.State, variant.InGrace = policy.Ready, true
	return variant
}

// ready reports whether the Service has a ready endpoint, and for a subset one whose pod has its labels.
func (v *view) ready(s *service, subsetLabels labels) bool {
	e := v.endpoints(s.NamespacedName)
	if v.base.opts.AssumeReady && (e == nil || len(e.slices) == 0) {
		return len(s.selector) > 0
	}
	if e == nil {
		return false
	}
	if len(subsetLabels) == 0 {
		ready, _ := e.count()
		return ready > 0
	}
	for _, sl := range e.slices {
		for _, pod := range sl.ready {
			have, known := v.podLabels(types.NamespacedName{Namespace: s.Namespace, Name: pod})
			if known && have.contain(subsetLabels) {
				return true
			}
		}
	}
	return false
}

// inGrace reports whether the Service lost an endpoint less than the grace ago, and not before since, and
// notes in recheck for how long the grace lasts. The endpoint's pod must have the labels want: a pod that the
// selector matched only before an edit is no part of the variant. An endpoint whose pod's labels are not
// known counts, except for a subset.
func (v *view) inGrace(s *service, subsetLabels, want labels, since time.Time) bool {
	now := v.base.opts.Clock.Now()
	for _, l := range slices.Backward(v.lost(s.NamespacedName)) {
		matches := l.labels.contain(want) || (l.labels == nil && len(subsetLabels) == 0)
		if v.base.withinGrace(l.at, now) && !l.at.Before(since) && matches {
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

// first returns the workload that stands for several, which does not depend on their order.
func first(workloads []*workload) *workload {
	return slices.MinFunc(workloads, func(a, b *workload) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.kind, b.kind))
	})
}

// named formats workloads for people: the first one, how many more there are, and the verb that fits their
// number.
func named(workloads []*workload, one, many string) string {
	w := first(workloads)
	if more := len(workloads) - 1; more > 0 {
		return fmt.Sprintf("%s %q and %d more %s", w.kind, w.Name, more, many)
	}
	return fmt.Sprintf("%s %q %s", w.kind, w.Name, one)
}
