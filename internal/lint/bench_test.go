package lint

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	yamlv3 "go.yaml.in/yaml/v3"
)

// manifests returns n files as a platform team has them: a route with two mirrors, two Services, a Deployment
// and a DestinationRule in turn.
func manifests(n int) []Source {
	forms := []string{`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: web-%[1]d
  namespace: shop
  labels: {app.kubernetes.io/name: web, app.kubernetes.io/part-of: shop}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [web-%[1]d.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /cart}}]
    filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: v2-%[1]d, port: 80}, percent: 10}
    backendRefs: [{name: v1-%[1]d, port: 80}]
  - filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: v2-%[1]d, port: 81}, percent: 10}
    backendRefs: [{name: v1-%[1]d, port: 80}]
`, `apiVersion: v1
kind: Service
metadata: {name: v2-%[1]d, namespace: shop}
spec:
  selector: {app: v2-%[1]d}
  ports: [{name: http, port: 80, targetPort: 8080}]
`, `apiVersion: apps/v1
kind: Deployment
metadata: {name: v2-%[1]d, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: v2-%[1]d}}
  template:
    metadata: {labels: {app: v2-%[1]d, version: v2}}
    spec:
      containers:
      - name: app
        image: registry.example.com/shop/web:1.2.3
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: 8080}}
        resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 256Mi}}
`, `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: v2-%[1]d, namespace: shop}
spec: {host: v2-%[1]d, subsets: [{name: v2, labels: {version: v2}}]}
`, `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mesh-%[1]d, namespace: shop}
spec:
  hosts: [web-%[1]d]
  http:
  - route: [{destination: {host: v1-%[1]d}}]
    mirror: {host: v2-%[1]d, subset: v2}
    mirrorPercentage: {value: 10}
`}
	sources := make([]Source, n)
	for i := range sources {
		sources[i] = Source{Name: fmt.Sprintf("%04d.yaml", i), Text: fmt.Appendf(nil, forms[i%len(forms)], i/len(forms))}
	}
	return sources
}

// BenchmarkCheck judges 5,000 manifests. docs/benchmarks.md has the figure.
func BenchmarkCheck(b *testing.B) {
	sources := manifests(5000)
	before := cpu(b)
	for b.Loop() {
		report, err := Check(b.Context(), Options{}, sources...)
		require.NoError(b, err)
		require.Equal(b, 3000, report.Mirrors)
		require.Equal(b, 1000, report.Denied)
	}
	b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N), "cpu-s/op")
}

// cpu returns the CPU time of the process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestOutputDoesNotDependOnTheOrderOfReading(t *testing.T) {
	sources := manifests(200)
	first, err := Check(t.Context(), Options{}, sources...)
	require.NoError(t, err)
	require.Len(t, first.Findings, 40)
	for range 5 {
		again, err := Check(t.Context(), Options{}, sources...)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
}

// A file of many objects needs the memory of one tree, besides the objects themselves.
func TestTreesOfOtherObjectsAreDropped(t *testing.T) {
	var text strings.Builder
	for _, source := range manifests(3000) {
		text.WriteString("---\n")
		text.Write(source.Text)
	}
	objects, failures := split(Source{Text: []byte(text.String())}, func(*yamlv3.Node) {})
	require.Empty(t, failures)
	for _, o := range objects {
		require.Nil(t, o.node)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	files := readFile(Source{Text: []byte(text.String())})
	runtime.GC()
	runtime.ReadMemStats(&after)
	kept := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	t.Logf("%.1f times the text", kept/float64(text.Len()))
	require.Less(t, kept, 8*float64(text.Len()), "trees take many times the memory of their text")
	runtime.KeepAlive(files)
}
