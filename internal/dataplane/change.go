package dataplane

// Changes: the consequences of an object that comes, changes or goes, so that only these are computed again
// and announced.

import (
	"maps"
	"reflect"
	"slices"

	"github.com/mirrorgate/mirrorgate/internal/grant"
)

// changes collects the tables, backends, routes and parents that an update concerns.
type changes struct {
	tables    map[Name]bool
	endpoints map[Backend]bool
	routes    map[RouteName]bool
	parents   map[Name]bool
}

// update runs fn under the lock and calls the subscribers afterwards.
func (x *Index) update(fn func(*changes)) {
	c := &changes{map[Name]bool{}, map[Backend]bool{}, map[RouteName]bool{}, map[Name]bool{}}
	x.mu.Lock()
	fn(c)
	x.yield(c)
	subscribers := x.subscribers
	x.mu.Unlock()
	if len(c.tables)+len(c.endpoints)+len(c.routes)+len(c.parents) == 0 {
		return
	}
	maps.DeleteFunc(c.parents, func(name Name, _ bool) bool { return c.tables[name] })
	change := &Change{
		Tables:    slices.SortedFunc(maps.Keys(c.tables), compareNames),
		Endpoints: slices.Collect(maps.Keys(c.endpoints)),
		Routes:    slices.SortedFunc(maps.Keys(c.routes), RouteName.compare),
		Parents:   slices.SortedFunc(maps.Keys(c.parents), compareNames),
	}
	for _, s := range subscribers {
		s(change)
	}
}

func (x *Index) names(kind Kind) []Name {
	switch kind {
	case KindService:
		return slices.Collect(maps.Keys(x.services))
	case KindEndpointSlice:
		return slices.Collect(maps.Keys(x.slices))
	case KindHTTPRoute, KindGRPCRoute:
		var out []Name
		for name := range x.routes {
			if name.Kind == kind {
				out = append(out, name.Name)
			}
		}
		return out
	case KindPod:
		return slices.Collect(maps.Keys(x.pods))
	case KindMirrorPolicy:
		return slices.Collect(maps.Keys(x.policies))
	case KindBackendTLSPolicy:
		return slices.Collect(maps.Keys(x.tlsPolicies))
	case KindConfigMap:
		return slices.Collect(maps.Keys(x.trusted))
	}
	var out []Name
	for namespace, grants := range x.grants {
		for name := range grants {
			out = append(out, Name{Namespace: namespace, Name: name})
		}
	}
	return out
}

func (x *Index) remove(kind Kind, name Name, c *changes) {
	switch kind {
	case KindService:
		x.putService(name, nil, c)
	case KindEndpointSlice:
		x.putSlice(name, nil, c)
	case KindHTTPRoute, KindGRPCRoute:
		x.putRoute(RouteName{kind, name}, nil, c)
	case KindReferenceGrant:
		x.putGrant(name, nil, c)
	case KindPod:
		x.putPod(name, nil, c)
	case KindMirrorPolicy:
		x.putPolicy(name, nil, c)
	case KindBackendTLSPolicy:
		x.putTLSPolicy(name, nil, c)
	case KindConfigMap:
		x.putConfigMap(name, nil, c)
	}
}

func (x *Index) putService(name Name, s *service, c *changes) {
	old := x.services[name]
	if s == nil && old == nil {
		return
	}
	if s == nil || old == nil || !s.selects.equal(&old.selects) {
		x.selected(name, s, old, c)
	}
	if s != nil && old != nil && s.asks != old.asks && (len(x.naming[name]) > 0 || s.selects.recorded != "") {
		c.parents[name] = true
	}
	if delete(x.services, name); s != nil {
		x.services[name] = s
	}
	if s != nil && s.equal(old) {
		return
	}
	if own := x.opts.Parent; name == own || name == originOf(own) {
		c.tables[own] = true // it has a table even without a route
	}
	for r := range x.naming[name] {
		c.tablesOf(r) // its ports and families are in the table
		x.reresolve(r, c)
	}
}

func (x *Index) putSlice(name Name, s *slice, c *changes) {
	old := x.slices[name]
	if s == nil && old == nil || s != nil && s.equal(old) {
		return
	}
	if old != nil {
		delete(x.slices, name)
		x.endpoints[old.service] = slices.DeleteFunc(x.endpoints[old.service], func(o *slice) bool { return o == old })
		if len(x.endpoints[old.service]) == 0 {
			delete(x.endpoints, old.service)
		}
		x.noteEndpoints(old.service, c)
	}
	if s != nil {
		x.slices[name] = s
		x.endpoints[s.service] = append(x.endpoints[s.service], s)
		x.noteEndpoints(s.service, c)
	}
}

// noteEndpoints notes the backends whose endpoints are those of a Service.
func (x *Index) noteEndpoints(source Name, c *changes) {
	for b := range x.uses[source] {
		c.endpoints[b] = true
	}
	if own := x.opts.Parent; source == originOf(own) {
		c.endpoints[Backend{own, own.String()}] = true // of ports that are passed through
	}
}

func (x *Index) putGrant(name Name, g *grant.Grant, c *changes) {
	if g.Equal(x.grants[name.Namespace][name.Name]) {
		return
	}
	if g != nil {
		in(x.grants, name.Namespace)[name.Name] = g
	} else {
		drop(x.grants, name.Namespace, name.Name)
	}
	for r := range x.crossing[name.Namespace] {
		x.reresolve(r, c)
	}
}

func (x *Index) putRoute(name RouteName, r *route, c *changes) {
	old := x.routes[name]
	if r == nil && old == nil {
		return
	}
	if r != nil && old != nil && r.same(old) {
		written := !reflect.DeepEqual(old.stored, r.stored)
		if old.stored = r.stored; written && old.stale() {
			c.routes[name] = true // somebody else wrote it
		}
		return
	}
	if old != nil {
		c.tablesOf(old)
		if len(old.status) > 0 {
			c.routes[name] = true
		}
		x.unlink(old)
		delete(x.routes, name)
		each(old, func(name Name) { drop(x.naming, name, old) }, func(ns string) { drop(x.crossing, ns, old) })
		for service := range old.names() {
			x.notePolicies(service, c)
		}
	}
	if r == nil {
		return
	}
	x.routes[name] = r
	each(r, func(name Name) { in(x.naming, name)[r] = struct{}{} }, func(ns string) { in(x.crossing, ns)[r] = struct{}{} })
	x.reresolve(r, c)
	c.tablesOf(r)
	if len(r.status) > 0 || r.stale() {
		c.routes[name] = true
	}
}

// each calls named for the Services that a route names, and foreign for the foreign namespaces among theirs.
func each(r *route, named func(Name), foreign func(string)) {
	for name := range r.names() {
		named(name)
		if name.Namespace != r.name.Namespace {
			foreign(name.Namespace)
		}
	}
}

// reresolve resolves a route again and notes the changes.
func (x *Index) reresolve(r *route, c *changes) {
	before, next := r.resolution, x.resolve(r)
	if !reflect.DeepEqual(before.status, next.status) {
		c.routes[r.name] = true
	}
	served := !reflect.DeepEqual(before.ports, next.ports) ||
		!reflect.DeepEqual(before.backends, next.backends) || !reflect.DeepEqual(before.resolved, next.resolved)
	if served {
		c.tablesOf(r)
	}
	x.unlink(r)
	r.resolution = next
	x.link(r)
	if served {
		c.tablesOf(r)
	}
	if len(before.ports) == 0 != (len(next.ports) == 0) {
		for service := range r.names() {
			x.notePolicies(service, c)
		}
	}
}

// tablesOf notes the tables that a route is in.
func (c *changes) tablesOf(r *route) {
	for parent := range r.ports {
		c.tables[parent] = true
	}
}
