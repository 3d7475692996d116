package dataplane

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// calling is a Service with a port for each protocol.
var calling = serviceOf("calls", wellknown.Enabled, "web:80/http grpc:90->90 any:91 redis:92") + "\n---\n" +
	serviceOf("v1", "", "grpc:90") + "\n---\n" + serviceOf("v2", "", "90/h2c 80/http") + "\n---\n" +
	sliceOf("v1-a", "v1", "grpc:90", "10.1.0.1") + "\n---\n" + sliceOf("v2-a", "v2", "90", "10.2.0.1")

const toV1 = `backendRefs: [{name: v1, port: 90}]`

// call returns how a call is routed at a listener of the Service.
func call(t *routing.Table, listener, path string) string {
	for i := range t.Listeners {
		if t.Listeners[i].Name == "shop/calls:"+listener {
			return ask(t, i, path)
		}
	}
	return "passes through"
}

func TestGRPCRoute(t *testing.T) {
	w := newWorld(t, calling, grpcRouteOf("r", `{group: "", kind: Service, name: calls, port: 90}`,
		`{matches: [{method: {service: shop.Cart, method: Add}, headers: [{name: x, value: "1"}]}], backendRefs: [{name: v2, port: 90}]},
		{matches: [{method: {service: shop.Cart}}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 90}, percent: 5}}], `+toV1+`},
		{matches: [{method: {type: RegularExpression, method: "Ge."}}], backendRefs: [{name: v1, port: 90, weight: 3}, {name: v2, port: 90, weight: 0}]}`))
	assert.Equal(t, fine, w.conditions("grpc r"))
	assert.Empty(t, w.conditions("r"), "an HTTPRoute of this name is another object")
	table := w.compiled("calls")
	assert.Equal(t, "shop/v1:90[10.1.0.1:90] > shop/v2:90", call(table, "90", "/shop.Cart/Add"))
	assert.Equal(t, "shop/v1:90[10.1.0.1:90]", call(table, "90", "/shop.Stock/Get"), "a match is one of the path: this is a GET without Content-Type")
	assert.Equal(t, "404", call(table, "90", "/shop.Stock/Put"))
	assert.Equal(t, routing.H2C, table.Port("shop/v1", 90).Protocol)
	for _, other := range []string{"80", "91", "92"} {
		assert.Equal(t, "passes through", call(table, other, "/shop.Cart/Add"))
	}
	w.apply(grpcRouteOf("r", `{group: "", kind: Service, name: calls}`, `{`+toV1+`}`))
	assert.Equal(t, "shop/v1:90[10.1.0.1:90]", call(w.compiled("calls"), "90", "/a/B"), "without matches every call matches")
	w.Delete(KindGRPCRoute, "shop", "r")
	assert.Nil(t, w.Table(name("calls")))
}

// A reference without a port must not take ports from clients that do not speak gRPC.
func TestPortsOfGRPCRoutes(t *testing.T) {
	for _, test := range []struct{ ports, parent, want string }{
		{"web:80/http grpc:90 any:91", "", "90"},
		{"web:80/http any:91 redis:92", "", "91"},
		{"web:80/http grpc:90 any:91", ", port: 91", "91"},
		{"web:80/http grpc:90 any:91", ", port: 80", "80"},
		{"web:80/http redis:92", "", ""},
		{"web:80/http redis:92/redis", ", port: 92", ""},
		{"web:80/http redis:92", ", sectionName: redis", "92"},
	} {
		w := newWorld(t, calling, serviceOf("calls", wellknown.Enabled, test.ports),
			grpcRouteOf("r", `{group: "", kind: Service, name: calls`+test.parent+`}`, `{`+toV1+`}`))
		got := ""
		if table := w.compiled("calls"); table != nil {
			for _, port := range []string{"80", "90", "91", "92"} {
				if call(table, port, "/a/B") != "passes through" {
					got += port
				}
			}
		} else {
			assert.Contains(t, w.conditions("grpc r"), "Accepted=False:NoMatchingParent")
		}
		assert.Equal(t, test.want, got, test)
	}
}

func TestFaultsOfGRPCRoutes(t *testing.T) {
	const at = `{group: "", kind: Service, name: calls, port: 90}`
	for rules, want := range map[string]string{
		`{matches: [{method: {service: a/b}}], ` + toV1 + `}`:               `Accepted=False:UnsupportedValue`,
		`{backendRefs: [{name: v2, port: 80}]}`:                             `ResolvedRefs=False:UnsupportedProtocol`,
		`{backendRefs: [{name: v3, port: 80}]}`:                             `ResolvedRefs=False:BackendNotFound`,
		`{backendRefs: [{name: v3, namespace: other, port: 80}]}`:           `ResolvedRefs=False:RefNotPermitted`,
		`{` + toV1 + `, filters: [{type: ExtensionRef, extensionRef: {}}]}`: `Accepted=False:UnsupportedValue`,
		`{matches: [{method: {service: a/b}}]}, {` + toV1 + `}`:             `PartiallyInvalid=True:UnsupportedValue`,
	} {
		w := newWorld(t, calling, grpcRouteOf("r", at, rules))
		assert.Contains(t, w.conditions("grpc r"), want, rules)
	}
	w := newWorld(t, calling, grpcRouteOf("r", at, `{matches: [{method: {service: a/b}}], `+toV1+`}`))
	assert.Contains(t, w.message("grpc r", "Accepted"), "rules[0].matches[0].method.service: ", "it names the field that the author wrote")
	w = newWorld(t, calling, serviceOf("other/v3", "", "90/h2c"), grpcRouteOf("r", at, `{backendRefs: [{name: v3, namespace: other, port: 90}]}`))
	w.apply(grantOf("other/g", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", `{group: "", kind: Service}`))
	assert.Contains(t, w.conditions("grpc r"), "RefNotPermitted")
	assert.Empty(t, w.Parent(name("calls")).Foreign)
	w.apply(grantOf("other/g", "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}", `{group: "", kind: Service}`))
	assert.Equal(t, fine, w.conditions("grpc r"))
	assert.Equal(t, []string{"other"}, w.Parent(name("calls")).Foreign)
}

// Where both kinds want a port, GRPCRoutes have it, as GEP-1426 says; the other ports stay with the HTTPRoute.
func TestGRPCRoutesTakePortsFromHTTPRoutes(t *testing.T) {
	w := newWorld(t, calling,
		routeOf("web", `{group: "", kind: Service, name: calls, port: 90}, {group: "", kind: Service, name: calls}`, `{backendRefs: [{name: v2, port: 90}]}`))
	assert.Equal(t, "shop/v2:90[10.2.0.1:90]", call(w.compiled("calls"), "90", "/a/B"))
	for _, r := range []string{"r", "s"} {
		w.apply(grpcRouteOf(r, `{group: "", kind: Service, name: calls, port: 90}`, `{`+toV1+`}`))
		assert.Equal(t, "Accepted=False:Conflicted ResolvedRefs=True:ResolvedRefs\n"+fine, w.conditions("web"))
	}
	table := w.compiled("calls")
	assert.Equal(t, "shop/v1:90[10.1.0.1:90]", call(table, "90", "/a/B"))
	assert.Equal(t, "shop/v2:90[10.2.0.1:90]", call(table, "91", "/a/B"))
	w.Delete(KindGRPCRoute, "shop", "r")
	assert.Contains(t, w.conditions("web"), "Conflicted")
	w.Delete(KindGRPCRoute, "shop", "s")
	assert.Equal(t, fine+"\n"+fine, w.conditions("web"))
	assert.Equal(t, "shop/v2:90[10.2.0.1:90]", call(w.compiled("calls"), "90", "/a/B"))
}
