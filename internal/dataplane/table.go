package dataplane

// The table of one parent: a listener for each port, the rules of its routes in the order of precedence, and
// the Services that they lead to with their endpoints.

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Table returns the table that the proxies of a Service serve, nil if there is no such Service or no route is
// attached to it. Ports without a route pass through to its origin. Options.Parent has a table even if no
// port has a route. Hostnames of routes do not matter, since a client that connects to the Service means it.
// The rules are shared, and must not be changed.
func (x *Index) Table(parent Name) *spec.Table {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := x.services[parent]
	routes := slices.SortedFunc(maps.Keys(x.attached[parent]), (*route).precedes)
	if s == nil || len(routes) == 0 && parent != x.opts.Parent {
		return nil
	}
	table := &spec.Table{Services: map[string]spec.Service{}}
	byPort := map[int][]spec.Route{}
	for _, r := range routes {
		for _, port := range r.ports[parent] {
			// With the port in its name, a route at two ports is counted for each.
			byPort[port] = append(byPort[port], spec.Route{Name: portName(r.name.String(), port), Source: r.name.Kind.String() + "/" + r.name.Name.Name, Rules: r.resolved})
		}
		for b, name := range r.backends {
			x.enter(table, parent, name, b)
		}
	}
	done := map[string]bool{}
	for i := range s.ports {
		if l := x.listener(parent, s, &s.ports[i]); isTCP(&s.ports[i]) && !done[l.Address] {
			done[l.Address] = true
			x.serve(table, l, parent, s, s.sharing(&s.ports[i]), byPort)
		}
	}
	return table
}

// serve adds the listener of the given ports of a parent, which have one target port, to a table. byPort are the
// routes of the ports.
func (x *Index) serve(table *spec.Table, l *spec.Listener, parent Name, s *service, ports []*corev1.ServicePort, byPort map[int][]spec.Route) {
	detects, secured := false, false
	for _, p := range ports {
		number := int(p.Port)
		routes := byPort[number]
		l.Routes = append(l.Routes, slices.Clone(routes)...)
		secured = secured || x.terminates(s, p)
		if speaks := x.protocolOf(s, p); speaks == unknown || speaks == opaque {
			detects = true
		}
	}
	origin := &spec.Passthrough{Name: parent.String(), Port: l.Port, ProxyProtocol: x.opts.SendProxyProtocol}
	switch {
	case len(l.Routes) == 0:
		l.Name += "/tcp" // a listener of another kind needs another name
		l.TCP, l.Forwarded, l.AffinityCookie = origin, nil, ""
	case secured:
		l.Name += "/tls" // as above
		l.TLS = &spec.TLS{}
	case detects:
		l.Otherwise = origin
	}
	if l.TCP != nil || l.Otherwise != nil {
		x.enter(table, parent, parent, backendPort{parent.String(), l.Port})
	}
	if len(l.Routes) > 0 && len(ports) > 1 {
		x.apart(table, l, parent, ports, byPort)
	}
	table.Listeners = append(table.Listeners, *l)
}

// apart makes a listener tell ports with one target port apart, by the port in a request's authority. A port without
// a route leads to the origin, as it would with a target port of its own.
func (x *Index) apart(table *spec.Table, l *spec.Listener, parent Name, ports []*corev1.ServicePort, byPort map[int][]spec.Route) {
	l.Routes = nil
	for _, p := range ports {
		number := int(p.Port)
		routes := byPort[number]
		if len(routes) == 0 {
			routes = []spec.Route{{Name: portName(parent.String(), number), Rules: []spec.Rule{{
				BackendRefs: []spec.BackendRef{{Name: parent.String(), Port: number}},
			}}}}
			x.enter(table, parent, parent, backendPort{parent.String(), number})
		}
		for _, r := range routes {
			r.Ports = []int{number}
			l.Routes = append(l.Routes, r)
		}
	}
}

// listener returns a listener for a port of a parent, without routes.
func (x *Index) listener(parent Name, s *service, p *corev1.ServicePort) *spec.Listener {
	return &spec.Listener{
		// A server keeps the name of a listener as long as its address, so neither may depend on the number that
		// clients use.
		Name: portName(parent.String(), targetPort(p)), Address: x.opts.Listen(parent, p), Port: int(p.Port),
		SessionAffinity: s.affinity, AffinityCookie: x.opts.AffinityCookie, Forwarded: x.opts.Forwarded, ProxyProtocol: x.opts.ProxyProtocol,
	}
}

// enter puts a port of a Service into a table.
func (x *Index) enter(table *spec.Table, parent, service Name, b backendPort) {
	ports := table.Services[b.name]
	if ports == nil {
		ports = spec.Service{}
		table.Services[b.name] = ports
	}
	if _, ok := ports[b.port]; !ok {
		ports[b.port] = x.port(parent, service, b.port)
	}
}

// Swapped reports whether a Service leads to its proxies.
func (x *Index) Swapped(parent Name) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := x.services[parent]
	return s != nil && s.swapped
}

// Hinted reports whether endpoints of a parent's origin have hints for zones.
func (x *Index) Hinted(parent Name) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, s := range x.endpoints[originOf(parent)] {
		if slices.ContainsFunc(s.endpoints, func(e endpoint) bool { return e.zones != "" }) {
			return true
		}
	}
	return false
}

// HasOrigin reports whether a parent has an origin.
func (x *Index) HasOrigin(parent Name) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.services[originOf(parent)] != nil
}

// Port returns a port of a backend with its current endpoints. ok is false if the parent's table does not
// have the backend any more, or the backend has no such port.
func (x *Index) Port(b Backend, number int) (port spec.Port, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	namespace, name, _ := strings.Cut(b.Service, "/")
	service := Name{Namespace: namespace, Name: name}
	own := b == Backend{x.opts.Parent, x.opts.Parent.String()} // its ports may pass through
	if s := x.services[service]; s == nil || !own && x.uses[x.source(b.Parent, service)][b] == 0 || s.port(number) == nil {
		return spec.Port{}, false
	}
	return x.port(b.Parent, service, number), true
}

// port returns a port of a Service that a reference was resolved to, with its endpoints.
func (x *Index) port(parent, name Name, number int) spec.Port {
	s := x.services[name]
	p := s.port(number)
	speaks, _ := backendProtocol(p)
	var secure *spec.BackendTLS
	if policy := x.policyOf(name, p.Name); policy != nil {
		speaks, _ = securedProtocol(p)
		secure = x.backendTLS(policy)
	}
	return spec.Port{TLS: secure, Protocol: speaks.String(), Endpoints: endpoints(x.endpoints[x.source(parent, name)], s.families, p.Name, x.opts.Zone)}
}

// source returns the Service whose endpoints a backend has. The parent's own endpoints are its proxies or, in
// bypass, its primary, so its origin is meant. The same is true of any other Service while its selector is
// swapped, or requests would go through two proxies, and in circles.
func (x *Index) source(parent, name Name) Name {
	if s := x.services[name]; name == parent || s != nil && s.swapped {
		return originOf(name)
	}
	return name
}

func originOf(parent Name) Name {
	return Name{Namespace: parent.Namespace, Name: wellknown.OriginName(parent.Name)}
}

// link enters a route's resolution into the indexes; unlink takes it out.
func (x *Index) link(r *route) {
	for parent := range r.ports {
		in(x.attached, parent)[r] = struct{}{}
	}
	x.countCalls(r, 1)
	for u := range r.uses {
		in(x.uses, u.source)[u.Backend]++
	}
}

func (x *Index) unlink(r *route) {
	for parent := range r.ports {
		drop(x.attached, parent, r)
	}
	x.countCalls(r, -1)
	for u := range r.uses {
		if x.uses[u.source][u.Backend]--; x.uses[u.source][u.Backend] == 0 {
			drop(x.uses, u.source, u.Backend)
		}
	}
}

// Keep makes the Index go on to announce endpoints of these Services (by their names in the parent's table,
// and only of its own namespace), and Port to return them, until release is called. No route needs to lead
// there any more.
func (x *Index) Keep(parent Name, services []string) (release func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	kept := &route{resolution: resolution{uses: map[use]struct{}{}}}
	for _, service := range services {
		if namespace, name, _ := strings.Cut(service, "/"); namespace == parent.Namespace {
			source := x.source(parent, Name{Namespace: namespace, Name: name})
			kept.uses[use{source, Backend{parent, service}}] = struct{}{}
		}
	}
	x.link(kept)
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.unlink(kept)
	}
}

// in returns the inner map of a key, and makes it if there is none.
func in[K, L comparable, V any](m map[K]map[L]V, key K) map[L]V {
	if m[key] == nil {
		m[key] = map[L]V{}
	}
	return m[key]
}

// drop removes an inner key, and an inner map that it leaves empty.
func drop[K, L comparable, V any](m map[K]map[L]V, key K, inner L) {
	if delete(m[key], inner); len(m[key]) == 0 {
		delete(m, key)
	}
}

// ReportTarget returns where the proxies of a Service report to: its origin says so. The zero value is nowhere.
func (x *Index) ReportTarget(parent Name) (target wellknown.ReportTarget, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	origin := x.services[originOf(parent)]
	if origin == nil || origin.report == "" {
		return target, nil
	}
	if err := json.Unmarshal([]byte(origin.report), &target); err != nil {
		return wellknown.ReportTarget{}, fmt.Errorf("annotation %s of the origin: %w", wellknown.ReportAnnotation, err)
	}
	return target, nil
}

func portName(name string, port int) string { return name + ":" + strconv.Itoa(port) }

// listenAddress is the default of Options.Listen.
func listenAddress(_ Name, p *corev1.ServicePort) string {
	return ":" + strconv.Itoa(targetPort(p))
}
