package dataplane

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// world is an Index that notes its changes.
type world struct {
	*Index
	t       testing.TB
	changes []*Change
}

func newWorld(t testing.TB, manifests ...string) *world {
	t.Helper()
	w := &world{Index: NewIndex(Options{}), t: t}
	w.Subscribe(func(c *Change) { w.changes = append(w.changes, c) })
	w.apply(manifests...)
	return w
}

// apply feeds manifests, and forgets the changes before them.
func (w *world) apply(manifests ...string) {
	w.t.Helper()
	w.changes = nil
	for _, text := range manifests {
		for doc := range strings.SplitSeq(text, "\n---\n") {
			require.NoError(w.t, w.Upsert(object(w.t, doc)), doc)
		}
	}
}

// object reads a manifest into an object for Upsert.
func object(t testing.TB, doc string) any {
	t.Helper()
	var kind metav1.TypeMeta
	require.NoError(t, yaml.Unmarshal([]byte(doc), &kind), doc)
	switch kind.Kind {
	case "Service":
		var s corev1.Service
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &s), doc)
		return &s
	case "EndpointSlice":
		var s discoveryv1.EndpointSlice
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &s), doc)
		return &s
	}
	if kind.Kind == "ConfigMap" {
		var m corev1.ConfigMap
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &m), doc)
		return &m
	}
	raw, err := yaml.YAMLToJSON([]byte(doc))
	require.NoError(t, err, doc)
	return raw
}

func name(full string) Name {
	namespace, name, ok := strings.Cut(full, "/")
	if !ok {
		namespace, name = "shop", full
	}
	return Name{Namespace: namespace, Name: name}
}

// routeName reads the name of an HTTPRoute, or of a GRPCRoute if it begins with "grpc ".
func routeName(full string) RouteName {
	if called, ok := strings.CutPrefix(full, "grpc "); ok {
		return RouteName{KindGRPCRoute, name(called)}
	}
	return RouteName{KindHTTPRoute, name(full)}
}

func meta(full, more string) string {
	n := name(full)
	return fmt.Sprintf("metadata: {namespace: %s, name: %s, %s}\n", n.Namespace, n.Name, more)
}

// serviceOf is a Service with ports as "name:number->target/appProtocol"; everything but the number may be
// left out. Further lines of its spec may follow in braces form: "type: LoadBalancer".
func serviceOf(full, label, ports string, more ...string) string {
	labels := ""
	if label != "" {
		labels = fmt.Sprintf("labels: {%s: %q}", wellknown.Label, label)
	}
	var list []string
	for p := range strings.FieldsSeq(ports) {
		out := ""
		p, app, _ := strings.Cut(p, "/")
		p, target, _ := strings.Cut(p, "->")
		if called, number, ok := strings.Cut(p, ":"); ok {
			out, p = "name: "+called+", ", number
		}
		out += "port: " + p
		if target != "" {
			out += ", targetPort: " + target
		}
		switch app {
		case "":
		case "UDP":
			out += ", protocol: UDP"
		default:
			out += ", appProtocol: " + app
		}
		list = append(list, "{"+out+"}")
	}
	spec := []string{"selector: {app: x}", "clusterIP: 10.0.0.1", "ports: [" + strings.Join(list, ", ") + "]"}
	for _, m := range more {
		key, _, _ := strings.Cut(m, ":")
		if key == "selector" || key == "clusterIP" {
			spec = slices.DeleteFunc(spec, func(line string) bool { return strings.HasPrefix(line, key+":") })
		}
		spec = append(spec, m)
	}
	return "apiVersion: v1\nkind: Service\n" + meta(full, labels) + "spec: {" + strings.Join(spec, ", ") + "}"
}

// sliceOf is a slice of a Service: a port as "name:number", and addresses, with ! in front of one that is not
// ready, ~ of one that terminates and serves, x of one that terminates and does not.
func sliceOf(full, service, port string, addresses ...string) string {
	family := "IPv4"
	var list []string
	for _, a := range addresses {
		conditions := "ready: true, serving: true, terminating: false"
		switch a[0] {
		case '!':
			a, conditions = a[1:], "ready: false, serving: false, terminating: false"
		case '~':
			a, conditions = a[1:], "ready: false, serving: true, terminating: true"
		case 'x':
			a, conditions = a[1:], "ready: false, serving: false, terminating: true"
		case '?':
			a, conditions = a[1:], ""
		}
		if strings.Contains(a, ":") {
			family = "IPv6"
		}
		list = append(list, fmt.Sprintf("{addresses: [%q], conditions: {%s}}", a, conditions))
	}
	called, number, ok := strings.Cut(port, ":")
	if !ok {
		called, number = "", port
	}
	return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" + meta(full, "labels: {kubernetes.io/service-name: "+service+"}") +
		fmt.Sprintf("addressType: %s\nports: [{name: %q, port: %s, protocol: TCP}]\nendpoints: [%s]", family, called, number, strings.Join(list, ", "))
}

// routeOf returns an HTTPRoute with parents and rules in YAML's flow form, without the brackets. more
// replaces the generation and date in its metadata.
func routeOf(full, parents, rules string, more ...string) string {
	if len(more) == 0 {
		more = []string{"generation: 7", `creationTimestamp: "2026-01-01T00:00:00Z"`}
	}
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n" + meta(full, strings.Join(more, ", ")) +
		fmt.Sprintf("spec:\n  parentRefs: [%s]\n  rules: [%s]", parents, rules)
}

// grpcRouteOf is routeOf for a GRPCRoute.
func grpcRouteOf(full, parents, rules string, more ...string) string {
	return strings.Replace(routeOf(full, parents, rules, more...), "kind: HTTPRoute", "kind: GRPCRoute", 1)
}

const parent = `{group: "", kind: Service, name: httpbin, port: 8000}`

func grantOf(full, from, to string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\n" + meta(full, "") +
		fmt.Sprintf("spec: {from: [%s], to: [%s]}", from, to)
}

// tutorial has the objects of Istio's task and Iter8's tutorial: a Service, two variants and a mirror.
var tutorial = strings.Join([]string{
	serviceOf("httpbin", wellknown.Enabled, "http:8000->80"),
	serviceOf("httpbin-v1", "", "http:80"), serviceOf("httpbin-v2", "", "http:80"),
	sliceOf("httpbin-v1-a", "httpbin-v1", "http:80", "10.1.0.1"), sliceOf("httpbin-v2-a", "httpbin-v2", "http:80", "10.2.0.1"),
	routeOf("httpbin", parent, mirroring),
}, "\n---\n")

const mirroring = `{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}], backendRefs: [{name: httpbin-v1, port: 80}]}`

// attached returns the Services that a route is attached to.
func attached(x *Index) []Name {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(x.attached), compareNames)
}

// conditions of a route, one line for each parent.
func (w *world) conditions(route string) string {
	parents, generation := w.Status(routeName(route))
	var lines []string
	for _, p := range parents {
		assert.Equal(w.t, wellknown.ControllerName, p.ControllerName)
		var words []string
		for _, c := range p.Conditions {
			assert.Equal(w.t, generation, c.ObservedGeneration)
			assert.NotEmpty(w.t, c.Message)
			words = append(words, fmt.Sprintf("%s=%s:%s", c.Type, c.Status, c.Reason))
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return strings.Join(lines, "\n")
}

const (
	fine    = "Accepted=True:Accepted ResolvedRefs=True:ResolvedRefs"
	refused = "Accepted=False:%s ResolvedRefs=True:ResolvedRefs"
	dangles = "Accepted=True:Accepted ResolvedRefs=False:%s"
)

func (w *world) message(route, condition string) string {
	parents, _ := w.Status(routeName(route))
	for _, p := range parents {
		for _, c := range p.Conditions {
			if c.Type == condition {
				return c.Message
			}
		}
	}
	return ""
}

// compiled is the table of a parent as the proxy would serve it.
func (w *world) compiled(parent string) *routing.Table {
	w.t.Helper()
	table := w.Table(name(parent))
	if table == nil {
		return nil
	}
	out, problems := routing.Compile(table)
	require.NotNil(w.t, out, problems)
	return out
}

type noHeader struct{}

func (noHeader) Get(string) (string, bool) { return "", false }

// ask returns how a GET is routed: backend and status, with endpoints in brackets, then mirrors.
func ask(t *routing.Table, listener int, path string) string {
	rule := t.Match(listener, &routing.Request{Method: "GET", Host: "httpbin:8000", Path: path, Header: noHeader{}})
	if rule == nil {
		return "404"
	}
	b, status := rule.Pick()
	out := fmt.Sprint(status)
	if b != nil {
		out = b.Name
		if status != 0 {
			out += fmt.Sprintf(" %d", status)
		} else {
			out += fmt.Sprint(b.Port.Ready)
		}
	}
	for _, m := range rule.Mirrors {
		out += " > " + m.Target.Name
	}
	return out
}

// at lists endpoints: ready ones, and after a bar those that are not.
func at(port spec.Port) string {
	ready, unready := port.Addresses()
	return strings.Join(ready, " ") + "|" + strings.Join(unready, " ")
}
