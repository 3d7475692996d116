package demo

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	objects, err := parse([]byte(text))
	require.NoError(t, err)
	require.Len(t, objects, 1)
	return objects[0]
}

// writtenBy returns the mirrored route of a document.
func writtenBy(t *testing.T, folder string) *unstructured.Unstructured {
	t.Helper()
	documents, err := readDocuments()
	require.NoError(t, err)
	for _, p := range plays() {
		if p.folder == folder {
			return p.written(documents)
		}
	}
	t.Fatalf("no document %s", folder)
	return nil
}

const parkedVirtualService = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, generation: 2}
spec:
  hosts: [httpbin]
  http:
  - headers: {request: {remove: [x-mirrorgate-parked-ab12]}}
    route: [{destination: {host: httpbin, subset: v1}, weight: 100}]
`

const parkedHTTPRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin, generation: 2}
spec:
  rules:
  - filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-mirrorgate-parked-ab12]}}
    backendRefs: [{name: httpbin-v1, port: 80}]
`

func TestMirrorsOf(t *testing.T) {
	require.Equal(t,
		"- mirror:\n    host: httpbin\n    subset: v2\n  mirrorPercentage:\n    value: 100\n",
		toYAML(mirrorsOf(writtenBy(t, "istio-virtualservice"))))
	filter := "- requestMirror:\n    backendRef:\n      name: httpbin-v2\n      port: 80\n  type: RequestMirror\n"
	require.Equal(t, filter, toYAML(mirrorsOf(writtenBy(t, "istio-gateway-api"))))
	require.Equal(t, filter, toYAML(mirrorsOf(writtenBy(t, "iter8"))))
	require.Empty(t, mirrorsOf(object(t, parkedVirtualService)))
	require.Empty(t, mirrorsOf(object(t, parkedHTTPRoute)))
	require.Empty(t, mirrorsOf(nil))
}

func TestSameMirrors(t *testing.T) {
	written := writtenBy(t, "iter8")
	stored := defaulted(written)
	require.True(t, sameMirrors(written, stored))
	require.False(t, sameMirrors(written, object(t, parkedHTTPRoute)))
	maps(maps(stored.Object, "spec", "rules")[0], "filters")[0]["percent"] = int64(50)
	require.False(t, sameMirrors(written, stored), "the percentage is not the manifest's")

	written = writtenBy(t, "istio-virtualservice")
	stored = written.DeepCopy()
	require.True(t, sameMirrors(written, stored))
	maps(stored.Object, "spec", "http")[0]["mirrorPercentage"] = map[string]any{"value": int64(10)}
	require.False(t, sameMirrors(written, stored))
}

func TestDefaultedIsWhatTheServerStores(t *testing.T) {
	require.Equal(t, `spec:
  parentRefs:
  - group: gateway.networking.k8s.io
    kind: Service
    name: httpbin
    port: 8000
  rules:
  - backendRefs:
    - group: ""
      kind: Service
      name: httpbin-v1
      port: 80
      weight: 1
    filters:
    - requestMirror:
        backendRef:
          group: ""
          kind: Service
          name: httpbin-v2
          port: 80
      type: RequestMirror
    matches:
    - path:
        type: PathPrefix
        value: /
`, specOf(defaulted(writtenBy(t, "iter8"))))
	written := writtenBy(t, "istio-virtualservice")
	require.Equal(t, written, defaulted(written))
}

func TestServes(t *testing.T) {
	const text = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: httpbin-x, labels: {kubernetes.io/service-name: httpbin}}
endpoints:
- {conditions: {ready: true}, targetRef: {kind: Pod, name: httpbin-v1-7d-abc}}
- {conditions: {ready: false}, targetRef: {kind: Pod, name: httpbin-v2-7d-abc}}
`
	slice := func(ready bool) *unstructured.Unstructured {
		s := object(t, text)
		maps(s.Object, "endpoints")[1]["conditions"] = map[string]any{"ready": ready}
		return s
	}
	require.True(t, serves(slice(true), "httpbin"))
	require.False(t, serves(slice(false), "httpbin"), "only variant 1 is ready")
	require.False(t, serves(slice(true), "httpbin-v2"), "another Service")
	require.False(t, serves(object(t, parkedHTTPRoute), "httpbin"))
}

func TestDiff(t *testing.T) {
	require.Empty(t, diff("a: 1\n", "a: 1\n"))
	require.Equal(t, []string{" a: 1", "-b: 2", "+b: 3", " c: 4"}, diff("a: 1\nb: 2\nc: 4\n", "a: 1\nb: 3\nc: 4\n"))
	require.Equal(t, []string{"+a: 1"}, diff("", "a: 1\n"))
	far := "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	require.Equal(t, []string{"+0", " 1", " 2", " 3", "", " 7", " 8", " 9", "+10"}, diff(far, "0\n"+far+"10\n"), "two hunks")
}
