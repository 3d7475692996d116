package dataplane

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Rules of several routes are one table: the better match first, then the older route, then the name, in
// whatever order they arrive.
func TestPrecedence(t *testing.T) {
	route := func(full, created, path string) string {
		return routeOf(full, parent, fmt.Sprintf("{matches: [{path: {value: %s}}], backendRefs: [{name: %s, port: 80}]}", path, strings.TrimPrefix(full, "shop/")),
			fmt.Sprintf("creationTimestamp: %q", created))
	}
	objects := []string{
		serviceOf("httpbin", wellknown.Enabled, "8000"), serviceOf("a", "", "80"), serviceOf("b", "", "80"), serviceOf("c", "", "80"), serviceOf("d", "", "80"),
		route("a", "2026-02-01T00:00:00Z", "/"), route("b", "2026-01-01T00:00:00Z", "/"),
		route("c", "2026-03-01T00:00:00Z", "/long"), route("d", "2026-03-01T00:00:00Z", "/long"),
	}
	for range 2 {
		w := newWorld(t, objects...)
		table := w.compiled("httpbin")
		assert.Equal(t, "shop/b:80[]", ask(table, 0, "/"), "older")
		assert.Equal(t, "shop/c:80[]", ask(table, 0, "/long/er"), "by name, and by the longer prefix although it is younger")
		w.Delete(KindHTTPRoute, "shop", "b")
		assert.Equal(t, "shop/a:80[]", ask(w.compiled("httpbin"), 0, "/"))
		w.apply(route("d", "2025-01-01T00:00:00Z", "/long"))
		assert.Equal(t, "shop/d:80[]", ask(w.compiled("httpbin"), 0, "/long"), "made anew with another date")
		for i, j := 0, len(objects)-1; i < j; i, j = i+1, j-1 {
			objects[i], objects[j] = objects[j], objects[i]
		}
	}
}

// Hostnames do not matter, since a client that connects to a Service means it.
func TestHostnames(t *testing.T) {
	w := newWorld(t, tutorial)
	w.apply(strings.Replace(routeOf("httpbin", parent, mirroring, "generation: 8"), "spec:\n", "spec:\n  hostnames: [example.com]\n", 1))
	assert.Equal(t, "shop/httpbin-v1:80[10.1.0.1:80] > shop/httpbin-v2:80", ask(w.compiled("httpbin"), 0, "/"))
}

// Each port with a route is a listener of its own, at its target port.
func TestPorts(t *testing.T) {
	const to = "backendRefs: [{name: v1, port: 80}]"
	refer := func(more string) string { return `{group: "", kind: Service, name: httpbin` + more + `}` }
	w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "http:80->8080 named:81->web same:82 alias:83->8080 tcp:5432/postgres more:5433->5432/postgres"), serviceOf("v1", "", "80"),
		routeOf("all", refer(""), "{matches: [{path: {value: /all}}], "+to+"}"),
		routeOf("one", refer(", sectionName: named"), "{matches: [{path: {value: /one}}], "+to+"}"),
		routeOf("twice", refer(", port: 82")+", "+refer(", sectionName: same"), "{matches: [{path: {value: /twice}}], "+to+"}"),
	)
	for _, r := range []string{"all", "one"} {
		assert.Equal(t, fine, w.conditions(r))
	}
	assert.Equal(t, fine+"\n"+fine, w.conditions("twice"))
	table := w.compiled("httpbin")
	var got []string
	for i, l := range table.Listeners {
		got = append(got, fmt.Sprint(l.Name, " ", l.Address, " ", l.Port, ": ", ask(table, i, "/all"), " ", ask(table, i, "/one"), " ", ask(table, i, "/twice")))
	}
	web := targetPort(&corev1.ServicePort{TargetPort: intstr.FromString("web")})
	assert.Equal(t, []string{
		"shop/httpbin:8080 :8080 80: shop/v1:80[] 404 404",
		fmt.Sprintf("shop/httpbin:%d :%d 81: shop/v1:80[] shop/v1:80[] 404", web, web),
		"shop/httpbin:82 :82 82: shop/v1:80[] 404 shop/v1:80[]",
		"shop/httpbin:5432/tcp :5432 5432: 404 404 404",
	}, got)
	assert.Equal(t, "shop/httpbin:5432", fmt.Sprint(table.Listeners[3].TCP.Service, ":", table.Listeners[3].TCP.Number), "what is no HTTP passes through")
	assert.Equal(t, "shop/all:80/0", table.Rules[0].Name)
	assert.Len(t, table.Rules, 6, "a route that refers twice is there once")
}

// A reference to the parent means its origin, and so does one to any Service whose selector is swapped.
func TestOrigin(t *testing.T) {
	w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "web:8000"), serviceOf("v1", "", "80"), serviceOf("v2", "", "80"),
		sliceOf("proxies", "httpbin", "web:8000", "10.0.0.1"), sliceOf("origin", "httpbin-mirrorgate-origin", "web:80", "10.1.0.1"),
		sliceOf("v1", "v1", "80", "10.2.0.1"), sliceOf("v1-origin", "v1-mirrorgate-origin", "80", "10.2.0.9"),
		sliceOf("v2", "v2", "80", "10.3.0.1"),
		routeOf("r", parent, `{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}}}], backendRefs: [{name: httpbin, port: 8000}]}`))
	table := w.Table(name("httpbin"))
	assert.Equal(t, "10.1.0.1:80|", at(table.Services["shop/httpbin"][8000]))
	assert.Equal(t, "10.2.0.1:80|", at(table.Services["shop/v1"][80]))

	w.apply(sliceOf("origin", "httpbin-mirrorgate-origin", "web:80", "10.1.0.2"))
	assert.Equal(t, []*Change{{Tables: nil, Endpoints: []Backend{{name("httpbin"), "shop/httpbin"}}}}, w.changes)
	w.apply(sliceOf("proxies", "httpbin", "web:8000", "10.0.0.2"))
	assert.Empty(t, w.changes, "proxies come and go")

	w.apply(serviceOf("v1", "", "80", "selector: {app: mirrorgate-v1}"))
	assert.Equal(t, "10.2.0.9:80|", at(w.Table(name("httpbin")).Services["shop/v1"][80]))
	w.apply(serviceOf("v1", "", "80", "selector: {app: mirrorgate-v1, also: y}"))
	assert.Equal(t, "10.2.0.1:80|", at(w.Table(name("httpbin")).Services["shop/v1"][80]), "its own again")
	w.apply(serviceOf("httpbin", wellknown.Enabled, "web:8000", "selector: {app: mirrorgate-httpbin}"))
	assert.Equal(t, "10.1.0.2:80|", at(w.Table(name("httpbin")).Services["shop/httpbin"][8000]), "the parent, swapped or not")
}

// Which endpoints get requests.
func TestEndpoints(t *testing.T) {
	v4, v6 := "ipFamilies: [IPv4, IPv6]", "ipFamilies: [IPv6, IPv4]"
	for _, test := range []struct {
		name, service string
		slices        []string
		want          string
	}{
		{"none", serviceOf("v1", "", "80"), nil, "|"},
		{"ready and not", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "10.0.0.2", "!10.0.0.3", "10.0.0.1")}, "10.0.0.1:80 10.0.0.2:80|10.0.0.3:80"},
		{"no condition is ready", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "?10.0.0.1")}, "10.0.0.1:80|"},
		{"one terminates", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "~10.0.0.1", "10.0.0.2", "x10.0.0.3")}, "10.0.0.2:80|10.0.0.1:80 10.0.0.3:80"},
		{"all terminate", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "~10.0.0.1", "!10.0.0.2", "x10.0.0.3")}, "10.0.0.1:80|10.0.0.2:80 10.0.0.3:80"},
		{"none serves", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "!10.0.0.2", "x10.0.0.3")}, "|10.0.0.2:80 10.0.0.3:80"},
		{"several slices", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "10.0.0.1"), sliceOf("b", "v1", "80", "10.0.0.2")}, "10.0.0.1:80 10.0.0.2:80|"},
		{"in two slices", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "!10.0.0.1"), sliceOf("b", "v1", "80", "10.0.0.1")}, "10.0.0.1:80|"},
		{"in two slices, the other way", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "10.0.0.1"), sliceOf("b", "v1", "80", "!10.0.0.1")}, "10.0.0.1:80|"},
		{"serves, is not ready, and does not terminate", serviceOf("v1", "", "80"), []string{strings.Replace(sliceOf("a", "v1", "80", "~10.0.0.1"), "terminating: true", "terminating: false", 1)}, "|10.0.0.1:80"},
		{"of another Service", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "10.0.0.1"), sliceOf("b", "v2", "80", "10.0.0.2")}, "10.0.0.1:80|"},
		{"by the port's name", serviceOf("v1", "", "web:80 admin:81"), []string{sliceOf("a", "v1", "web:8080", "10.0.0.1"), sliceOf("b", "v1", "admin:80", "10.0.0.2")}, "10.0.0.1:8080|"},
		{"named target port, other numbers", serviceOf("v1", "", "web:80->http"), []string{sliceOf("a", "v1", "web:8080", "10.0.0.1"), sliceOf("b", "v1", "web:9090", "10.0.0.2")}, "10.0.0.1:8080 10.0.0.2:9090|"},
		{"dual stack", serviceOf("v1", "", "80", v4), []string{sliceOf("a", "v1", "80", "10.0.0.1"), sliceOf("b", "v1", "80", "fd00::1")}, "10.0.0.1:80|"},
		{"dual stack, IPv6 first", serviceOf("v1", "", "80", v6), []string{sliceOf("a", "v1", "80", "10.0.0.1"), sliceOf("b", "v1", "80", "fd00::1")}, "[fd00::1]:80|"},
		{"IPv6 alone", serviceOf("v1", "", "80", "ipFamilies: [IPv6]"), []string{sliceOf("b", "v1", "80", "fd00::1", "!fd00::2")}, "[fd00::1]:80|[fd00::2]:80"},
		{"IPv6 without families", serviceOf("v1", "", "80"), []string{sliceOf("b", "v1", "80", "fd00::1")}, "[fd00::1]:80|"},
		{"only the second is ready", serviceOf("v1", "", "80", v4), []string{sliceOf("a", "v1", "80", "!10.0.0.1"), sliceOf("b", "v1", "80", "fd00::1")}, "[fd00::1]:80|"},
		{"neither is", serviceOf("v1", "", "80", v4), []string{sliceOf("a", "v1", "80", "!10.0.0.1"), sliceOf("b", "v1", "80", "!fd00::1")}, "|10.0.0.1:80"},
		{"FQDN", serviceOf("v1", "", "80"), []string{strings.Replace(sliceOf("a", "v1", "80", "example.com"), "addressType: IPv4", "addressType: FQDN", 1)}, "|"},
		{"no address", serviceOf("v1", "", "80"), []string{sliceOf("a", "v1", "80", "example.com")}, "|"},
		{"no Service", serviceOf("v1", "", "80"), []string{strings.Replace(sliceOf("a", "v1", "80", "10.0.0.1"), "kubernetes.io/service-name", "x", 1)}, "|"},
		{"UDP", serviceOf("v1", "", "80"), []string{strings.Replace(sliceOf("a", "v1", "80", "10.0.0.1"), "TCP", "UDP", 1)}, "|"},
		{"second address", serviceOf("v1", "", "80"), []string{strings.Replace(sliceOf("a", "v1", "80", "10.0.0.1"), `["10.0.0.1"]`, `["10.0.0.1", "10.0.0.2"]`, 1)}, "10.0.0.1:80|"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "8000"), test.service, routeOf("r", parent, "{backendRefs: [{name: v1, port: 80}]}"))
			w.apply(test.slices...)
			assert.Equal(t, test.want, at(w.Table(name("httpbin")).Services["shop/v1"][80]))
			port, ok := w.Port(Backend{name("httpbin"), "shop/v1"}, 80)
			assert.True(t, ok)
			assert.Equal(t, test.want, at(port))
		})
	}
}

// The protocol of a backend's port is that of its appProtocol, or else of its name, unless the name would contradict
// the route.
func TestProtocols(t *testing.T) {
	for ports, want := range map[string]string{
		"a:80/http": "http", "a:80/HTTP": "http", "a:80/kubernetes.io/ws": "http", "a:80/kubernetes.io/h2c": "h2c",
		"a:80/Kubernetes.io/H2C": "h2c", "a:80/http2": "h2c", "a:80/grpc": "h2c", "a:80/gRPC": "h2c", "a:80/grpc-web": "auto",
		"80": "auto", "a:80": "auto", "http:80": "auto", "http-a:80": "auto", "grpc:80": "h2c", "grpc-a:80": "h2c",
		"http2:80": "h2c", "http2-a:80": "h2c", "h2c:80": "h2c", "grpc-web:80": "auto", "grpc-web-a:80": "auto",
		"grpc:80/http": "http", "tcp-a:80": "auto", "grpcx:80": "auto",
	} {
		w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "8000"), serviceOf("v1", "", ports), routeOf("r", parent, "{backendRefs: [{name: v1, port: 80}]}"))
		assert.Equal(t, fine, w.conditions("r"), ports)
		assert.Equal(t, want, w.Table(name("httpbin")).Services["shop/v1"][80].Protocol, ports)
	}
}

// A route without a port is for the ports that may carry HTTP. The others pass through, and where nothing tells the
// protocol the proxy detects at the bytes.
func TestDetects(t *testing.T) {
	for ports, want := range map[string]string{
		"a:8000/http": "rules", "http:8000": "rules", "http-a:8000": "rules", "grpc:8000": "rules", "grpc-web:8000": "rules", "ws:8000": "rules",
		"8000": "detects", "a:8000": "detects", "web:8000": "detects",
		"https:8000": "passes", "https-a:8000": "passes", "tls:8000": "passes", "tcp:8000": "passes", "tcp-a:8000": "passes", "redis:8000": "passes",
		"mongo-a:8000": "passes", "mysql:8000": "passes", "a:8000/https": "passes", "a:8000/TLS": "passes", "a:8000/tcp": "passes",
		"a:8000/kubernetes.io/wss": "passes", "a:8000/redis": "passes", "http:8000/https": "passes", "a:8000/example.com/own": "passes",
	} {
		w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "z:1->1/http "+ports), serviceOf("v1", "", "80"),
			routeOf("r", `{group: "", kind: Service, name: httpbin}`, "{backendRefs: [{name: v1, port: 80}]}"))
		l := w.Table(name("httpbin")).Listeners[1]
		got := "rules"
		if l.TCP != nil {
			got = "passes"
		} else if l.Otherwise != nil {
			got = "detects"
			assert.Equal(t, spec.Passthrough{Name: "shop/httpbin", Port: 8000}, *l.Otherwise)
		}
		assert.Equal(t, want, got, ports)
	}
}

// Ports that share a target port are told apart by the port in a request's authority. One without a route leads to
// the origin.
func TestSharedTargetPort(t *testing.T) {
	refer := func(port string) string { return `{group: "", kind: Service, name: httpbin, port: ` + port + `}` }
	w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "a:80->8080 b:8080 c:9090->8080/http"), serviceOf("v1", "", "80"), serviceOf("v2", "", "80"),
		sliceOf("o", "httpbin-mirrorgate-origin", "c:8080", "10.0.0.9"),
		routeOf("one", refer("80"), "{matches: [{path: {value: /x}}], backendRefs: [{name: v1, port: 80}]}"),
		routeOf("two", refer("8080"), "{backendRefs: [{name: v2, port: 80}]}"))
	table := w.compiled("httpbin")
	require.Len(t, table.Listeners, 1)
	for host, want := range map[string]string{
		"httpbin": "shop/v1:80", "httpbin:80": "shop/v1:80", "httpbin:8080": "shop/v2:80", "httpbin:9090": "shop/httpbin:9090",
		"example.com": "shop/v1:80", "httpbin:1": "shop/v1:80", "httpbin:": "shop/v1:80", "[::1]:8080": "shop/v2:80",
	} {
		rule := table.Match(0, &routing.Request{Method: "GET", Host: host, Path: "/x", Header: noHeader{}})
		if assert.NotNil(t, rule, host) {
			b, _ := rule.Pick()
			assert.Equal(t, want, b.Name, host)
		}
	}
	assert.Nil(t, table.Match(0, &routing.Request{Method: "GET", Host: "httpbin", Path: "/y", Header: noHeader{}}), "the port has a route, so that there is no way around it")
	assert.Equal(t, "10.0.0.9:8080|", at(w.Table(name("httpbin")).Services["shop/httpbin"][9090]))
}

// Where hints give every zone endpoints of its own, a proxy uses those of its zone, as kube-proxy does. Where they do
// not, or the zone is not known, it uses all.
func TestZoneHints(t *testing.T) {
	hinted := func(full, address, zones string, more string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" + meta(full, "labels: {kubernetes.io/service-name: v1}") +
			fmt.Sprintf("addressType: IPv4\nports: [{name: \"\", port: 80, protocol: TCP}]\nendpoints: [{addresses: [%s]%s%s}]", address, zones, more)
	}
	a := hinted("a", "10.0.0.1", ", hints: {forZones: [{name: a}]}", "")
	b := hinted("b", "10.0.0.2", ", hints: {forZones: [{name: b}, {name: c}]}", "")
	for called, test := range map[string]struct {
		zone   string
		slices []string
		want   string
	}{
		"own zone":              {"a", []string{a, b}, "10.0.0.1:80|10.0.0.2:80"},
		"one of two zones":      {"c", []string{a, b}, "10.0.0.2:80|10.0.0.1:80"},
		"another zone":          {"d", []string{a, b}, "10.0.0.1:80 10.0.0.2:80|"},
		"unknown zone":          {"", []string{a, b}, "10.0.0.1:80 10.0.0.2:80|"},
		"one without hints":     {"a", []string{a, hinted("b", "10.0.0.2", "", "")}, "10.0.0.1:80 10.0.0.2:80|"},
		"none ready in its own": {"a", []string{hinted("a", "10.0.0.1", ", hints: {forZones: [{name: a}]}", ", conditions: {ready: false}"), b}, "10.0.0.2:80|10.0.0.1:80"},
	} {
		t.Run(called, func(t *testing.T) {
			x := NewIndex(Options{Zone: test.zone})
			w := &world{t: t, Index: x}
			w.apply(append([]string{serviceOf("httpbin", wellknown.Enabled, "8000"), serviceOf("v1", "", "80"), routeOf("r", parent, "{backendRefs: [{name: v1, port: 80}]}")}, test.slices...)...)
			assert.Equal(t, test.want, at(w.Table(name("httpbin")).Services["shop/v1"][80]))
		})
	}
}

// A slice that moves to another Service leaves the one it was of.
func TestSliceMoves(t *testing.T) {
	w := newWorld(t, tutorial)
	w.apply(sliceOf("httpbin-v1-a", "httpbin-v2", "http:80", "10.1.0.1"))
	services := w.Table(name("httpbin")).Services
	assert.Equal(t, "|", at(services["shop/httpbin-v1"][80]))
	assert.Equal(t, "10.1.0.1:80 10.2.0.1:80|", at(services["shop/httpbin-v2"][80]))
	w.Delete(KindEndpointSlice, "shop", "httpbin-v1-a")
	assert.Equal(t, "10.2.0.1:80|", at(w.Table(name("httpbin")).Services["shop/httpbin-v2"][80]))
}

// Only differences in results are announced: no writes of mirrorgate's own status, no labels, no objects
// without use.
func TestChanges(t *testing.T) {
	w := newWorld(t, tutorial, serviceOf("idle", "", "80"))
	all := Change{Tables: []Name{name("httpbin")}, Routes: []RouteName{routeName("httpbin")}}
	for _, quiet := range []string{
		tutorial,
		strings.Replace(routeOf("httpbin", parent, mirroring), "metadata: {", "metadata: {resourceVersion: \"9\", labels: {a: b}, ", 1) + "\nstatus: {parents: []}",
		serviceOf("idle", "", "81"), sliceOf("idle", "idle", "80", "10.9.9.9"), sliceOf("proxies", "httpbin", "http:80", "10.9.9.9"),
		routeOf("elsewhere", "{name: gateway}", mirroring), grantOf("g", "", ""),
	} {
		w.apply(quiet)
		assert.Empty(t, w.changes, quiet)
	}
	w.Delete(KindHTTPRoute, "shop", "nobody")
	assert.Empty(t, w.changes)

	// A new selector changes a table by the endpoints that follow.
	w.apply(strings.Replace(serviceOf("httpbin-v1", "", "http:80"), "app: x", "app: y", 1))
	assert.Equal(t, []*Change{{Parents: all.Tables}}, w.changes)

	w.apply(sliceOf("httpbin-v2-a", "httpbin-v2", "http:80", "!10.2.0.1"))
	assert.Equal(t, []*Change{{Endpoints: []Backend{{name("httpbin"), "shop/httpbin-v2"}}}}, w.changes)
	w.apply(routeOf("httpbin", parent, mirroring, "generation: 8"))
	assert.Equal(t, []*Change{&all}, w.changes, "observedGeneration")
	w.apply(serviceOf("httpbin-v1", "", "http:80 more:81"))
	assert.Equal(t, []*Change{{Tables: all.Tables}}, w.changes)
	w.apply(serviceOf("httpbin", "", "http:8000->80"))
	assert.Equal(t, []*Change{&all}, w.changes, "the label is gone")
	assert.Empty(t, w.conditions("httpbin"))
	assert.Nil(t, w.Table(name("httpbin")))
	assert.Empty(t, attached(w.Index))
	w.changes = nil
	w.EnableNamespace("shop", true)
	assert.Equal(t, []*Change{&all}, w.changes)
	assert.Equal(t, fine, w.conditions("httpbin"))
	w.changes = nil
	w.EnableNamespace("shop", true)
	w.EnableNamespace("other", true)
	assert.Empty(t, w.changes)
	w.Delete(KindHTTPRoute, "shop", "httpbin")
	assert.Equal(t, []*Change{&all}, w.changes)
}

// Replace removes the objects that are not in the list.
func TestReplace(t *testing.T) {
	w := newWorld(t, tutorial)
	require.NoError(t, w.Replace(KindService, object(t, serviceOf("httpbin", wellknown.Enabled, "http:8000->80")), object(t, serviceOf("httpbin-v1", "", "http:80"))))
	assert.Equal(t, fmt.Sprintf(dangles, "BackendNotFound"), w.conditions("httpbin"))
	require.NoError(t, w.Replace(KindEndpointSlice, object(t, sliceOf("new", "httpbin-v1", "http:80", "10.1.0.7"))))
	assert.Equal(t, "shop/httpbin-v1:80[10.1.0.7:80]", ask(w.compiled("httpbin"), 0, "/"))
	require.Error(t, w.Replace(KindHTTPRoute, []byte("{")))
	assert.NotNil(t, w.Table(name("httpbin")), "a list that cannot be read changes nothing")
	w.apply(grantOf("g", "", ""))
	require.NoError(t, w.Replace(KindReferenceGrant))
	require.NoError(t, w.Replace(KindHTTPRoute))
	assert.Nil(t, w.Table(name("httpbin")))
	assert.Empty(t, w.grants)
}

// Names fit where they go, however long the Service's is, and stay apart.
func TestNames(t *testing.T) {
	assert.Equal(t, "httpbin-mirrorgate-origin", wellknown.OriginName("httpbin"))
	assert.Equal(t, "mirrorgate-httpbin", wellknown.Sentinel("httpbin"))
	seen := map[string]bool{}
	for _, last := range []string{"a", "b"} {
		for _, derived := range []string{wellknown.OriginName(strings.Repeat("x", 62) + last), wellknown.Sentinel(strings.Repeat("x", 62) + last)} {
			assert.LessOrEqual(t, len(derived), 63)
			assert.False(t, seen[derived])
			seen[derived] = true
		}
	}
	port := func(number int32, target intstr.IntOrString) int {
		return targetPort(&corev1.ServicePort{Port: number, TargetPort: target})
	}
	assert.Equal(t, 8080, port(80, intstr.FromInt32(8080)))
	assert.Equal(t, 80, port(80, intstr.IntOrString{}))
	assert.Equal(t, port(80, intstr.FromString("web")), port(81, intstr.FromString("web")))
	assert.NotEqual(t, port(80, intstr.FromString("web")), port(80, intstr.FromString("admin")))
	assert.Greater(t, port(80, intstr.FromString("web")), 1024)
}

// Backends learn who the client is from listeners with rules; connections that pass through stay as they are.
func TestForwardedIsASettingOfListenersWithRules(t *testing.T) {
	w := newWorld(t)
	w.Index = NewIndex(Options{Parent: name("httpbin"), Forwarded: &spec.Forwarded{TrustedHops: 1}})
	w.apply(tutorial, serviceOf("httpbin", wellknown.Enabled, "http:8000->80 db:5432"))
	table := w.Table(name("httpbin"))
	require.Len(t, table.Listeners, 2)
	assert.Equal(t, &spec.Forwarded{TrustedHops: 1}, table.Listeners[0].Forwarded)
	assert.NotNil(t, table.Listeners[1].TCP)
	w.compiled("httpbin")
}
