package dataplane

// Parents: Services that have, or request, proxies in front of them. The controller creates the proxies from
// this, and the webhook of Services decides their selectors.

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// selected notes the parents whose View depends on the selector of a Service: itself, if mirrorgate changed
// its selector before or does now, and the parents whose routes name it.
func (x *Index) selected(name Name, s, old *service, c *changes) {
	for _, one := range []*service{s, old} {
		if one != nil && (one.swapped || one.selects.recorded != "") {
			c.parents[name] = true
		}
	}
	for r := range x.naming[name] {
		for parent := range r.ports {
			c.parents[parent] = true
		}
	}
}

// Parent is the state of a Service with regard to proxies in front of it.
type Parent struct {
	// Exists is set if the Index has the Service.
	Exists bool
	// Namespace is set if its namespace is enabled.
	Namespace bool
	// Named is set if a route of its namespace names it as parent. Routed is set if one is attached as well,
	// which takes a Service that is enabled and not refused.
	Named, Routed bool
	// Refused is why no proxy can stand in front of it, "" if one can.
	Refused string
	// Primary is the selector of the Service that its routes send clients to, as its author means it: the
	// first backend of a route with a weight, in the same namespace and with the same target ports. It is nil
	// if there is none, or it is the Service itself.
	Primary map[string]string
	// Origin is the selector of the origin, nil if there is none.
	Origin map[string]string
	// Foreign are the other namespaces that its routes refer to and that permit it, sorted.
	Foreign []string
}

// Parent returns the state of a Service as a parent.
func (x *Index) Parent(parent Name) Parent {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f := Parent{Namespace: x.namespaces[parent.Namespace], Routed: len(x.attached[parent]) > 0}
	s := x.services[parent]
	if s == nil {
		return f
	}
	f.Exists, f.Refused = true, s.refused
	for r := range x.naming[parent] {
		f.Named = f.Named || r.name.Namespace == parent.Namespace && slices.ContainsFunc(r.parents, func(p parentRef) bool { return p.service == parent })
	}
	if origin := x.services[Name{Namespace: parent.Namespace, Name: wellknown.OriginName(parent.Name)}]; origin != nil {
		f.Origin = map[string]string{}
		maps.Copy(f.Origin, origin.selects.selector)
	}
	routes := slices.SortedFunc(maps.Keys(x.attached[parent]), (*route).precedes)
	f.Primary = x.primary(parent, s, routes)
	f.Foreign = x.foreign(parent, routes)
	return f
}

// Parents returns the Services that have, had or should have proxies, sorted: those that are enabled and
// named by a route as parent, whose selector mirrorgate has changed, or that still have an origin or a pod of
// a proxy.
func (x *Index) Parents() []Name {
	x.mu.RLock()
	defer x.mu.RUnlock()
	found := x.enabledParents()
	for name, s := range x.services {
		if s.swapped || s.selects.recorded != "" {
			found[name] = true
		}
		if s.parent != "" {
			found[Name{Namespace: name.Namespace, Name: s.parent}] = true
		}
	}
	for parent := range x.proxies {
		found[parent] = true
	}
	return slices.SortedFunc(maps.Keys(found), compareNames)
}

// enabledParents returns the enabled Services that routes of their namespace name as parent.
func (x *Index) enabledParents() map[Name]bool {
	found := map[Name]bool{}
	for _, r := range x.routes {
		for i := range r.parents {
			if p := r.parents[i].service; p.Namespace == r.name.Namespace && x.enabled(p) {
				found[p] = true
			}
		}
	}
	return found
}

// ParentsOf returns the Services of its own namespace that a route names as parents.
func (x *Index) ParentsOf(name RouteName) []Name {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := x.routes[name]
	if r == nil {
		return nil
	}
	var found []Name
	for i := range r.parents {
		if p := r.parents[i].service; p.Namespace == name.Namespace && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	return found
}

// primary returns the selector of the backend that clients may be led to without a proxy: the one with the
// most weight in a rule for all requests, or else in any rule.
func (x *Index) primary(parent Name, s *service, routes []*route) map[string]string {
	for _, want := range []func(*spec.Rule) bool{forAll, func(*spec.Rule) bool { return true }} {
		for _, r := range routes {
			for i := range r.rules {
				if !want(&r.rules[i]) {
					continue
				}
				to := heaviest(r.rules[i].BackendRefs)
				if to == nil {
					continue
				}
				ref := r.refs[to.Name]
				if ref.Name == parent && ref.kind == "" {
					return nil
				}
				if backend := x.services[ref.Name]; ref.kind == "" && ref.Namespace == parent.Namespace && backend != nil &&
					len(backend.selects.selector) > 0 && s.agrees(backend.port(to.Port), r.ports[parent]) {
					return backend.selects.original(ref.Name.Name)
				}
			}
		}
	}
	return nil
}

// forAll reports whether a rule matches every request.
func forAll(rule *spec.Rule) bool {
	return len(rule.Matches) == 0 || slices.ContainsFunc(rule.Matches, func(m spec.Match) bool {
		anyCall := m.Call == nil || m.Call.Service == "" && m.Call.Method == ""
		anyPath := m.Path == nil || (m.Path.Type == "" || m.Path.Type == "PathPrefix") && ptr.Deref(m.Path.Value, "/") == "/"
		return anyCall && anyPath && m.Method == "" && len(m.Headers)+len(m.QueryParams) == 0
	})
}

// heaviest returns the first of the backends with the most weight, nil if none has any.
func heaviest(backends []spec.BackendRef) (found *spec.BackendRef) {
	most := 0
	for i := range backends {
		if weight := ptr.Deref(backends[i].Weight, 1); weight > most {
			found, most = &backends[i], weight
		}
	}
	return found
}

// agrees reports whether a port of another Service has the target port of all these ports, so that clients
// find it at the other one's pods.
func (s *service) agrees(port *corev1.ServicePort, numbers []int) bool {
	return port != nil && !slices.ContainsFunc(numbers, func(number int) bool {
		own := s.port(number)
		return own == nil || target(own) != target(port)
	})
}

// target returns the target port of a port, or its default.
func target(p *corev1.ServicePort) intstr.IntOrString {
	if p.TargetPort == (intstr.IntOrString{}) {
		return intstr.FromInt32(p.Port)
	}
	return p.TargetPort
}

// foreign returns the other namespaces that routes of a parent refer to and that permit it, sorted.
func (x *Index) foreign(parent Name, routes []*route) (found []string) {
	for _, r := range routes {
		for ref := range maps.Values(r.refs) {
			if ref.kind == "" && ref.Namespace != parent.Namespace && x.granted(r.name.source(), ref.Name) && !slices.Contains(found, ref.Namespace) {
				found = append(found, ref.Namespace)
			}
		}
	}
	slices.Sort(found)
	return found
}
