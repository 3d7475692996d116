package iter8

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

const (
	iter8Label = "app.kubernetes.io/managed-by: iter8"
	mapLabel   = "iter8.tools/kind: routemap"
)

// routemap makes the HTTPRoute web of a template's text.
func routemap(name, template string) string {
	return configMap(name, mapLabel, "strSpec", "versions: [{resources: [{gvrShort: svc, name: v1}]}, {resources: [{gvrShort: svc, name: v2}]}]\n"+
		"routingTemplates:\n  mirror:\n    gvrShort: httproute\n    template: |\n      "+strings.ReplaceAll(template, "\n", "\n      "))
}

const plainTemplate = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {rules: [{backendRefs: [{name: v1, port: 80}]}]}`

// TestHostileDocuments uses one namespace per case, and checks the Event and that no unexpected route is
// made. Meanwhile a document of another namespace is served as usual.
func TestHostileDocuments(t *testing.T) {
	s := serve(t)
	quiet := env.Namespace(t)
	apply(t, quiet, harness.Workload("v2"), subject("web", web), policy("p", "v2"))
	waitRoute(t, quiet, "v2=active")

	for name, c := range map[string]struct {
		documents []string
		on        string
		reason    string
		note      string
		routes    string // the routes that exist nevertheless
	}{
		"no YAML":                  {[]string{subject("web", "gvrs: [svc")}, "web", "DocumentInvalid", "is not YAML", ""},
		"neither of the two":       {[]string{subject("web", "a: b")}, "web", "DocumentInvalid", "names neither the gvrs and variants", ""},
		"another chart":            {[]string{subject("p", "trigger: {owner: web, update: variant/2}\nchart: canary\nversion: 0.14.x\nvalues: {rules: [{}]}")}, "p", "DocumentInvalid", `spec.chart: Unsupported value: "canary"`, ""},
		"another version":          {[]string{subject("p", "trigger: {owner: web, update: variant/2}\nchart: mirror\nversion: 0.15.x\nvalues: {rules: [{}]}")}, "p", "DocumentInvalid", `spec.version: Invalid value: "0.15.x"`, ""},
		"a policy alone":           {[]string{policy("p", "v2")}, "p", "SubjectNotFound", `spec.trigger.owner: there is no subject "web"`, ""},
		"a variant too many":       {[]string{subject("web", "gvrs: [svc]\nvariants: [[v1]]"), policy("p", "v2")}, "p", "VariantNotFound", `has 1 variants, and no variant/2`, "web"},
		"an unknown resource":      {[]string{subject("web", "gvrs: [svc, frobs.example.com]\nvariants: [[v1, v1], [v2, v2]]"), policy("p", "v2")}, "p", "UnknownResource", `"frobs.example.com" is not a namespaced resource`, "web"},
		"a resource of no ns":      {[]string{subject("web", "gvrs: [nodes]\nvariants: [[v1], [v2]]"), policy("p", "v2")}, "p", "UnknownResource", "it is cluster-scoped", "web"},
		"an unknown field":         {[]string{subject("web", web), strings.Replace(policy("p", "v2"), "parentRefs:", "parentReferences:", 1)}, "p", "RouteRefused", "parentReferences", ""},
		"a bad value":              {[]string{subject("web", web), strings.Replace(policy("p", "v2"), "name: v1, port: 80}", "name: v1, port: 80000}", 1)}, "p", "RouteRefused", "80000", ""},
		"a mirror to itself":       {[]string{harness.Workload("v2"), subject("web", web), policy("p", "v1")}, "p", "MirrorRefused", "MirrorsItself", "web"},
		"an endless template":      {[]string{routemap("m", "{{range 9000000000000000000}}{{end}}")}, "m", "TemplateFailed", "does not end within ", ""},
		"a template that doubles":  {[]string{routemap("m", `{{$x := "0123456789"}}{{range 60}}{{$x = print $x $x}}{{end}}`)}, "m", "TemplateFailed", "makes a text of more than 16384 bytes", ""},
		"a broken template":        {[]string{routemap("m", "{{index .Weights 9}}")}, "m", "TemplateFailed", "index out of range: 9", ""},
		"a template of a function": {[]string{routemap("m", `{{env "HOME"}}`)}, "m", "DocumentInvalid", `function "env" not defined`, ""},
		"a Secret":                 {[]string{routemap("m", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n")}, "m", "TemplateFailed", `makes a "Secret"`, ""},
		"another namespace":        {[]string{routemap("m", strings.Replace(plainTemplate, "name: web", "name: web, namespace: "+quiet, 1))}, "m", "TemplateFailed", `makes a route in namespace "` + quiet + `"`, ""},
		"another's resources":      {[]string{strings.Replace(routemap("m", plainTemplate), "name: v1}]", "name: v1, namespace: "+quiet+"}]", 1)}, "m", "DocumentInvalid", "the namespace of the routemap", ""},
		"a huge one":               {[]string{configMap("web", iter8Label, "spec", strings.Repeat("#", 300<<10))}, "web", "DocumentInvalid", "Too long", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ns := env.Namespace(t)
			env.MustKubectl(t, strings.Join(c.documents, "\n---\n"), "-n", ns, "create", "-f", "-")
			waitTold(t, ns, c.on, c.reason, c.note)
			names := func() string { return kubectl(t, ns, "get", "httproutes", "-o", "jsonpath={.items[*].metadata.name}") }
			harness.Eventually(t, func() bool { return names() == c.routes }, "want routes %q", c.routes)
			require.Empty(t, kubectl(t, ns, "get", "secrets", "-o", "name"))
		})
	}
	errs, applied := s.Metric(t, "mirrorgate_iter8_applies_total", `result="error"`), s.Metric(t, "mirrorgate_iter8_applies_total")
	still(t, quiet, "web", 2*time.Second)
	require.InDelta(t, errs, s.Metric(t, "mirrorgate_iter8_applies_total", `result="error"`), 0)
	require.InDelta(t, applied, s.Metric(t, "mirrorgate_iter8_applies_total"), 3, "applied repeatedly")

	// The namespaces above are being deleted, and their documents with them.
	apply(t, env.Namespace(t), subject("web", "gvrs: [svc"))
	harness.Eventually(t, func() bool { return s.Metric(t, "mirrorgate_iter8_documents", `kind="invalid"`) > 0 }, "no document counts as invalid")
	require.NotContains(t, s.Log(), "panic")
}

func TestPolicyBeforeItsSubjectIsServedOnceTheSubjectExists(t *testing.T) {
	serve(t)
	ns := env.Namespace(t)
	apply(t, ns, harness.Workload("v2"), policy("p", "v2"))
	waitTold(t, ns, "p", "SubjectNotFound", "no subject")
	apply(t, ns, subject("web", web))
	waitRoute(t, ns, "v2=active")

	// Without its subject the route stays, since primaries are behind it; the mirror is removed.
	kubectl(t, ns, "delete", "configmap", "web")
	waitRoute(t, ns)
	apply(t, ns, subject("web", web))
	u := waitRoute(t, ns, "v2=active")
	require.NotEqual(t, int64(1), u.GetGeneration(), "it is the same route")

	// An immutable policy is replaced by one of the same name.
	kubectl(t, ns, "delete", "configmap", "p", "--wait=false")
	apply(t, ns, strings.Replace(policy("p", "v2"), "port: 80}]", "port: 81}]", 1))
	harness.Eventually(t, func() bool {
		u := env.Get(t, ns, "httproute", "web")
		cm := env.Get(t, ns, "configmap", "p")
		return u != nil && len(u.GetOwnerReferences()) == 1 && u.GetOwnerReferences()[0].UID == cm.GetUID()
	}, "the new policy does not own the route")
	waitRoute(t, ns, "v2=active")
}

func TestTwoDocumentsForOneRoute(t *testing.T) {
	s := serve(t)
	ns := env.Namespace(t)
	apply(t, ns, harness.Workload("v2"), harness.Workload("v3"), subject("web", web), policy("older", "v2"))
	waitRoute(t, ns, "v2=active")
	apply(t, ns, policy("z-newer", "v3"), routemap("map", plainTemplate), strings.Replace(subject("x-other", web), "managed-by: iter8", "managed-by: iter8, app.kubernetes.io/component: web", 1))
	waitTold(t, ns, "z-newer", "RouteTaken", "HTTPRoute "+ns+"/web ")
	waitTold(t, ns, "map", "RouteTaken", "HTTPRoute "+ns+"/web ")
	waitTold(t, ns, "x-other", "SubjectTaken", `ConfigMap "web" is the subject "web" already`)
	before := s.Metric(t, "mirrorgate_iter8_applies_total")
	still(t, ns, "web", 2*time.Second)
	require.InDelta(t, before, s.Metric(t, "mirrorgate_iter8_applies_total"), 0, "the documents overwrite each other")

	// When the older document is deleted, its route is deleted too, and the next document makes its own.
	kubectl(t, ns, "delete", "configmap", "older", "map")
	waitRoute(t, ns, "v3=active")
}

func TestRouteOfAnotherOwnerIsLeftAlone(t *testing.T) {
	s := serve(t)
	ns := env.Namespace(t)
	const own = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {rules: [{backendRefs: [{name: mine, port: 80}]}]}
`
	apply(t, ns, own, harness.Workload("v2"), subject("web", web), policy("p", "v2"))
	waitTold(t, ns, "p", "RouteTaken", "exists and belongs to none of Iter8's documents; field managers: kubectl-client-side-apply")
	still(t, ns, "web", time.Second)
	require.Empty(t, env.Get(t, ns, "httproute", "web").GetOwnerReferences())
	kubectl(t, ns, "delete", "configmap", "p", "web")
	still(t, ns, "web", time.Second)
	require.Zero(t, s.Metric(t, "mirrorgate_iter8_applies_total", `result="applied"`))

	// The route is deleted, and the document makes its own; a user edits that one, and the edit is kept.
	apply(t, ns, subject("web", web), policy("p", "v2"))
	kubectl(t, ns, "delete", "httproute", "web")
	waitRoute(t, ns, "v2=active")
	kubectl(t, ns, "patch", "httproute", "web", "--type=json", "-p", `[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/name", "value": "edited"}]`)
	waitTold(t, ns, "p", "RouteConflict", `conflict with "kubectl-patch"`)
	before := s.Metric(t, "mirrorgate_iter8_applies_total")
	still(t, ns, "web", 2*time.Second)
	require.InDelta(t, before, s.Metric(t, "mirrorgate_iter8_applies_total"), 1, "mirrorgate and the user overwrite each other")

	// The user's changed route is gated like any other route.
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=0")
	env.WaitState(t, ns, "httproute", "web", "v2=parked")
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=1")
	env.WaitState(t, ns, "httproute", "web", "v2=active")
	require.Contains(t, kubectl(t, ns, "get", "httproute", "web", "-o", "yaml"), "name: edited")

	// The user deletes it: it is made again from the document, without mirrorgate's annotations.
	kubectl(t, ns, "delete", "httproute", "web")
	waitRoute(t, ns, "v2=active")
}

func TestLimitsAndRulesHoldForDocuments(t *testing.T) {
	ns, other := env.Namespace(t), env.Namespace(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte("policy: {namespaces: {"+ns+": {maxMirrors: 0}}}"), 0o600))
	serve(t, "--config", config)
	apply(t, ns, harness.Workload("v2"), subject("web", web), policy("p", "v2"))
	waitTold(t, ns, "p", "MirrorRefused", "PolicyExceeded")
	waitRoute(t, ns)

	// Another namespace's Service, without a ReferenceGrant and with one.
	apply(t, other, harness.Workload("v2"))
	far := env.Namespace(t)
	apply(t, far, harness.Workload("v2"), subject("web", web), strings.Replace(policy("p", "v2"), "name: v2,", "name: v2, namespace: "+other+",", 1))
	waitRoute(t, far)
	apply(t, other, `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: `+far+`}]
  to: [{group: "", kind: Service}]
`)
	waitRoute(t, far, "v2=active")
	kubectl(t, other, "delete", "referencegrant", "g")
	waitRoute(t, far)
}
