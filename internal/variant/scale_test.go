package variant

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// The size of cluster for which the memory limit is documented, with 2 pods for each workload.
const (
	scaleServices  = 5000
	scaleWorkloads = 10000
	scaleRoutes    = 5000
	namespaces     = 50
)

// fill adds the objects of a cluster of that size, one at a time as a watch does. They are in the namespace
// one, or in many namespaces when it is "".
func fill(tb testing.TB, i *Index, one string) {
	tb.Helper()
	put := func(obj any) {
		if rt, ok := obj.(*route.Route); ok {
			obj = textOf(rt)
			texts.Delete(rt)
		}
		require.NoError(tb, i.Upsert(obj))
	}
	ns := func(n int) string {
		if one != "" {
			return one
		}
		return fmt.Sprintf("team-%d", n%namespaces)
	}
	for n := range scaleWorkloads {
		labels := fmt.Sprintf("app.kubernetes.io/name=app-%d,app.kubernetes.io/managed-by=Helm,app.kubernetes.io/part-of=shop,version=v%d", n/2, n%2)
		put(deployment(fmt.Sprintf("%s/app-%d-v%d", ns(n/2), n/2, n%2), labels, 2))
		for p := range 2 {
			put(podOf(fmt.Sprintf("%s/app-%d-v%d-5d4f8c7b9-%05d", ns(n/2), n/2, n%2, p), labels+fmt.Sprintf(",pod-template-hash=%d", n), replicaSet))
		}
	}
	for n := range scaleServices {
		svc := serviceOf(fmt.Sprintf("%s/app-%d", ns(n), n), fmt.Sprintf("app.kubernetes.io/name=app-%d,app.kubernetes.io/managed-by=Helm", n))
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "grpc", Port: 9000})
		put(svc)
		var pods []string
		for p := range 4 {
			pods = append(pods, fmt.Sprintf("app-%d-v%d-5d4f8c7b9-%05d", n, p%2, p/2))
		}
		put(sliceOf(fmt.Sprintf("%s/app-%d-abcde", ns(n), n), fmt.Sprintf("app-%d", n), pods...))
	}
	for n := range scaleRoutes {
		at := ns(n)
		if n%2 == 0 {
			put(httpRoute(fmt.Sprintf("%s/route-%d", at, n), fmt.Sprintf("%s/app-%d", at, n), fmt.Sprintf("%s/app-%d", at, n+1)))
		} else {
			put(virtualService(fmt.Sprintf("%s/route-%d", at, n), fmt.Sprintf("app-%d", n), fmt.Sprintf("app-%d", n)))
		}
	}
}

func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heapInUse()
		i := NewIndex(Options{})
		fill(b, i, "")
		b.ReportMetric(float64(heapInUse()-before)/(1<<20), "MiB")
		runtime.KeepAlive(i)
	}
}

// BenchmarkEvents measures events in clusters whose objects are spread over namespaces, or all in one.
func BenchmarkEvents(b *testing.B) {
	for name, one := range map[string]string{"spread": "", "oneNamespace": "shop"} {
		i := NewIndex(Options{})
		fill(b, i, one)
		at := one
		if at == "" {
			at = "team-7"
		}
		rt := httpRoute(at+"/r", at+"/app-7", at+"/app-1057")
		i.Subscribe(func([]route.Key) {})
		b.Run(name+"/Snapshot", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				i.Snapshot(rt)
			}
		})
		labels := "app.kubernetes.io/name=app-1057,app.kubernetes.io/managed-by=Helm,app.kubernetes.io/part-of=shop,version=v0"
		idle, busy := deployment(at+"/app-1057-v0", labels, 0), deployment(at+"/app-1057-v0", labels, 1)
		b.Run(name+"/Deployment", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, i.Upsert(idle))
				require.NoError(b, i.Upsert(busy))
			}
		})
		some, none := sliceOf(at+"/app-1057-abcde", "app-1057", "x", "y"), sliceOf(at+"/app-1057-abcde", "app-1057")
		b.Run(name+"/EndpointSlice", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, i.Upsert(some))
				require.NoError(b, i.Upsert(none))
			}
		})
	}
}

// storedRoutes are the kind and the spec of routes of one shape: the usual one, and those with the shortest mirrors, to
// Services that exist nowhere, so that each takes most memory for its text. n is the number of the route.
var storedRoutes = map[string]func(n int) (kind, spec string){
	"usual": func(int) (string, string) {
		return "HTTPRoute", `{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"public"}],"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],` +
			`"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"group":"","kind":"Service","name":"v2","port":80},"percent":10}}],"backendRefs":[{"group":"","kind":"Service","name":"v1","port":80,"weight":1}]}]}`
	},
	"two thousand": mirrorsEach(2000, `{"mirror":{"host":"v%d"}}`),
	"sixty":        mirrorsEach(60, `{"mirror":{"host":"v%d"}}`),
	"one":          mirrorsEach(1, `{"mirror":{"host":"v%d"}}`),
	"subsets":      mirrorsEach(2000, `{"mirror":{"host":"v%d","subset":"s"}}`),
	"short hosts":  mirrorsEach(2000, `{"mirror":{"host":"v.n%d"}}`),
	"one target":   func(int) (string, string) { return mirrorsEach(2000, `{"mirror":{"host":"v"}}`)(0) },
	"delegates":    mirrorsEach(2000, `{"delegate":{"name":"d%d"}}`),
	"a list": func(n int) (string, string) {
		_, spec := mirrorsEach(2000, `{"destination":{"host":"v%d"}}`)(n)
		return "VirtualService", strings.Replace(spec, `[{`, `[{"mirrors":[{`, 1)[:len(spec)+len(`{"mirrors":[`)-2] + `]}]}`
	},
	"other namespaces": func(n int) (string, string) {
		var filters []string
		for k := range 1000 {
			filters = append(filters, fmt.Sprintf(`{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v","namespace":"n%d","port":1}}}`, 1000*n+k))
		}
		return "HTTPRoute", `{"rules":[{"filters":[` + strings.Join(filters, ",") + `]}]}`
	},
}

// mirrorsEach returns the maker of a VirtualService of rules that no other route has.
func mirrorsEach(rules int, format string) func(n int) (kind, spec string) {
	return func(n int) (kind, spec string) {
		list := make([]string, rules)
		for k := range list {
			list[k] = format
			if strings.Contains(format, "%") {
				list[k] = fmt.Sprintf(format, n*rules+k)
			}
		}
		return "VirtualService", `{"hosts":["a"],"http":[` + strings.Join(list, ",") + `]}`
	}
}

// memoryOf returns the memory of the Index for each byte of routes of a shape.
func memoryOf(tb testing.TB, shape func(n int) (kind, spec string), least int) float64 {
	tb.Helper()
	before, text := heapInUse(), 0
	i := NewIndex(Options{})
	for n := 0; text < least; n++ {
		kind, spec := shape(n)
		group := "gateway.networking.k8s.io/v1"
		if kind == "VirtualService" {
			group = "networking.istio.io/v1"
		}
		raw := fmt.Appendf(nil, `{"apiVersion":"%s","kind":"%s","metadata":{"namespace":"team-%d","name":"route-%d"},"spec":%s}`, group, kind, n%namespaces, n, spec)
		require.NoError(tb, i.Upsert(json.RawMessage(raw)))
		text += len(raw)
	}
	took := float64(heapInUse()) - float64(before)
	runtime.KeepAlive(i)
	return took / float64(text)
}

// BenchmarkStoredMirrors measures the memory of the Index for each byte of stored routes.
func BenchmarkStoredMirrors(b *testing.B) {
	for name, shape := range storedRoutes {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(memoryOf(b, shape, 4<<20), "heap-bytes/byte")
			}
		})
	}
}

// A stored mirror takes at most four times its text, whatever it looks like: tenants fill memory with routes as far as
// quotas permit.
func TestStoredMirrorsTakeFourTimesTheirText(t *testing.T) {
	for name, shape := range storedRoutes {
		t.Run(name, func(t *testing.T) {
			assert.LessOrEqual(t, memoryOf(t, shape, 2<<20), 4.0, "heap bytes for each byte of text")
		})
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
