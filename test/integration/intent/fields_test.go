package intent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// TestEveryFieldComesBack parks and restores mirrors of every shape, in every order of two variants, and
// compares the restored spec with the one that the API server stores for the same manifest without
// mirrorgate.
func TestEveryFieldComesBack(t *testing.T) {
	env.Serve(t)
	s := newSite(t)
	s.create(destinationRule)
	want := map[string]any{}
	for name, manifest := range shapes() {
		manifest = strings.ReplaceAll(manifest, "$NS", s.ns)
		u := object(t, manifest)
		u.SetName(name)
		want[name] = declared(t, text(t, u))
		s.create(text(t, u))
	}
	stages := []struct {
		change func(...string)
		name   string
		ready  string // the variants that are ready
	}{
		{name: "", ready: ""},
		{s.come, "httpbin-v2", "httpbin-v2"},
		{s.come, "httpbin-v3", "httpbin-v2 httpbin-v3"},
		{s.leave, "httpbin-v2", "httpbin-v3"},
		{s.leave, "httpbin-v3", ""},
		{s.come, "httpbin-v3", "httpbin-v3"},
		{s.come, "httpbin-v2", "httpbin-v2 httpbin-v3"},
		{s.leave, "httpbin-v3", "httpbin-v2"},
		{s.leave, "httpbin-v2", ""},
	}
	seen := map[string]*unstructured.Unstructured{} // by route and ready variants
	for _, stage := range stages {
		if stage.change != nil {
			stage.change(stage.name)
		}
		for name, manifest := range shapes() {
			u := s.waitFor(t, resourceOf(t, manifest), name, stage.ready)
			if parked(u) == "" {
				assert.Equal(t, want[name], spec(u), name)
			}
			if before := seen[name+stage.ready]; before != nil {
				assert.Equal(t, spec(before), spec(u), "%s, reached in another order", name)
				assert.Equal(t, parked(before), parked(u), "%s, reached in another order", name)
			}
			seen[name+stage.ready] = u
		}
	}
	for name := range shapes() {
		assert.NotContains(t, seen[name+"httpbin-v2 httpbin-v3"].GetAnnotations(), route.ParkedAnnotation, name)
	}
}

// waitFor waits until exactly the mirrors to ready variants are active.
func (s *site) waitFor(t *testing.T, resource, name, ready string) (got *unstructured.Unstructured) {
	t.Helper()
	until(t, func(c *assert.CollectT) {
		u, err := s.find(resource, name)
		require.NoError(c, err)
		require.NotNil(c, u)
		mirrors := harness.Mirrors(t, u)
		assert.NotEmpty(c, mirrors, name)
		for _, m := range mirrors {
			target, state, _ := strings.Cut(m, "=")
			service, _, _ := strings.Cut(target, "/")
			assert.Equal(c, strings.Contains(ready, service), state == "active", "%s: %s", name, m)
		}
		got = u
	})
	return got
}

func resourceOf(t *testing.T, manifest string) string {
	t.Helper()
	return strings.ToLower(object(t, manifest).GetKind())
}

const destinationRule = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin-v2}
spec: {host: httpbin-v2, subsets: [{name: v2, labels: {version: httpbin-v2}}]}
`

// shapes are the ways to write mirrors to httpbin-v2 and httpbin-v3, by the name of a route.
func shapes() map[string]string {
	all := map[string]string{}
	for name, rules := range gatewayShapes {
		for _, kind := range []string{"HTTPRoute", "GRPCRoute"} {
			all[strings.ToLower(kind)+"-"+name] = "apiVersion: gateway.networking.k8s.io/v1\nkind: " + kind +
				"\nmetadata: {name: x}\nspec:\n  rules:" + strings.ReplaceAll(rules, "\n", "\n  ")
		}
	}
	for name, http := range istioShapes {
		all["virtualservice-"+name] = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}" +
			"\nspec:\n  hosts: [httpbin]\n  http:" + strings.ReplaceAll(http, "\n", "\n  ")
	}
	for _, version := range []string{"v1beta1", "v1alpha3"} {
		all["virtualservice-"+version] = strings.ReplaceAll(all["virtualservice-stanza"], "istio.io/v1", "istio.io/"+version)
	}
	all["httproute-v1beta1"] = strings.ReplaceAll(all["httproute-percent"], "k8s.io/v1", "k8s.io/v1beta1")
	return all
}

var gatewayShapes = map[string]string{
	"percent": `
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 0}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v3, port: 80}, percent: 100}}
`,
	"fraction": `
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, fraction: {numerator: 1, denominator: 3}}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v3, port: 80}, fraction: {numerator: 7}}}
`,
	"among-filters": `
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {group: "", kind: Service, namespace: $NS, name: httpbin-v3, port: 80}}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: a, value: b}]}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}
  - {type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: x}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v3, port: 80}, percent: 3}}
`,
	"with-modifier": `
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}
  - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-one, x-two], add: [{name: c, value: d}]}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v3, port: 80}}}
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: c, value: d}]}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 50}}
`,
	"twice-the-same": `
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 1}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 2}}
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 3}}
`,
	"under-backends": `
- filters: []
  backendRefs:
  - name: httpbin-v1
    port: 80
    weight: 9
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: c, value: d}]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 4}}
  - name: httpbin-v1
    port: 80
    weight: 1
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v3, port: 80}, percent: 5}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 6}}
- backendRefs:
  - name: httpbin-v1
    port: 80
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, fraction: {numerator: 1, denominator: 1000}}}
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 8}}
`,
	"full": `
- backendRefs: [{name: httpbin-v1, port: 80}]
  filters:
  - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}
` + strings.Repeat("  - {type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: x}}\n", 15),
}

var istioShapes = map[string]string{
	"stanza": `
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v2, port: {number: 80}}
  mirrorPercentage: {value: 12.5}
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v3.$NS.svc.cluster.local}
`,
	"percent": `
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v2}
  mirrorPercent: 33
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v2}
  mirror_percent: 34
`,
	"zero": `
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v2}
  mirrorPercentage: {}
- route: [{destination: {host: httpbin-v1}}]
  mirrors: [{destination: {host: httpbin-v3}, percentage: {value: 0}}]
`,
	"list": `
- name: main
  route: [{destination: {host: httpbin-v1}}]
  retries: {attempts: 3}
  mirrors:
  - {destination: {host: httpbin-v2}, percentage: {value: 0.0001}}
  - {destination: {host: httpbin-v3, port: {number: 80}}}
  - {destination: {host: httpbin-v2, port: {number: 80}}, percentage: {value: 99.9999}}
  - {destination: {host: httpbin-v2}}
`,
	"subset": `
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v2, subset: v2}
  mirrorPercentage: {value: 100}
- route: [{destination: {host: httpbin-v1}}]
  mirrors:
  - {destination: {host: httpbin-v2, subset: v2}}
  - {destination: {host: httpbin-v2}}
`,
	"headers": `
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v2}
  headers: {}
- route: [{destination: {host: httpbin-v1}}]
  mirror: {host: httpbin-v2}
  headers: {request: {}}
- route: [{destination: {host: httpbin-v1}}]
  mirrors: [{destination: {host: httpbin-v2}}]
  headers: {request: {remove: []}}
- route: [{destination: {host: httpbin-v1}}]
  mirrors: [{destination: {host: httpbin-v2}}]
  headers: {request: {remove: [x-a], set: {b: c}}, response: {add: {d: e}}}
`,
}
