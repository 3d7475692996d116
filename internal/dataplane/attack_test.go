package dataplane

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// victim is a namespace that a route of another one would like to reach or to steer.
var victim = []string{
	serviceOf("victim/api", wellknown.Enabled, "8000"), serviceOf("victim/api-v1", "", "80"), serviceOf("victim/secret", "", "80"),
	sliceOf("victim/api-v1", "api-v1", "80", "10.9.0.1"), sliceOf("victim/secret", "secret", "80", "10.9.0.2"),
	routeOf("victim/api", `{group: "", kind: Service, name: api}`, "{backendRefs: [{name: api-v1, port: 80}]}"),
}

// own are the objects of the attacker, who may write everything in one namespace.
var own = []string{
	serviceOf("evil/web", wellknown.Enabled, "80"), serviceOf("evil/v1", "", "80"), sliceOf("evil/v1", "v1", "80", "10.6.6.6"),
}

const evilParent = `{group: "", kind: Service, name: web}`

// A route cannot steer the Service of another namespace, by no spelling and no grant of its own.
func TestAttackParent(t *testing.T) {
	const rule = "{backendRefs: [{name: v1, port: 80}]}, {matches: [{path: {type: Exact, value: /}}], backendRefs: [{namespace: evil, name: v1, port: 80}]}"
	for _, parents := range []string{
		`{group: "", kind: Service, namespace: victim, name: api}`,
		`{group: "", kind: Service, namespace: victim, name: api, port: 8000}`,
		evilParent + `, {group: "", kind: Service, namespace: victim, name: api}`,
		`{group: "", kind: Service, name: victim/api}`,
		`{group: "", kind: Service, namespace: victim/api, name: ""}`,
	} {
		w := newWorld(t, victim...)
		before, status := w.Table(name("victim/api")), w.conditions("victim/api")
		w.apply(own...)
		w.EnableNamespace("evil", true)
		w.EnableNamespace("victim", true)
		w.apply(grantOf("evil/g", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: evil}", `{group: "", kind: Service}`),
			routeOf("evil/r", parents, rule, `creationTimestamp: "1999-01-01T00:00:00Z"`))
		assert.Equal(t, before, w.Table(name("victim/api")), parents)
		assert.Equal(t, status, w.conditions("victim/api"))
		for _, c := range w.changes {
			assert.NotContains(t, c.Tables, name("victim/api"))
			assert.NotContains(t, c.Routes, routeName("victim/api"))
		}
		if strings.HasPrefix(parents, `{group: "", kind: Service, namespace: victim, `) {
			assert.Equal(t, fmt.Sprintf(refused, "NotAllowedByListeners"), w.conditions("evil/r"), parents)
			assert.Contains(t, w.message("evil/r", "Accepted"), "another namespace")
		}
	}
}

// Not even a grant of the victim's makes a consumer route steer: grants are about backends.
func TestAttackParentGranted(t *testing.T) {
	w := newWorld(t, victim...)
	before := w.Table(name("victim/api"))
	w.apply(own...)
	w.apply(grantOf("victim/g", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: evil}", `{group: "", kind: Service}`),
		routeOf("evil/r", `{group: "", kind: Service, namespace: victim, name: api}`, "{backendRefs: [{name: v1, port: 80}]}"))
	assert.Equal(t, before, w.Table(name("victim/api")))
	assert.Equal(t, fmt.Sprintf(refused, "NotAllowedByListeners"), w.conditions("evil/r"))
}

// Without a grant a route gets no endpoint of another namespace, as a backend or as a mirror, in no spelling;
// and the answer does not tell whether there is such a Service.
func TestAttackBackends(t *testing.T) {
	shapes := map[string]string{
		"backend":           "{backendRefs: [{%s}]}",
		"mirror":            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {%s}}}], backendRefs: [{name: v1, port: 80}]}",
		"mirror of backend": "{backendRefs: [{name: v1, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {%s}}}]}]}",
	}
	for shape, rule := range shapes {
		told := map[string]string{}
		for ref, reason := range map[string]string{
			"namespace: victim, name: secret, port: 80":                             "RefNotPermitted",
			"namespace: victim, name: nobody, port: 80":                             "RefNotPermitted",
			"namespace: victim, name: secret, port: 81":                             "RefNotPermitted",
			"namespace: victim, name: api-mirrorgate-origin, port: 8000":            "RefNotPermitted",
			"name: ../victim/secret, port: 80":                                      "InvalidKind",
			"name: victim/secret, port: 80":                                         "InvalidKind",
			"namespace: evil/../victim, name: secret, port: 80":                     "InvalidKind",
			"namespace: '', kind: Service, name: secret, port: 80":                  "BackendNotFound",
			"kind: service, namespace: victim, name: secret, port: 80":              "InvalidKind",
			"group: core, kind: Service, namespace: victim, name: secret, port: 80": "InvalidKind",
		} {
			w := newWorld(t, append(victim, own...)...)
			w.apply(routeOf("evil/r", evilParent, fmt.Sprintf(rule, ref)),
				grantOf("evil/g", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: evil}", `{group: "", kind: Service}`))
			assert.Equal(t, fmt.Sprintf(dangles, reason), w.conditions("evil/r"), "%s %s", shape, ref)
			table := w.Table(name("evil/web"))
			assert.NotContains(t, fmt.Sprint(table), "10.9.0", "%s %s", shape, ref)
			for service := range table.Services {
				assert.Contains(t, []string{"evil/v1", "evil/web"}, service)
			}
			if shape == "backend" {
				assert.Contains(t, ask(w.compiled("evil/web"), 0, "/"), "500")
			} else {
				assert.Equal(t, "evil/v1:80[10.6.6.6:80]", ask(w.compiled("evil/web"), 0, "/"), "%s %s: the primary is untouched", shape, ref)
			}
			told[ref] = strings.NewReplacer("secret", "NAME", "nobody", "NAME").Replace(w.message("evil/r", "ResolvedRefs"))
		}
		assert.Equal(t, told["namespace: victim, name: secret, port: 80"], told["namespace: victim, name: nobody, port: 80"])
		assert.Equal(t, told["namespace: victim, name: secret, port: 80"], told["namespace: victim, name: secret, port: 81"])
	}
}

// Port asks for nothing that the parent's table does not have.
func TestAttackPort(t *testing.T) {
	w := newWorld(t, append(victim, own...)...)
	w.apply(routeOf("evil/r", evilParent, "{backendRefs: [{namespace: victim, name: secret, port: 80}]}"))
	for _, b := range []Backend{{name("evil/web"), "victim/secret"}, {name("evil/web"), "victim/api-v1"}, {name("evil/web"), "evil/v1"}, {name("evil/web"), ""}} {
		port, ok := w.Port(b, 80)
		assert.False(t, ok, b)
		assert.Empty(t, port.Endpoints)
	}
	_, ok := w.Port(Backend{name("victim/api"), "victim/api-v1"}, 80)
	assert.True(t, ok)
}

// What a proxy keeps without a route ends at its namespace: there is no grant to go by.
func TestAttackKeep(t *testing.T) {
	w := newWorld(t, append(victim, own...)...)
	defer w.Keep(name("evil/web"), []string{"victim/secret", "evil/v1", "evil/nobody", ""})()
	_, ok := w.Port(Backend{name("evil/web"), "victim/secret"}, 80)
	assert.False(t, ok)
	_, ok = w.Port(Backend{name("evil/web"), "evil/v1"}, 80)
	assert.True(t, ok)
	w.apply(sliceOf("victim/secret", "secret", "80", "10.9.0.3"))
	assert.Empty(t, w.changes)
}

// A slice belongs to a Service of its own namespace, even if its label names another.
func TestAttackSlice(t *testing.T) {
	w := newWorld(t, victim...)
	before := w.Table(name("victim/api"))
	w.apply(sliceOf("evil/a", "api-v1", "80", "10.6.6.6"), sliceOf("evil/b", "victim/api-v1", "80", "10.6.6.6"))
	assert.Equal(t, before, w.Table(name("victim/api")))
	assert.Empty(t, w.changes)
}

// The label of a Service in one namespace, or the namespace's own, enables nothing in another.
func TestAttackEnable(t *testing.T) {
	w := newWorld(t, serviceOf("victim/api", "", "8000"), serviceOf("victim/v1", "", "80"),
		routeOf("victim/api", `{group: "", kind: Service, name: api}`, "{backendRefs: [{name: v1, port: 80}]}"))
	w.EnableNamespace("evil", true)
	w.apply(serviceOf("evil/api", wellknown.Enabled, "8000"))
	assert.Nil(t, w.Table(name("victim/api")))
	assert.Empty(t, w.conditions("victim/api"))
}

// What HTTPRoute has no words for is not read: bounds of a target are shared by routes.
func TestAttackExtension(t *testing.T) {
	const rule = "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, mirrorgate: {maxInFlight: %d, budget: 1000Gi}}}], backendRefs: [{name: httpbin-v1, port: 80}]}"
	w := newWorld(t, tutorial, routeOf("a", parent, fmt.Sprintf(rule, 1)), routeOf("b", parent, fmt.Sprintf(rule, 1000000)))
	assert.Equal(t, fine, w.conditions("a"))
	table := w.compiled("httpbin")
	assert.Equal(t, 128, table.Targets[0].Limits.MaxInFlight)
	assert.Equal(t, int64(64<<20), table.Targets[0].Limits.Budget)
}

// Conditions stay small enough for the API, however long the names in a route are.
func TestAttackMessages(t *testing.T) {
	var rules []string
	for i := range 500 {
		rules = append(rules, fmt.Sprintf("{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: x%d, port: 80}, percent: 101}}], matches: [{path: {value: /%s}}], backendRefs: [{name: y%d, port: 80}]}",
			i, strings.Repeat("x", 1000), i))
	}
	w := newWorld(t, tutorial, routeOf("r", parent, strings.Join(rules, ", ")))
	for _, condition := range []string{"PartiallyInvalid", "ResolvedRefs"} {
		message := w.message("r", condition)
		assert.Contains(t, message, "and 492 more")
		assert.LessOrEqual(t, len(message), 32768)
	}
	long := "{matches: [{path: {value: " + strings.Repeat("y", 100000) + "}}]}"
	w.apply(routeOf("l", parent, long))
	assert.LessOrEqual(t, len(w.message("l", "Accepted")), 32768)
}
