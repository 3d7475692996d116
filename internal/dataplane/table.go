package dataplane

// The table of one parent: a listener for each port, the rules of its routes in the order of precedence, and
// the Services that they lead to with their endpoints.

import (
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
	listeners := x.listeners(parent, s)
	for _, r := range routes {
		for _, port := range r.ports[parent] {
			l := listeners[port]
			// With the port in its name, a route at two listeners is counted for each.
			l.Routes = append(l.Routes, spec.Route{Name: portName(r.name.String(), port), Rules: r.resolved})
		}
		for b, name := range r.backends {
			x.enter(table, parent, name, b)
		}
	}
	open := map[string]bool{}
	for _, l := range listeners {
		open[l.Address] = open[l.Address] || len(l.Routes) > 0
	}
	for i := range s.ports {
		p := &s.ports[i]
		l := listeners[int(p.Port)]
		if len(l.Routes) > 0 {
			table.Listeners = append(table.Listeners, *l)
		} else if taken := open[l.Address]; !taken && isTCP(p) {
			open[l.Address] = true
			l.Name += "/tcp" // a listener of another kind needs another name
			l.TCP = &spec.Passthrough{Name: parent.String(), Port: l.Port}
			table.Listeners = append(table.Listeners, *l)
			x.enter(table, parent, parent, backendPort{parent.String(), l.Port})
		}
	}
	return table
}

// listeners returns the listeners for the ports of a parent, by number.
func (x *Index) listeners(parent Name, s *service) map[int]*spec.Listener {
	out := map[int]*spec.Listener{}
	for i := range s.ports {
		p := &s.ports[i]
		out[int(p.Port)] = &spec.Listener{
			// A server keeps the name of a listener as long as its address, so neither may depend on the
			// number that clients use.
			Name: portName(parent.String(), targetPort(p)), Address: x.opts.Listen(parent, p), Port: int(p.Port),
			SessionAffinity: s.affinity,
		}
	}
	return out
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
	speaks, _ := protocol(p)
	return spec.Port{Protocol: speaks, Endpoints: endpoints(x.endpoints[x.source(parent, name)], s.families, p.Name)}
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
	for u := range r.uses {
		in(x.uses, u.source)[u.Backend]++
	}
}

func (x *Index) unlink(r *route) {
	for parent := range r.ports {
		drop(x.attached, parent, r)
	}
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

func portName(name string, port int) string { return name + ":" + strconv.Itoa(port) }

// listenAddress is the default of Options.Listen.
func listenAddress(_ Name, p *corev1.ServicePort) string {
	return ":" + strconv.Itoa(targetPort(p))
}
