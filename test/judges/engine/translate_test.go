package engine

// From rules of routes to the words of the proxy's file, which are the same but for names and references.

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// translate fills in the rules of a route as the proxy has them, and the fault of its references.
func (m *model) translate(r *route) {
	text, err := json.Marshal(r.rules)
	if err != nil {
		panic(err)
	}
	var rules []map[string]any
	if err := json.Unmarshal(text, &rules); err != nil {
		panic(err)
	}
	for _, rule := range rules {
		for _, ref := range list(rule["backendRefs"]) {
			m.refer(r, ref)
			m.mirrors(r, list(ref["filters"]))
		}
		m.mirrors(r, list(rule["filters"]))
		if r.kind == "GRPCRoute" {
			calls(rule)
		}
		r.served = append(r.served, rule)
	}
}

func (m *model) mirrors(r *route, filters []map[string]any) {
	for _, f := range filters {
		if mirror, is := f["requestMirror"].(map[string]any); is {
			m.refer(r, mirror["backendRef"].(map[string]any))
			delete(mirror["backendRef"].(map[string]any), "weight")
		}
	}
}

func list(of any) (out []map[string]any) {
	items, _ := of.([]any)
	for _, i := range items {
		out = append(out, i.(map[string]any))
	}
	return out
}

// calls moves the matches of a GRPCRoute's rule.
func calls(rule map[string]any) {
	matches := list(rule["matches"])
	if len(matches) == 0 {
		matches = []map[string]any{{}}
	}
	for _, match := range matches {
		match["call"] = match["method"]
		if delete(match, "method"); match["call"] == nil {
			match["call"] = map[string]any{}
		}
	}
	rule["matches"] = matches
}

// refer replaces the name in a reference by that of the table, and adds the backend to the table. A reference that leads
// nowhere, or is not permitted, gets a name that the table lacks.
func (m *model) refer(r *route, ref map[string]any) {
	from := r.object.GetNamespace()
	namespace, _ := ref["namespace"].(string)
	if namespace == "" {
		namespace = from
	}
	name := namespace + "/" + ref["name"].(string)
	kind, _ := ref["kind"].(string)
	port, _ := ref["port"].(float64)
	service := m.service(namespace, ref["name"].(string))
	fault := ""
	switch {
	case kind != "" && kind != "Service":
		fault = "InvalidKind"
	case namespace != from && !m.granted(r.kind, from, namespace, ref["name"].(string)):
		fault = "RefNotPermitted"
	case service == nil:
		fault = "BackendNotFound"
	}
	for _, field := range []string{"namespace", "group", "kind"} {
		delete(ref, field)
	}
	if ref["name"] = name; fault != "" {
		r.fault, ref["name"], ref["port"] = fault, "missing/"+name, max(port, 1)
		return
	}
	m.backend(name, service, int32(port))
}

func (m *model) service(namespace, name string) *corev1.Service {
	i := slices.IndexFunc(m.services.Items, func(s corev1.Service) bool { return s.Namespace == namespace && s.Name == name })
	if i < 0 {
		return nil
	}
	return &m.services.Items[i]
}

func (m *model) granted(kind, from, to, name string) bool {
	return slices.ContainsFunc(m.grants.Items, func(g gatewayv1.ReferenceGrant) bool {
		return g.Namespace == to &&
			slices.ContainsFunc(g.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
				return f.Group == gatewayv1.GroupName && string(f.Kind) == kind && string(f.Namespace) == from
			}) &&
			slices.ContainsFunc(g.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
				return t.Group == "" && t.Kind == "Service" && (t.Name == nil || string(*t.Name) == name)
			})
	})
}

// backend adds a port of a Service to the table.
func (m *model) backend(name string, s *corev1.Service, number int32) {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Port != number {
			continue
		}
		protocol := "auto"
		if p.AppProtocol != nil {
			protocol = map[string]string{"kubernetes.io/h2c": "h2c", "kubernetes.io/ws": "http"}[*p.AppProtocol]
		}
		if m.backends == nil {
			m.backends = map[string]map[string]any{}
		}
		if m.backends[name] == nil {
			m.backends[name] = map[string]any{}
		}
		m.backends[name][fmt.Sprint(number)] = map[string]any{"protocol": protocol, "endpoints": m.endpoints(s, p.Name)}
	}
}

// endpoints returns the ready endpoints of a port. A dual-stack Service's are those of IPv4.
func (m *model) endpoints(s *corev1.Service, port string) []string {
	out := []string{}
	for i := range m.slices.Items {
		slice := &m.slices.Items[i]
		if slice.Namespace != s.Namespace || slice.Labels[discoveryv1.LabelServiceName] != s.Name || slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port {
				continue
			}
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					out = append(out, fmt.Sprintf("%s:%d", e.Addresses[0], *p.Port))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
