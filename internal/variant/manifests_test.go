package variant

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

const manifests = `
# A comment alone is no object.
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {selector: {app: b}, ports: [{name: http, port: 8000}]}
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: b}
  spec: {template: {metadata: {labels: {app: b}}}}
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: r}
  spec:
    rules:
    - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 8000}}}]
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: c}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {items: "no list"}
`

func TestFromYAML(t *testing.T) {
	i, err := FromYAML(Options{AssumeReady: true}, []byte(manifests), nil)
	require.NoError(t, err)
	counts := i.Counts().Objects
	assert.Equal(t, 1, counts[KindService], "a Service of Knative is not counted")
	rt := i.Route(route.Key{Kind: route.HTTPRoute, Namespace: "default", Name: "r"})
	require.NotNil(t, rt)
	c := &cluster{Index: i, t: t}
	assert.Equal(t, policy.Ready, c.variant(rt).State, "the workload is assumed to be ready")

	require.NoError(t, i.Upsert(sliceOf("default/b-x", "b", "!b-1")))
	assert.Equal(t, policy.Present, c.variant(rt).State, "an EndpointSlice among the manifests decides")
	require.NoError(t, i.Upsert(sliceOf("default/b-x", "b", "b-1")))
	assert.Equal(t, policy.Ready, c.variant(rt).State)
	i.Delete(KindEndpointSlice, "default", "b-x")
	require.NoError(t, i.Upsert(deployment("default/b", "app=b", 0)))
	assert.Equal(t, policy.ScaledToZero, c.variant(rt).Reason)

	i, err = FromYAML(Options{}, []byte(manifests))
	require.NoError(t, err)
	c.Index = i
	assert.Equal(t, policy.Present, c.variant(rt).State, "readiness is assumed with AssumeReady alone")
}

func TestMalformedManifests(t *testing.T) {
	for text, want := range map[string]string{
		"{apiVersion: v1, kind: Service, metadata: {name: b}, spec: 7}":                                                                                                  `Service "default/b": `,
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: b, namespace: x}, spec: {replicas: many}}":                                                             `Deployment "x/b": `,
		"{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: b}, spec: []}":                                                                     `DestinationRule "default/b": `,
		"{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: b}, spec: {hosts: x}}":                                                                `ServiceEntry "default/b": `,
		"{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: b}, spec: {to: x}}":                                                           `ReferenceGrant "default/b": `,
		"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: b}, spec: {rules: mirror}}":                                                        `HTTPRoute "default/b": `,
		"{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: b}, spec: {replicas: x}}":                                                                    `Rollout "default/b": `,
		`{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: b}, spec: {strategy: {canary: {trafficRouting: {plugins: {argoproj-labs/gatewayAPI: 1}}}}}}`: `Rollout "default/b": plugin argoproj-labs/gatewayAPI: `,
		"{apiVersion: v1, kind: Service, metadata: null, spec: 7}":                                                                                                       `Service "default/": `,
		"just text": "read object: ",
		"a: [":      "read manifest: ",
	} {
		_, err := FromYAML(Options{}, []byte(text))
		assert.ErrorContains(t, err, want)
	}
}

func TestUnstructuredObjects(t *testing.T) {
	u := &unstructured.Unstructured{Object: object("v1", "Service", "shop/b", map[string]any{"spec": map[string]any{"type": "ExternalName"}})}
	i, err := FromObjects(Options{}, u)
	require.NoError(t, err)
	assert.True(t, (&cluster{Index: i, t: t}).variant(httpRoute("shop/r", "shop/a", "shop/b")).External)

	u.Object["spec"] = 7
	_, err = FromObjects(Options{}, u)
	require.ErrorContains(t, err, `Service "shop/b"`)
	assert.ErrorContains(t, i.Replace(KindService, u), `Service "shop/b"`)
}
