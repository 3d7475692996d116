package variant

// The state of a variant, by the same rules for the caches, the live reads and the manifests. They are
// described in docs/design/admission.md.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

func (v *view) snapshot(rt *route.Route) policy.Snapshot {
	v.begin(rt)
	snap := policy.Snapshot{Variants: make(map[route.Target]policy.Variant, rt.CountMirrors()), ManagedBy: v.managedBy(rt)}
	v.noteSupport(rt, &snap)
	snap.Scope = v.base.scope(rt)
	v.countPodsOf(rt, &snap.Scope)
	n := 0
	for m := range mirrors(rt) {
		if _, done := snap.Variants[m.Target]; !done {
			snap.Variants[m.Target] = v.variant(rt, m)
			v.letOthers(n)
			n++
		}
	}
	snap.Recheck = v.recheck
	return snap
}

// maxHeld is the number of mirrors for which the Index is locked at a time.
const maxHeld = 128

// letOthers unlocks the Index for a moment after each maxHeld mirrors: a tenant decides how many mirrors a route
// has, and must not decide how long others wait. A change in between leads to another decision, as any later one.
func (v *view) letOthers(mirror int) {
	if mirror%maxHeld == maxHeld-1 {
		v.base.mu.RUnlock()
		v.base.mu.RLock()
	}
}

// begin starts a snapshot of a route.
func (v *view) begin(rt *route.Route) {
	v.visits, v.recheck, v.gatewayNotes = 0, 0, nil
	v.clients, v.gateways = v.clientsOf(rt), v.gatewaysOf(rt)
}

// variant returns the state of a mirror's variant, which is not known where it takes too much work.
func (v *view) variant(rt *route.Route, m *route.Mirror) policy.Variant {
	if v.visits <= maxRules {
		if found := v.find(rt, m); v.visits <= maxRules {
			return found
		}
	}
	return policy.Variant{Reason: policy.VariantUnknown, Detail: tooMuch}
}

func (v *view) find(rt *route.Route, m *route.Mirror) policy.Variant {
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

// ofHost returns the variant of a mirror to a host that is no Service of the cluster for Istio.
func (v *view) ofHost(rt *route.Route, m *route.Mirror) policy.Variant {
	host := m.Target.Name
	if e := v.serviceEntry(host, v.clients); e != nil {
		return v.ofEntry(rt, m, nil, e, host)
	}
	if m.ShortHost {
		if name := shortService(host); v.service(name) != nil {
			return absent(policy.ShortHost, "Istio does not expand %q; write %s", host, v.base.fqdn(route.ServiceName(name)))
		}
	}
	return absent(policy.HostNotFound, "no ServiceEntry defines host %q", host)
}

// ofEntry returns the variant of a mirror to the host of a ServiceEntry, or to the Service alias, nil for none,
// that stands for this host. Its endpoints are not judged.
func (v *view) ofEntry(rt *route.Route, m *route.Mirror, alias *service, e *serviceEntry, host string) policy.Variant {
	variant := policy.Variant{State: policy.Ready, Exists: true, External: true}
	if !v.reachesEntry(host, alias, m.Target.Port) {
		return absent(policy.PortNotFound, "no client of the route reaches a port of host %q; ServiceEntry %q has %s", host, e, portList(e.ports))
	}
	if m.Target.Subset == "" {
		return variant
	}
	// A client needs both: the ServiceEntry, and a rule that has the subset.
	var finding []clients
	for n := range v.clients {
		finding = append(finding, v.clients[n].seeing(e)...)
		v.visits += len(v.clients[n].namespaces)
	}
	sub := v.subset(finding, rt.Namespace, e.Namespace, host, m.Target.Subset)
	if len(sub.found) > 0 {
		return variant
	}
	return v.withoutSubset(m.Target.Subset, fmt.Sprintf("host %q", host), rt.Namespace, sub)
}

// ofService returns the variant of a mirror to a Service.
func (v *view) ofService(rt *route.Route, m *route.Mirror) policy.Variant {
	service := m.Target.Service()
	name := types.NamespacedName(service)
	s := v.service(name)
	if s == nil && rt.Kind == route.VirtualService {
		// A Service of another cluster, which a ServiceEntry defines.
		if e := v.serviceEntry(v.base.fqdn(service), v.clients); e != nil {
			return v.ofEntry(rt, m, nil, e, v.base.fqdn(service))
		}
	}
	if s != nil && s.externalName {
		return v.ofAlias(rt, m, s)
	}
	variant := v.bestState(s, nil, rt, m)
	if s != nil {
		variant.Exists = true
		variant.Ports = slices.Clone(s.ports)
		v.noteGateway(rt, s, &variant)
	}
	variant.Ungranted = crosses(rt.Kind, rt.Namespace, m.Target) &&
		!v.granted(name.Namespace, name.Name, grantee{Kind: rt.Kind, Namespace: rt.Namespace})
	return variant
}

// withoutSubset returns the variant of a mirror whose subset no client finds.
func (v *view) withoutSubset(subset, of, own string, sub subsetView) policy.Variant {
	if sub.partial {
		return policy.Variant{Reason: policy.VariantUnknown, Detail: tooMuch}
	}
	if len(sub.lacking) == 0 {
		return absent(policy.DestinationRuleNotFound, "no DestinationRule with subset %q for %s is visible from namespace %q", subset, of, own)
	}
	names := subsetNames(sub.lacking)
	variant := absent(policy.SubsetNotFound, "DestinationRule %q has no subset %q (it has %s)",
		sub.lacking[0].Namespace+"/"+sub.lacking[0].Name, subset, cmp.Or(strings.Join(names, ", "), "none"))
	variant.LacksSubset, variant.Subsets = true, names
	return variant
}

// tooMuch explains why the state of a mirror's variant is not known.
const tooMuch = "too many objects to look at"

// bestState is serviceState as the client sees it that could use the mirror best: a client needs both a rule that has the
// subset and a port that leads there, which two of them may have between them.
func (v *view) bestState(s, alias *service, rt *route.Route, m *route.Mirror) policy.Variant {
	best := v.serviceState(s, alias, rt, m)
	if m.Target.Subset == "" || len(v.clients) < 2 || best.State == policy.Absent {
		return best
	}
	all := v.clients
	defer func() { v.clients = all }()
	for n := range all {
		v.clients = all[n : n+1]
		if found := v.serviceState(s, alias, rt, m); n == 0 || found.State > best.State {
			best = found
		}
	}
	return best
}

// serviceState returns the state of the Service of a mirror, nil for one that is missing: the best for any
// client. alias is the Service that stands for it in the mirror, nil for none.
func (v *view) serviceState(s, alias *service, rt *route.Route, m *route.Mirror) policy.Variant {
	switch {
	case s == nil:
		return v.missingService(rt, m)
	case s.deleting:
		return absent(policy.ServiceDeleting, "Service %q is being deleted", s.NamespacedName)
	}
	ports := v.portsOf(s, alias, m.Target.Port)
	subsets := []labels{nil}
	if m.Target.Subset != "" {
		sub := v.subset(v.clients, rt.Namespace, s.Namespace, v.base.fqdn(route.ServiceName(s.NamespacedName)), m.Target.Subset)
		if len(sub.found) == 0 {
			return v.withoutSubset(m.Target.Subset, fmt.Sprintf("Service %q", s.NamespacedName), rt.Namespace, sub)
		}
		subsets = sub.found
	}
	if ports != nil && len(ports.names) == 0 {
		of := cmp.Or(alias, s)
		return absent(policy.PortNotFound, "no client of the route calls a port of Service %q that leads anywhere; it has %s", of.NamespacedName, portList(of.ports))
	}
	var best policy.Variant
	for n, subsetLabels := range subsets {
		if found := v.subsetState(s, m.Target.Subset, subsetLabels, ports); n == 0 || found.State > best.State {
			best = found
		}
	}
	return best
}

// missingService returns the variant of a mirror whose Service is missing. A DestinationRule contradicts its
// subset all the same.
func (v *view) missingService(rt *route.Route, m *route.Mirror) policy.Variant {
	variant := absent(policy.ServiceNotFound, "Service %q not found", m.Target.Service())
	if m.Target.Subset != "" {
		sub := v.subset(v.clients, rt.Namespace, m.Target.Namespace, v.base.fqdn(m.Target.Service()), m.Target.Subset)
		if len(sub.found) == 0 && len(sub.lacking) > 0 && !sub.partial {
			variant.LacksSubset, variant.Subsets = true, subsetNames(sub.lacking)
		}
	}
	return variant
}

// portSet are names of a Service's ports; nil stands for any.
type portSet struct{ names []string }

func (p *portSet) overlaps(names []string) bool {
	return p == nil || slices.ContainsFunc(p.names, func(name string) bool { return slices.Contains(names, name) })
}

// portsOf returns the ports of a Service at which a mirror with a port, or 0, arrives through an alias or, with nil,
// as itself.
func (v *view) portsOf(s, alias *service, port int32) *portSet {
	if v.clients == nil && port == 0 {
		return nil // the schema of the Gateway API refuses a Service without a port
	}
	set := &portSet{}
	for _, p := range s.ports {
		if v.clients == nil && p.Number == port || v.reaches(cmp.Or(alias, s).ports, alias != nil, port, p.Number, nil) {
			set.names = append(set.names, p.Name)
		}
	}
	if len(set.names) == 0 && port != 0 && alias == nil {
		return nil // policy refuses the port
	}
	return set
}

// reaches reports whether a mirror of any client arrives at a port. For the port of a ServiceEntry, nil for none, the
// client must see that.
func (v *view) reaches(through []policy.Port, alias bool, named, at int32, e *serviceEntry) bool {
	v.visits += len(v.clients)
	for n := range v.clients {
		if e == nil {
			if v.arrives(&v.clients[n], named, through, alias, at) {
				return true
			}
			continue
		}
		for _, c := range v.clients[n].seeing(e) {
			if v.visits++; v.visits > maxRules || v.arrives(&c, named, through, alias, at) {
				return true
			}
		}
	}
	return false
}

// reachesEntry reports whether a mirror arrives at a ServiceEntry for its host, or for the host that an alias, nil
// for none, stands for.
func (v *view) reachesEntry(host string, alias *service, named int32) bool {
	for _, e := range v.source(serviceEntriesQuery()).serviceEntries[host] {
		through := e.ports
		if alias != nil {
			through = alias.ports
		}
		for _, p := range e.ports {
			if v.visits += len(v.clients); v.visits > maxRules || v.reaches(through, alias != nil, named, p.Number, e) {
				return true
			}
		}
	}
	return false
}

func portList(ports []policy.Port) string {
	var numbers []string
	for _, p := range ports[:min(len(ports), maxNamed)] {
		numbers = append(numbers, strconv.Itoa(int(p.Number)))
	}
	if len(numbers) == 0 {
		return "no ports"
	}
	return "ports " + strings.Join(numbers, ", ")
}

// subsetState returns the state of a Service, or of a subset of it, at these ports.
func (v *view) subsetState(s *service, subset string, subsetLabels labels, ports *portSet) policy.Variant {
	if len(s.selector.declared()) == 0 {
		return v.endpointState(s, subsetLabels, ports)
	}
	want, ok := s.selector.merge(subsetLabels)
	if !ok {
		return absent(policy.WorkloadNotFound, "subset %q (%s) contradicts the selector of Service %q (%s)",
			subset, subsetLabels, s.NamespacedName, s.selector)
	}
	return v.workloadState(s, subsetLabels, want, ports)
}

// endpointState returns the state of a Service whose workloads cannot be found by its selector.
func (v *view) endpointState(s *service, subsetLabels labels, ports *portSet) policy.Variant {
	if v.ready(s, subsetLabels, ports) {
		return policy.Variant{State: policy.Ready}
	}
	variant := present("Service %q has no ready endpoint", s.NamespacedName)
	if v.inGrace(s, subsetLabels, subsetLabels, ports, time.Time{}) {
		return graced(variant)
	}
	if _, total := v.endpoints(s.NamespacedName).count(); total == 0 {
		return absent(policy.WorkloadNotFound, "Service %q has no endpoints", s.NamespacedName)
	}
	return variant
}

// workloadState returns the state of a Service whose workloads have the labels want.
func (v *view) workloadState(s *service, subsetLabels, want labels, ports *portSet) policy.Variant {
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
	case v.ready(s, subsetLabels, ports):
		return policy.Variant{State: policy.Ready}
	}
	variant := present("%s no ready pod", named(alive, "has", "have"))
	if ready, _ := v.endpoints(s.NamespacedName).count(); ready > 0 && len(subsetLabels) == 0 {
		variant = present("no ready endpoint of Service %q serves its port", s.NamespacedName)
	} else if first(alive).kind == KindPod {
		variant = present("%s not ready", named(alive, "is", "are"))
	}
	oldest := slices.MinFunc(alive, func(a, b *workload) int { return a.since.Compare(b.since) })
	if v.inGrace(s, subsetLabels, want, ports, oldest.since) {
		return graced(variant)
	}
	return variant
}

// graced returns a variant that is not ready as one that still counts as ready.
func graced(variant policy.Variant) policy.Variant {
	variant.State, variant.InGrace = policy.Ready, true
	return variant
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
