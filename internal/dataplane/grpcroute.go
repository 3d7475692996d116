package dataplane

// What is different in a GRPCRoute: its matches, the ports that it means, and that it takes them from HTTPRoutes.

import (
	"maps"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	routes "github.com/mirrorgate/mirrorgate/internal/route"
)

// decodeCalls reads a rule of a GRPCRoute. One without matches is for all calls.
func decodeCalls(raw []byte) (spec.Rule, error) {
	var in struct {
		Name    string `json:"name"`
		Matches []struct {
			Method  spec.CallMatch    `json:"method"`
			Headers []spec.ValueMatch `json:"headers"`
		} `json:"matches"`
		Filters     []spec.Filter     `json:"filters"`
		BackendRefs []spec.BackendRef `json:"backendRefs"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &in); err != nil {
		return spec.Rule{}, err
	}
	out := spec.Rule{Name: in.Name, Filters: in.Filters, BackendRefs: in.BackendRefs}
	for i := range in.Matches {
		out.Matches = append(out.Matches, spec.Match{Call: &in.Matches[i].Method, Headers: in.Matches[i].Headers})
	}
	if len(out.Matches) == 0 {
		out.Matches = []spec.Match{{Call: &spec.CallMatch{}}}
	}
	return out, nil
}

// asWritten returns a note on a rule with the names of fields that the route has.
func (r *route) asWritten(note string) string {
	if r.name.Kind == KindGRPCRoute && strings.HasPrefix(note, ".matches[") {
		return strings.Replace(note, "].call", "].method", 1)
	}
	return note
}

// source is the origin of the references of a route.
func (r RouteName) source() grant.Source {
	kind := routes.HTTPRoute
	if r.Kind == KindGRPCRoute {
		kind = routes.GRPCRoute
	}
	return grant.Source{Kind: kind, Namespace: r.Namespace}
}

// callPorts returns the ports for calls of gRPC that a reference means. One that names no port means those that are
// declared to carry HTTP/2, or else all that may: requests of other clients would get no answer there.
func (x *Index) callPorts(s *service, p *parentRef) (ports []int) {
	named := p.port != 0 || p.section != ""
	for _, only := range []bool{!named, false} {
		for i := range s.ports {
			port := &s.ports[i]
			speaks := x.protocolOf(s, port)
			if x.wants(s, p, port) && (!only || speaks == h2c) && (named || speaks != http1) {
				ports = append(ports, int(port.Port))
			}
		}
		if len(ports) > 0 {
			break
		}
	}
	return ports
}

// countCalls adds n to the numbers of GRPCRoutes at the ports that a route has.
func (x *Index) countCalls(r *route, n int) {
	if r.name.Kind != KindGRPCRoute {
		return
	}
	for parent, ports := range r.ports {
		if _, noted := x.called[parent]; !noted {
			x.called[parent] = x.calledPorts(parent)
		}
		for _, port := range ports {
			if in(x.calls, parent)[port] += n; x.calls[parent][port] == 0 {
				drop(x.calls, parent, port)
			}
		}
	}
}

// calledPorts returns the ports of a Service at which there is a GRPCRoute, sorted.
func (x *Index) calledPorts(parent Name) []int { return slices.Sorted(maps.Keys(x.calls[parent])) }

// yield resolves the HTTPRoutes of a Service again where an update gave a GRPCRoute a port of its own, or took the last
// one away. It does so once for all of them, so that many GRPCRoutes cost no more than one.
func (x *Index) yield(c *changes) {
	for parent, before := range x.called {
		if slices.Equal(before, x.calledPorts(parent)) {
			continue
		}
		for r := range x.naming[parent] {
			if r.name.Kind == KindHTTPRoute {
				x.reresolve(r, c)
			}
		}
	}
	clear(x.called)
}

// free returns the ports at which there is no GRPCRoute, for an HTTPRoute (GEP-1426: the more specific kind wins).
func (x *Index) free(parent Name, ports []int) []int {
	return slices.DeleteFunc(slices.Clone(ports), func(port int) bool { return x.calls[parent][port] > 0 })
}
