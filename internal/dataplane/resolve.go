package dataplane

// Resolution: which of a route's parents have proxies and accept it, where its references lead, and its
// conditions. A route is resolved again when an object changes that it names, but not when endpoints do.

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// The conditions and reasons of Gateway API that occur here.
const (
	conditionAccepted  = "Accepted"
	conditionResolved  = "ResolvedRefs"
	conditionPartially = "PartiallyInvalid"

	reasonAccepted         = "Accepted"
	reasonNotAllowed       = "NotAllowedByListeners"
	reasonNoMatchingParent = "NoMatchingParent"
	reasonUnsupportedValue = "UnsupportedValue"
	reasonResolved         = "ResolvedRefs"
	reasonRefNotPermitted  = "RefNotPermitted"
	reasonInvalidKind      = "InvalidKind"
	reasonBackendNotFound  = "BackendNotFound"
	reasonUnsupportedProto = "UnsupportedProtocol"
	reasonConflicted       = "Conflicted"
)

// resolution is the meaning of a route among the other objects.
type resolution struct {
	// resolved are its rules without the mirrors that lead nowhere. They are never changed.
	resolved []spec.Rule
	// ports are the port numbers of the parents that accept the route.
	ports map[Name][]int
	// backends are the Services and ports that its rules lead to, by their names in the table.
	backends map[backendPort]Name
	// uses are the Services whose endpoints the backends have, for each parent.
	uses   map[use]struct{}
	status []ParentStatus
}

type use struct {
	source Name
	Backend
}

type backendPort struct {
	name string // in the table
	port int
}

// fault is the reason and message of a condition that is not met. The zero value is no fault.
type fault struct{ reason, message string }

func faultf(reason, format string, args ...any) fault {
	return fault{reason, fmt.Sprintf(format, args...)}
}

// resolve returns the resolution of a route. x.mu is held.
func (x *Index) resolve(r *route) resolution {
	out := resolution{ports: map[Name][]int{}, backends: map[backendPort]Name{}, uses: map[use]struct{}{}}
	var parents []*parentRef
	for i := range r.parents {
		if p := &r.parents[i]; x.enabled(p.service) {
			parents = append(parents, p)
		}
	}
	if len(parents) == 0 {
		return out
	}
	var faults []fault
	out.resolved, faults = x.rules(r, out.backends)
	refs := resolvedRefs(faults)
	for _, p := range parents {
		ports, why := x.attach(r, p)
		for _, port := range ports {
			if !slices.Contains(out.ports[p.service], port) {
				out.ports[p.service] = append(out.ports[p.service], port)
			}
		}
		out.status = append(out.status, r.statusOf(p, why, refs))
	}
	for parent, ports := range out.ports {
		slices.Sort(ports)
		out.uses[use{originOf(parent), Backend{parent, parent.String()}}] = struct{}{} // for ports without a route
		for b, name := range out.backends {
			out.uses[use{x.source(parent, name), Backend{parent, b.name}}] = struct{}{}
		}
	}
	return out
}

// enabled reports whether a Service requests a proxy. One that does not exist may, by its namespace.
func (x *Index) enabled(name Name) bool {
	if x.opts.Parent != (Name{}) {
		return name == x.opts.Parent
	}
	label := ""
	if s := x.services[name]; s != nil {
		label = s.label
	}
	return intercept.Enabled(label, x.namespaces[name.Namespace])
}

// attach returns the ports of a parent that accept the route.
func (x *Index) attach(r *route, p *parentRef) ([]int, fault) {
	s := x.services[p.service]
	switch {
	case p.service.Namespace != r.name.Namespace:
		return nil, faultf(reasonNotAllowed, "Service %s is in another namespace; only routes of its own namespace are taken", p.service)
	case s == nil:
		return nil, faultf(reasonNoMatchingParent, "there is no Service %s", p.service.Name)
	case s.refused != "":
		return nil, faultf(reasonUnsupportedValue, "no proxy can stand in front of Service %s: %s", p.service.Name, s.refused)
	case r.unusable != "":
		return nil, fault{reasonUnsupportedValue, r.unusable}
	}
	if r.name.Kind == KindGRPCRoute {
		ports := x.callPorts(s, p)
		if len(ports) == 0 {
			return nil, faultf(reasonNoMatchingParent, "Service %s has no port for gRPC%s", p.service.Name, p.which())
		}
		return ports, fault{}
	}
	ports := x.webPorts(s, p)
	if len(ports) == 0 {
		return nil, faultf(reasonNoMatchingParent, "Service %s has no port for HTTP%s", p.service.Name, p.which())
	}
	free := x.free(p.service, ports)
	if len(free) == 0 {
		return nil, faultf(reasonConflicted, "GRPCRoutes have every port of Service %s that it refers to", p.service.Name)
	}
	return free, fault{}
}

// webPorts returns the ports for HTTP that a reference means.
func (x *Index) webPorts(s *service, p *parentRef) (ports []int) {
	for i := range s.ports {
		if port := &s.ports[i]; x.wants(s, p, port) {
			ports = append(ports, int(port.Port))
		}
	}
	return ports
}

// wants reports whether a reference means a port, and the port may carry HTTP. For a port that the reference names,
// the port's own name does not count.
func (x *Index) wants(s *service, p *parentRef, port *corev1.ServicePort) bool {
	if p.port == 0 && p.section == "" {
		return x.protocolOf(s, port) != opaque
	}
	_, ok := backendProtocol(port)
	return (ok || x.terminates(s, port)) && (p.port == 0 || p.port == int(port.Port)) && (p.section == "" || p.section == port.Name)
}

// which names the ports that a reference means, for a message.
func (p *parentRef) which() string {
	out := ""
	if p.port != 0 {
		out += fmt.Sprintf(" with number %d", p.port)
	}
	if p.section != "" {
		out += fmt.Sprintf(" called %s", p.section)
	}
	return out
}

// sharing returns the ports with the target port of this one, itself included.
func (s *service) sharing(port *corev1.ServicePort) (out []*corev1.ServicePort) {
	for i := range s.ports {
		if isTCP(&s.ports[i]) && targetPort(&s.ports[i]) == targetPort(port) {
			out = append(out, &s.ports[i])
		}
	}
	return out
}

// rules returns a route's rules without the mirrors whose target cannot be used, and the faults. It adds the
// Services that the rules lead to to backends. A backend that cannot be used stays, and is answered with 500.
func (x *Index) rules(r *route, backends map[backendPort]Name) (out []spec.Rule, faults []fault) {
	known := func(to *spec.BackendRef) bool {
		why := x.lookup(r.name, r.refs[to.Name], to.Port)
		if why != (fault{}) {
			if !slices.Contains(faults, why) {
				faults = append(faults, why)
			}
			return false
		}
		backends[backendPort{to.Name, to.Port}] = r.refs[to.Name].Name
		return true
	}
	filters := func(from []spec.Filter) []spec.Filter {
		return slices.DeleteFunc(slices.Clone(from), func(f spec.Filter) bool {
			return f.RequestMirror != nil && !known(&f.RequestMirror.BackendRef)
		})
	}
	for _, rule := range r.rules {
		policy := x.copyPolicyOf(r.name, rule.Name)
		rule.Filters = policy.applyCopy(filters(rule.Filters))
		rule.BackendRefs = slices.Clone(rule.BackendRefs)
		for i := range rule.BackendRefs {
			to := &rule.BackendRefs[i]
			known(to)
			to.Filters = policy.applyCopy(filters(to.Filters))
		}
		out = append(out, rule)
	}
	return out, faults
}

// lookup returns the fault of a reference of a route. If no grant permits the reference, the fault is
// the same whether the Service exists or not, so that a status does not reveal it.
func (x *Index) lookup(from RouteName, to ref, port int) fault {
	switch {
	case to.kind != "":
		return faultf(reasonInvalidKind, "%s %s cannot get requests; only Services can", to.kind, to.Name)
	case to.Namespace != from.Namespace && !x.granted(from.source(), to.Name):
		return faultf(reasonRefNotPermitted, "no ReferenceGrant in namespace %s permits to refer to Service %s", to.Namespace, to.Name.Name)
	}
	s := x.services[to.Name]
	if s == nil {
		return faultf(reasonBackendNotFound, "there is no Service %s", to.Name)
	}
	if s.external {
		return faultf(reasonUnsupportedValue, "Service %s is an ExternalName", to.Name)
	}
	p := s.port(port)
	if p == nil {
		return faultf(reasonBackendNotFound, "Service %s has no port %d", to.Name, port)
	}
	speaks, ok := backendProtocol(p)
	if x.policyOf(to.Name, p.Name) != nil {
		speaks, ok = securedProtocol(p)
	}
	if !ok {
		return faultf(reasonUnsupportedProto, "port %d of Service %s speaks neither HTTP nor h2c, or needs a BackendTLSPolicy", port, to.Name)
	}
	if from.Kind == KindGRPCRoute && speaks == http1 {
		return faultf(reasonUnsupportedProto, "port %d of Service %s speaks HTTP/1.1, which cannot carry calls of gRPC", port, to.Name)
	}
	return fault{}
}

func (x *Index) granted(from grant.Source, to Name) bool {
	for _, g := range x.grants[to.Namespace] {
		if g.Allows(from, to.Name) {
			return true
		}
	}
	return false
}

// resolvedRefs returns the condition of that name.
func resolvedRefs(faults []fault) metav1.Condition {
	if len(faults) == 0 {
		return metav1.Condition{
			Type: conditionResolved, Status: metav1.ConditionTrue, Reason: reasonResolved, Message: "every reference leads to a Service",
		}
	}
	var messages []string
	for _, f := range faults {
		messages = append(messages, f.message)
	}
	return metav1.Condition{
		Type: conditionResolved, Status: metav1.ConditionFalse, Reason: faults[0].reason, Message: summary(messages),
	}
}

// ParentStatus is an entry of a route's status.parents. Its conditions have no lastTransitionTime, since only
// the writer knows the conditions before.
type ParentStatus struct {
	// ParentRef is the JSON of the route's parentRef, unchanged.
	ParentRef      json.RawMessage    `json:"parentRef"`
	ControllerName string             `json:"controllerName"`
	Conditions     []metav1.Condition `json:"conditions"`
}

func (r *route) statusOf(p *parentRef, why fault, refs metav1.Condition) ParentStatus {
	accepted := metav1.Condition{
		Type: conditionAccepted, Status: metav1.ConditionTrue, Reason: reasonAccepted, Message: "the proxies of Service " + p.service.Name + " take it",
	}
	if len(r.ignored) > 0 {
		accepted.Message += "; they know nothing of " + summary(r.ignored) + ", which changes nothing"
	}
	if why != (fault{}) {
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, why.reason, why.message
	}
	conditions := []metav1.Condition{accepted, refs}
	if why == (fault{}) && len(r.dropped) > 0 {
		conditions = append(conditions, metav1.Condition{
			Type: conditionPartially, Status: metav1.ConditionTrue, Reason: reasonUnsupportedValue,
			Message: "Dropped Rule: " + summary(r.dropped), // the prefix is the API's
		})
	}
	for i := range conditions {
		conditions[i].ObservedGeneration = r.generation
	}
	return ParentStatus{ParentRef: p.written, ControllerName: wellknown.ControllerName, Conditions: conditions}
}

// names returns the Services that a route names: its parents, backends and mirror targets.
func (r *route) names() map[Name]bool {
	out := map[Name]bool{}
	for i := range r.parents {
		out[r.parents[i].service] = true
	}
	for to := range maps.Values(r.refs) {
		if to.kind == "" {
			out[to.Name] = true
		}
	}
	return out
}
