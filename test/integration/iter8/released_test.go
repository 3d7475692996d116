package iter8

// The forms of documents that Iter8's releases and their scripts have beside the tutorial's.

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// beside is a VirtualService that a script makes beside its routemap, with the subsets that both use.
const beside = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - route: [{destination: {host: shop, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}], selector: {app: httpbin}}
`

// adds is a routemap that adds to that route: its first version plays no part, and its template has no hosts.
var adds = configMap("shop-routemap", iter8Label+", "+mapLabel, "strSpec", `
versions:
# version 1 plays no part in routing
-
- resources: [{gvrShort: deploy, name: v2}]
  weight: 30
routingTemplates:
  shop:
    gvrShort: vs
    template: |
      apiVersion: networking.istio.io/v1beta1
      kind: VirtualService
      metadata: {name: shop}
      spec:
        http:
        - route: [{destination: {host: shop, subset: v1}}]
          {{- if gt (index .Weights 1) 0 }}
          mirror: {host: shop, subset: v2}
          mirrorPercentage: {value: {{ index .Weights 1 }}}
          headers: {request: {set: {x-candidate: v2}}}
          {{- end }}
`)

// flips returns how often the spec of a route has changed while do runs.
func flips(t *testing.T, ns, kind, name string, do func()) int64 {
	t.Helper()
	before := env.Get(t, ns, kind, name).GetGeneration()
	do()
	return env.Get(t, ns, kind, name).GetGeneration() - before
}

func TestDocumentAddsToARouteThatIsGivenToIt(t *testing.T) {
	s := serve(t)
	ns := env.Namespace(t)
	apply(t, ns, beside, adds)
	waitTold(t, ns, "shop-routemap", "RouteTaken", "VirtualService "+ns+"/shop exists and belongs to none of Iter8's documents; field managers: kubectl-client-side-apply. "+
		"To let this document set its http, annotate it: kubectl -n "+ns+" annotate virtualservice shop mirrorgate.dev/iter8=shop-routemap")
	for _, note := range told(t, ns, "shop-routemap", "RouteTaken") {
		require.NotContains(t, note, "elete", "the document cannot make the route again")
	}
	state := func() *unstructured.Unstructured { return env.Get(t, ns, "virtualservice", "shop") }
	require.NotContains(t, state().GetAnnotations(), "mirrorgate.dev/iter8")

	kubectl(t, ns, "annotate", "virtualservice", "shop", "mirrorgate.dev/iter8=shop-routemap")
	harness.Eventually(t, func() bool { return s.Metric(t, "mirrorgate_iter8_applies_total", `result="applied"`) > 0 }, "the document is not applied")
	mirrored := func(want ...string) {
		t.Helper()
		harness.Eventually(t, func() bool {
			u := state()
			rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "http")
			headers := rules[0].(map[string]any)["headers"]
			return strings.Join(harness.Mirrors(t, u), " ") == strings.Join(want, " ") && (headers != nil) == (len(want) > 0) &&
				u.GetAnnotations()[route.ParkedAnnotation] == "" && u.GetAnnotations()[route.VariantsAnnotation] == ""
		}, "want mirrors %q", want)
		hosts, _, _ := unstructured.NestedStringSlice(state().Object, "spec", "hosts")
		require.Equal(t, []string{"shop"}, hosts)
		require.Empty(t, state().GetOwnerReferences(), "the route is still its owner's")
	}
	mirrored()
	require.EqualValues(t, 1, flips(t, ns, "virtualservice", "shop", func() {
		apply(t, ns, harness.Deployment("v2"))
		mirrored("shop/v2=active")
	}), "one write for a mirror that comes, with its headers")
	waitTold(t, ns, "shop-routemap", "RouteApplied", "VirtualService "+ns+"/shop is applied: it mirrors to shop/v2 (30 %)")
	require.EqualValues(t, 1, flips(t, ns, "virtualservice", "shop", func() {
		kubectl(t, ns, "scale", "deployment", "v2", "--replicas=0")
		mirrored()
		stillOf(t, ns, "virtualservice", "shop", 1500*time.Millisecond) // longer than the grace, after which a second write came
	}), "one write for a mirror that goes")
	waitTold(t, ns, "shop-routemap", "RouteApplied", "is applied: no mirror to shop/v2: ") // either of two caches knows first that it is scaled to 0
	require.Zero(t, s.Metric(t, "mirrorgate_touches_total"), "one controller decides on the route")

	// Its owner writes it again: the fields are the document's.
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=1")
	mirrored("shop/v2=active")
	apply(t, ns, strings.Replace(beside, "metadata: {name: shop}\nspec:\n  hosts", "metadata: {name: shop, labels: {a: b}, annotations: {mirrorgate.dev/iter8: shop-routemap}}\nspec:\n  hosts", 1))
	mirrored("shop/v2=active")

	// Without the document, the route stays, and is gated as any other.
	kubectl(t, ns, "delete", "configmap", "shop-routemap")
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=0")
	env.WaitState(t, ns, "virtualservice", "shop", "shop/v2=parked")
}

func TestOlderSpellingsAreExplained(t *testing.T) {
	serve(t)
	ns := env.Namespace(t)
	old := strings.NewReplacer("versions:", "variants:", "routingTemplates:", "ssas:").Replace(adds)
	apply(t, ns, old)
	waitTold(t, ns, "shop-routemap", "DocumentInvalid", "is the name that versions had before Iter8 0.14: rename it")
	waitTold(t, ns, "shop-routemap", "DocumentInvalid", "is the name that routingTemplates had before Iter8 0.14: rename it")
	apply(t, ns, strings.Replace(strings.Replace(old, mapLabel, "iter8.tools/kind: subject", 1), "shop-routemap", "older", 1))
	waitTold(t, ns, "older", "DocumentInvalid", "is the name that a routemap had before Iter8 0.14: write routemap")
}

// TestModelsAtOneHost mirrors to the Service of the primary, with another header for copies, as ModelMesh does.
func TestModelsAtOneHost(t *testing.T) {
	serve(t)
	ns := env.Namespace(t)
	apply(t, ns, harness.Workload("v1"), configMap("models", iter8Label+", "+mapLabel, "strSpec", `
versions: [{resources: []}, {weight: 100}]
routingTemplates:
  models:
    gvrShort: vs
    template: |
      apiVersion: networking.istio.io/v1beta1
      kind: VirtualService
      metadata: {name: web}
      spec:
        hosts: [web]
        http:
        - route:
          - destination: {host: v1, port: {number: 80}}
            headers: {request: {set: {model: first}}}
          mirror: {host: v1, port: {number: 80}}
          mirrorPercentage: {value: {{ index .Weights 1 }}}
          headers: {request: {set: {model: second}}}
`))
	waitFor(t, ns, "virtualservice", "web", "v1=active")
	waitTold(t, ns, "models", "RouteApplied", "it mirrors to v1:80")
	require.Empty(t, told(t, ns, "models", "MirrorRefused"))
}
