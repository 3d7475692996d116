package dataplane

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// The seeds' documents: accepted, resolved, served.
func TestTutorial(t *testing.T) {
	w := newWorld(t, tutorial)
	assert.Equal(t, fine, w.conditions("httpbin"))
	table := w.compiled("httpbin")
	require.Len(t, table.Listeners, 1)
	assert.Equal(t, "shop/httpbin:80", table.Listeners[0].Name)
	assert.Equal(t, ":80", table.Listeners[0].Address)
	assert.Equal(t, 8000, table.Listeners[0].Port, "for redirects")
	assert.Equal(t, "shop/httpbin-v1:80[10.1.0.1:80] > shop/httpbin-v2:80", ask(table, 0, "/headers"))
	assert.Equal(t, "shop/httpbin:8000/0", table.Rules[0].Name)
	status, generation := w.Status(routeName("httpbin"))
	assert.Equal(t, int64(7), generation)
	assert.JSONEq(t, `{"group":"","kind":"Service","name":"httpbin","port":8000}`, string(status[0].ParentRef))
	raw, err := json.Marshal(status)
	require.NoError(t, err)
	assert.Contains(t, string(raw), `"controllerName":"mirrorgate.dev/proxy"`)
	assert.Equal(t, []Name{name("httpbin")}, attached(w.Index))
}

// Which parents get a status, and which of those accept a route.
func TestParents(t *testing.T) {
	const rule = `{backendRefs: [{name: httpbin-v1, port: 80}]}`
	backend := serviceOf("httpbin-v1", "", "80")
	for _, test := range []struct {
		name, service, parents string
		namespace              bool // enabled
		want                   string
	}{
		{"whole Service", serviceOf("httpbin", wellknown.Enabled, "8000"), `{group: "", kind: Service, name: httpbin}`, false, fine},
		{"by namespace", serviceOf("httpbin", "", "8000"), parent, true, fine},
		{"no label", serviceOf("httpbin", "", "8000"), parent, false, ""},
		{"other value", serviceOf("httpbin", "disabled", "8000"), parent, true, ""},
		{"Gateway by default", serviceOf("httpbin", wellknown.Enabled, "8000"), `{name: httpbin}`, false, ""},
		{"Service of the default group", serviceOf("httpbin", wellknown.Enabled, "8000"), `{kind: Service, name: httpbin}`, false, ""},
		{"other kind", serviceOf("httpbin", wellknown.Enabled, "8000"), `{group: "", kind: ConfigMap, name: httpbin}`, false, ""},
		{"Gateway and Service", serviceOf("httpbin", wellknown.Enabled, "8000"), `{name: gateway}, ` + parent, false, fine},
		{"no such Service, not ours", serviceOf("other", wellknown.Enabled, "8000"), parent, false, ""},
		{"no such Service", serviceOf("other", "", "8000"), parent, true, fmt.Sprintf(refused, "NoMatchingParent")},
		{"no such port", serviceOf("httpbin", wellknown.Enabled, "8001"), parent, false, fmt.Sprintf(refused, "NoMatchingParent")},
		{"port by name", serviceOf("httpbin", wellknown.Enabled, "http:8000 admin:9000"), `{group: "", kind: Service, name: httpbin, sectionName: http}`, false, fine},
		{"no such name", serviceOf("httpbin", wellknown.Enabled, "http:8000"), `{group: "", kind: Service, name: httpbin, sectionName: grpc}`, false, fmt.Sprintf(refused, "NoMatchingParent")},
		{"name and number differ", serviceOf("httpbin", wellknown.Enabled, "http:8000 admin:9000"), `{group: "", kind: Service, name: httpbin, sectionName: admin, port: 8000}`, false, fmt.Sprintf(refused, "NoMatchingParent")},
		{"a good and a bad one", serviceOf("httpbin", wellknown.Enabled, "8000"), `{group: "", kind: Service, name: httpbin, port: 1}, ` + parent, false, fmt.Sprintf(refused, "NoMatchingParent") + "\n" + fine},
		{"no HTTP", serviceOf("httpbin", wellknown.Enabled, "8000/mysql"), parent, false, fmt.Sprintf(refused, "NoMatchingParent")},
		{"TLS", serviceOf("httpbin", wellknown.Enabled, "8000/https"), parent, false, fmt.Sprintf(refused, "NoMatchingParent")},
		{"shared target port", serviceOf("httpbin", wellknown.Enabled, "a:8000->80 b:80"), parent, false, fine},
		{"shared target port, all of it", serviceOf("httpbin", wellknown.Enabled, "a:8000->80 b:80"), `{group: "", kind: Service, name: httpbin}`, false, fine},
		{"shared with what is no HTTP", serviceOf("httpbin", wellknown.Enabled, "a:8000->80 b:80/mysql"), `{group: "", kind: Service, name: httpbin}`, false, fine},
		{"no HTTP by its name", serviceOf("httpbin", wellknown.Enabled, "redis-a:8000"), `{group: "", kind: Service, name: httpbin}`, false, fmt.Sprintf(refused, "NoMatchingParent")},
		{"no HTTP by its name, but referred to", serviceOf("httpbin", wellknown.Enabled, "redis-a:8000"), parent, false, fine},
		{"headless", serviceOf("httpbin", wellknown.Enabled, "8000", "clusterIP: None"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"ExternalName", serviceOf("httpbin", wellknown.Enabled, "8000", "type: ExternalName", "externalName: example.com"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"no selector", serviceOf("httpbin", wellknown.Enabled, "8000", "selector: {}"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"UDP", serviceOf("httpbin", wellknown.Enabled, "a:8000 b:53/UDP"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"not ready addresses", serviceOf("httpbin", wellknown.Enabled, "8000", "publishNotReadyAddresses: true"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"traffic policy", serviceOf("httpbin", wellknown.Enabled, "8000", "internalTrafficPolicy: Local"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"traffic policy from outside", serviceOf("httpbin", wellknown.Enabled, "8000", "type: NodePort", "externalTrafficPolicy: Local"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"NodePort", serviceOf("httpbin", wellknown.Enabled, "8000", "type: NodePort"), parent, false, fine},
		{"LoadBalancer", serviceOf("httpbin", wellknown.Enabled, "8000", "type: LoadBalancer", "sessionAffinity: ClientIP"), parent, false, fine},
		{"Argo Rollouts", serviceOf("httpbin", wellknown.Enabled, "8000", "selector: {app: x, rollouts-pod-template-hash: abc}"), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
		{"Flagger", strings.Replace(serviceOf("httpbin", wellknown.Enabled, "8000"), "name: httpbin,", "name: httpbin, ownerReferences: [{apiVersion: flagger.app/v1beta1, kind: Canary, name: httpbin, uid: u}],", 1), parent, false, fmt.Sprintf(refused, "UnsupportedValue")},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, backend, test.service)
			w.EnableNamespace("shop", test.namespace)
			w.apply(routeOf("r", test.parents, rule))
			assert.Equal(t, test.want, w.conditions("r"))
			served := w.Table(name("httpbin")) != nil
			assert.Equal(t, strings.Contains(test.want, "Accepted=True"), served)
			// The same when the objects come in another order.
			w = newWorld(t, routeOf("r", test.parents, rule), test.service, backend)
			w.EnableNamespace("shop", test.namespace)
			assert.Equal(t, test.want, w.conditions("r"))
			assert.Equal(t, served, w.Table(name("httpbin")) != nil)
		})
	}
}

// Where references lead: the conditions, and the fate of a request.
func TestRefs(t *testing.T) {
	services := []string{
		serviceOf("httpbin", wellknown.Enabled, "8000"), serviceOf("v1", "", "80"), serviceOf("v2", "", "80"),
		serviceOf("external", "", "80", "type: ExternalName", "externalName: example.com"),
		serviceOf("odd", "", "http:80 tls:443/https db:5432/mysql grpc:90/kubernetes.io~1h2c dns:53/UDP"),
		sliceOf("v1", "v1", "80", "10.1.0.1"), sliceOf("v2", "v2", "80", "10.2.0.1"), sliceOf("odd", "odd", "grpc:9090", "10.3.0.1"),
		serviceOf("other/svc", "", "80"), sliceOf("other/svc", "svc", "80", "10.9.0.1"),
	}
	for i := range services {
		services[i] = strings.ReplaceAll(services[i], "~1", "/")
	}
	const v1 = "backendRefs: [{name: v1, port: 80}]"
	mirror := func(to string) string {
		return "{filters: [{type: RequestMirror, requestMirror: {backendRef: {" + to + "}}}], " + v1 + "}"
	}
	backend := func(to string) string { return "{backendRefs: [{" + to + "}]}" }
	const served, alone = "shop/v1:80[10.1.0.1:80] > shop/v2:80", "shop/v1:80[10.1.0.1:80]"
	for _, test := range []struct{ rules, conditions, want string }{
		{mirror("name: v2, port: 80"), fine, served},
		{mirror("name: nobody, port: 80"), fmt.Sprintf(dangles, "BackendNotFound"), alone},
		{mirror("name: v2, port: 81"), fmt.Sprintf(dangles, "BackendNotFound"), alone},
		{mirror("namespace: other, name: svc, port: 80"), fmt.Sprintf(dangles, "RefNotPermitted"), alone},
		{mirror("namespace: other, name: nobody, port: 80"), fmt.Sprintf(dangles, "RefNotPermitted"), alone},
		{mirror("group: example.com, kind: Bucket, name: v2, port: 80"), fmt.Sprintf(dangles, "InvalidKind"), alone},
		{mirror("kind: ConfigMap, name: v2"), fmt.Sprintf(dangles, "InvalidKind"), alone},
		{mirror("name: external, port: 80"), fmt.Sprintf(dangles, "UnsupportedValue"), alone},
		{mirror("name: odd, port: 443"), fmt.Sprintf(dangles, "UnsupportedProtocol"), alone},
		{mirror("name: odd, port: 53"), fmt.Sprintf(dangles, "UnsupportedProtocol"), alone},
		{backend("name: v2, port: 80"), fine, "shop/v2:80[10.2.0.1:80]"},
		{backend("group: '', kind: Service, namespace: shop, name: v2, port: 80"), fine, "shop/v2:80[10.2.0.1:80]"},
		{backend("name: odd, port: 90"), fine, "shop/odd:90[10.3.0.1:9090]"},
		{backend("name: odd, port: 80"), fine, "shop/odd:80[]"},
		{backend("name: odd, port: 5432"), fmt.Sprintf(dangles, "UnsupportedProtocol"), "shop/odd:5432 500"},
		{backend("name: nobody, port: 80"), fmt.Sprintf(dangles, "BackendNotFound"), "shop/nobody:80 500"},
		{backend("name: v1, port: 81"), fmt.Sprintf(dangles, "BackendNotFound"), "shop/v1:81 500"},
		{backend("namespace: other, name: svc, port: 80"), fmt.Sprintf(dangles, "RefNotPermitted"), "other/svc:80 500"},
		{backend("group: example.com, kind: Bucket, name: v1, port: 80"), fmt.Sprintf(dangles, "InvalidKind"), "Bucket.example.com//shop/v1:80 500"},
		{backend("kind: Pod, name: v1"), fmt.Sprintf(dangles, "InvalidKind"), "Pod//shop/v1:1 500"},
		{backend("name: external, port: 80"), fmt.Sprintf(dangles, "UnsupportedValue"), "shop/external:80 500"},
		{"{}", fine, "500"},
		{"{backendRefs: [{name: v1, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nobody, port: 80}}}]}]}",
			fmt.Sprintf(dangles, "BackendNotFound"), alone},
	} {
		t.Run(test.rules, func(t *testing.T) {
			w := newWorld(t, services...)
			w.apply(routeOf("r", parent, test.rules))
			assert.Equal(t, test.conditions, w.conditions("r"))
			assert.Equal(t, test.want, ask(w.compiled("httpbin"), 0, "/"))
			first := newWorld(t, routeOf("r", parent, test.rules))
			first.apply(services...)
			assert.Equal(t, test.conditions, first.conditions("r"), "in another order")
			assert.Equal(t, w.Table(name("httpbin")), first.Table(name("httpbin")))
		})
	}
}

// A fault that occurs twice is reported once, and the first fault gives the reason.
func TestFaults(t *testing.T) {
	w := newWorld(t, tutorial, routeOf("httpbin", parent, "{backendRefs: [{name: a, port: 80}]}, {matches: [{path: {value: /x}}], backendRefs: [{name: a, port: 80}, {namespace: other, name: b, port: 80}]}", "generation: 8"))
	assert.Equal(t, fmt.Sprintf(dangles, "BackendNotFound"), w.conditions("httpbin"))
	assert.Equal(t, "there is no Service shop/a; no ReferenceGrant in namespace other permits to refer to Service b", w.message("httpbin", "ResolvedRefs"))
}

// A missing backend gets its share, and no more, answered 500.
func TestMissingShare(t *testing.T) {
	w := newWorld(t, tutorial, routeOf("httpbin", parent, `{backendRefs: [{name: httpbin-v1, port: 80, weight: 3}, {name: nobody, port: 80, weight: 1}]}`, "generation: 8"))
	table, got := w.compiled("httpbin"), map[string]int{}
	for range 400 {
		got[ask(table, 0, "/")]++
	}
	assert.Equal(t, map[string]int{"shop/httpbin-v1:80[10.1.0.1:80]": 300, "shop/nobody:80 500": 100}, got)
}

// A variant that comes and goes moves the mirror, never the primary.
func TestVariantComesAndGoes(t *testing.T) {
	w := newWorld(t, tutorial)
	before := w.Table(name("httpbin"))
	w.changes = nil
	w.Delete(KindService, "shop", "httpbin-v2")
	assert.Equal(t, fmt.Sprintf(dangles, "BackendNotFound"), w.conditions("httpbin"))
	assert.Equal(t, "there is no Service shop/httpbin-v2", w.message("httpbin", "ResolvedRefs"))
	assert.Equal(t, "shop/httpbin-v1:80[10.1.0.1:80]", ask(w.compiled("httpbin"), 0, "/"))
	assert.Equal(t, []*Change{{Tables: []Name{name("httpbin")}, Routes: []RouteName{routeName("httpbin")}, Endpoints: nil}}, w.changes)
	w.apply(serviceOf("httpbin-v2", "", "http:80"))
	assert.Equal(t, fine, w.conditions("httpbin"))
	assert.Equal(t, before, w.Table(name("httpbin")))
}

// Grants permit references to the Services that they name, as long as they exist.
func TestGrants(t *testing.T) {
	const rule = `{backendRefs: [{namespace: other, name: svc, port: 80}]}`
	const from, to = `{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}`, `{group: "", kind: Service}`
	for _, test := range []struct {
		name, grant string
		granted     bool
	}{
		{"all", grantOf("other/g", from, to), true},
		{"by name", grantOf("other/g", from, `{group: "", kind: Service, name: svc}`), true},
		{"second of each", grantOf("other/g", `{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: x}, `+from, `{group: "", kind: Secret}, `+to), true},
		{"other name", grantOf("other/g", from, `{group: "", kind: Service, name: svc2}`), false},
		{"other kind of target", grantOf("other/g", from, `{group: "", kind: Secret}`), false},
		{"other kind of route", grantOf("other/g", `{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}`, to), false},
		{"other group of route", grantOf("other/g", `{group: "", kind: HTTPRoute, namespace: shop}`, to), false},
		{"other namespace", grantOf("other/g", `{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop2}`, to), false},
		{"granted to itself", grantOf("shop/g", from, to), false},
		{"in a third namespace", grantOf("third/g", from, to), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, serviceOf("httpbin", wellknown.Enabled, "8000/http"), routeOf("r", parent, rule), serviceOf("other/svc", "", "80"), sliceOf("other/s", "svc", "80", "10.9.0.1"))
			no := fmt.Sprintf(dangles, "RefNotPermitted")
			assert.Equal(t, no, w.conditions("r"))
			w.apply(test.grant)
			if !test.granted {
				assert.Equal(t, no, w.conditions("r"))
				assert.NotContains(t, w.Table(name("httpbin")).Services, "other/svc")
				return
			}
			assert.Equal(t, fine, w.conditions("r"))
			assert.Equal(t, "other/svc:80[10.9.0.1:80]", ask(w.compiled("httpbin"), 0, "/"))
			w.Delete(KindReferenceGrant, "other", "g")
			assert.Equal(t, no, w.conditions("r"))
			assert.Empty(t, w.Table(name("httpbin")).Services)
		})
	}
}

// Faults in rules: a wrong mirror is dropped alone, a wrong filter makes the rule answer 500, a rule with
// wrong matches is left out, and a route without any other rule is not accepted.
func TestFaultsInRules(t *testing.T) {
	const v1 = "backendRefs: [{name: httpbin-v1, port: 80}]"
	const primary = "shop/httpbin-v1:80[10.1.0.1:80]"
	const partially = fine + " PartiallyInvalid=True:UnsupportedValue"
	mirror := func(more string) string {
		return "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, " + more + "}}], " + v1 + "}"
	}
	for _, test := range []struct{ rules, conditions, root, a, message string }{
		{mirror("percent: 101"), partially, primary, primary, "Dropped Rule: rules[0].filters[0].requestMirror.percent: 101"},
		{mirror("percent: 50, fraction: {numerator: 1}"), partially, primary, primary, "fraction"},
		{mirror("fraction: {numerator: 2, denominator: 1}"), partially, primary, primary, "numerator"},
		{"{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v1, port: 80}}}], " + v1 + "}", partially, primary, primary, "is backendRefs[0]"},
		{"{filters: [{type: RequestMirror}], " + v1 + "}", partially, primary, primary, "requestMirror"},
		{"{backendRefs: [{name: httpbin-v1, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2}}}]}]}", partially, primary, primary, "port"},
		{"{filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Auth, name: a}}], matches: [{path: {value: /a}}], " + v1 + "}, {" + v1 + "}",
			partially, primary, "500", `"ExtensionRef"`},
		{"{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 418}}], matches: [{path: {value: /a}}]}, {" + v1 + "}", partially, primary, "500", "418"},
		{"{matches: [{path: {type: RegularExpression, value: '('}}]}, {" + v1 + "}", partially, primary, primary, "rules[0].matches[0].path.value"},
		{"{timeouts: {request: never}, matches: [{path: {value: /a}}], " + v1 + "}, {" + v1 + "}", partially, primary, "500", "timeouts"},
		{"{filters: [{type: CORS, cors: {}}], " + v1 + "}", fmt.Sprintf(refused, "UnsupportedValue"), "", "", ""},
		{"{matches: [{path: {value: nowhere}}], " + v1 + "}", fmt.Sprintf(refused, "UnsupportedValue"), "", "", ""},
		{"{name: \"1\", " + v1 + "}, {matches: [{path: {value: /a}}]}", fine, primary, "500", ""},
	} {
		t.Run(test.rules, func(t *testing.T) {
			w := newWorld(t, tutorial, routeOf("httpbin", parent, test.rules, "generation: 8"))
			assert.Equal(t, test.conditions, w.conditions("httpbin"))
			table := w.compiled("httpbin")
			if test.root == "" {
				assert.Nil(t, table)
				assert.Contains(t, w.message("httpbin", "Accepted"), "rules[0]")
				return
			}
			assert.Equal(t, test.root, ask(table, 0, "/"))
			assert.Equal(t, test.a, ask(table, 0, "/a"))
			assert.Contains(t, w.message("httpbin", "PartiallyInvalid"), test.message)
		})
	}
}

// A route without rules has the API's default: everything is answered 500.
func TestNoRules(t *testing.T) {
	w := newWorld(t, tutorial, strings.Split(routeOf("httpbin", parent, "", "generation: 8"), "\n  rules:")[0])
	assert.Equal(t, fine, w.conditions("httpbin"))
	assert.Equal(t, "500", ask(w.compiled("httpbin"), 0, "/"))
}

// A malformed object is an error that names it, and its record stays as it was.
func TestMalformed(t *testing.T) {
	w := newWorld(t, tutorial)
	before := w.Table(name("httpbin"))
	for _, raw := range []string{
		routeOf("httpbin", parent, `{backendRefs: {}}`), routeOf("httpbin", `7`, `{}`), routeOf("httpbin", parent, `{matches: 1}`),
		strings.Replace(routeOf("httpbin", parent, ""), "rules: []", "rules: {}", 1),
	} {
		require.ErrorContains(t, w.Upsert(object(t, raw)), "HTTPRoute shop/httpbin", raw)
	}
	require.ErrorContains(t, w.Upsert(object(t, strings.Replace(grantOf("g", "", ""), "to: []", "to: 1", 1))), "ReferenceGrant shop/g")
	require.ErrorContains(t, w.Upsert([]byte("{")), "no JSON")
	require.NoError(t, w.Upsert([]byte(`{"apiVersion": "example.com/v1", "kind": "HTTPRoute", "metadata": {"namespace": "shop", "name": "httpbin"}}`), 7, nil))
	assert.Equal(t, before, w.Table(name("httpbin")))
}
