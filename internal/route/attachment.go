package route

// Where a route is attached: the hosts, gateways and parents that say which clients see it, and the owners
// that say who else writes it.

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/ptr"
)

// Mesh is the name in Route.Gateways that stands for the sidecars of the mesh.
const Mesh = "mesh"

// shadowSuffix is the end of the host by which Envoy marks a copy.
const shadowSuffix = "-shadow"

// Owner is an owner reference of a route. For a core object, whose apiVersion has no group, Group is the
// version, v1.
type Owner struct {
	Group, Kind, Name, UID string
	// Controller is set for the owner that controls the route.
	Controller bool
}

// Parent is a parentRef of an HTTPRoute or a GRPCRoute.
type Parent struct{ Group, Kind, Namespace, Name string }

// Attachment says which clients see a route.
type Attachment struct {
	// Parents are the parentRefs of an HTTPRoute or a GRPCRoute.
	Parents []Parent
	// Hosts are the hosts of a VirtualService, as targets; a wildcard is a host. Each is there once, as are gateways
	// and namespaces.
	Hosts []Target
	// Gateways are the gateways of a VirtualService as namespace/name, or Mesh. It is empty for a delegate.
	Gateways []string
	// ExportTo are the namespaces that see a VirtualService: "*", "~", or names. Empty stands for all.
	ExportTo []string
	// Delegates are the VirtualServices to which rules of this one delegate.
	Delegates []ServiceName
	// TellsCopies reports whether the route tells copies apart by their host: it names one that ends in
	// -shadow.
	TellsCopies bool
}

// IsDelegate reports whether the route is a VirtualService without hosts, which only its roots use.
func (rt *Route) IsDelegate() bool { return rt.Kind == VirtualService && len(rt.Hosts) == 0 }

// Backend is a target whose answers the client gets.
type Backend struct {
	Target
	// Receives reports whether it gets any request: a weight of 0 among several gives it none.
	Receives bool
}

// receives reports whether a backend of a weight gets requests. alone is set for an only backend that gets
// all of them whatever its weight is. A weight that cannot be read is left to the schema.
func receives(weight json.RawMessage, unset, alone bool) bool {
	if alone {
		return true
	}
	if isNull(weight) {
		return unset
	}
	n, err := strconv.ParseFloat(string(weight), 64)
	return err != nil || n != 0
}

func (rt *Route) readParents(s *spec) {
	for _, ref := range s.ParentRefs {
		rt.Parents = append(rt.Parents, Parent{
			Group: ptr.Deref(ref.Group, GatewayGroup), Kind: ptr.Deref(ref.Kind, "Gateway"),
			Namespace: cmp.Or(ptr.Deref(ref.Namespace, ""), rt.Namespace), Name: ref.Name,
		})
	}
	for _, host := range s.Hostnames {
		rt.noteShadow(host)
	}
}

func (rt *Route) noteShadow(host string) {
	first, _, _ := strings.Cut(host, ".")
	first, _, _ = strings.Cut(first, ":")
	rt.TellsCopies = rt.TellsCopies || strings.HasSuffix(first, shadowSuffix) || strings.HasSuffix(host, shadowSuffix)
}

func (rt *Route) readIstioAttachment(s *spec, domain string) {
	for _, host := range s.Hosts {
		t, _ := hostTarget(strings.ToLower(host), rt.Namespace, domain)
		rt.Hosts = append(rt.Hosts, t)
		rt.noteShadow(host)
	}
	rt.Hosts = unique(rt.Hosts)
	for i := range s.HTTP {
		in := s.HTTP[i]
		for _, m := range in.Match {
			rt.noteShadow(cmp.Or(m.Authority.Exact, m.Authority.Prefix))
		}
		var delegate ServiceName
		if !isNull(in.Delegate) && reread(in.Delegate, &delegate) == nil && delegate.Name != "" {
			rt.Delegates = append(rt.Delegates, ServiceName{cmp.Or(delegate.Namespace, rt.Namespace), delegate.Name})
		}
	}
	for _, to := range s.ExportTo {
		if to == "." {
			to = rt.Namespace
		}
		rt.ExportTo = append(rt.ExportTo, to)
	}
	rt.ExportTo = unique(rt.ExportTo)
	for _, name := range s.Gateways {
		rt.Gateways = append(rt.Gateways, gatewayName(name, rt.Namespace))
	}
	rt.Gateways = unique(rt.Gateways)
	if len(rt.Gateways) == 0 && len(rt.Hosts) > 0 {
		rt.Gateways = []string{Mesh}
	}
}

// gatewayName returns a gateway of a VirtualService as namespace/name. Istio also reads name.namespace and
// the full name of a Service.
func gatewayName(name, namespace string) string {
	if name == Mesh {
		return Mesh
	}
	if before, after, ok := strings.Cut(name, "/"); ok {
		if before == "." {
			before = namespace
		}
		return before + "/" + after
	}
	if short, rest, ok := strings.Cut(name, "."); ok {
		namespace, _, _ = strings.Cut(rest, ".")
		name = short
	}
	return namespace + "/" + name
}

// unique removes the second and later ones of equal values.
func unique[T comparable](values []T) []T {
	if len(values) < 2 {
		return values
	}
	seen := make(map[T]bool, len(values))
	return slices.DeleteFunc(values, func(v T) bool {
		again := seen[v]
		seen[v] = true
		return again
	})
}
