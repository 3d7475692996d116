package dataplane

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// The size that bounds of time and memory are promised for: 5 endpoints for each Service.
const (
	scaleRoutes   = 1000
	scaleServices = 2000
)

// fill feeds a namespace of that size. Each route has a primary and a mirror; all are attached to one
// Service, or each to its own primary.
func fill(t testing.TB, x *Index, onParent bool) {
	t.Helper()
	put := func(objs ...any) { require.NoError(t, x.Upsert(objs...)) }
	service := object(t, serviceOf("shop/svc", wellknown.Enabled, "http:80->8080")).(*corev1.Service)
	for n := range scaleServices {
		service.Name = fmt.Sprintf("svc-%d", n)
		put(service, scaleSlice(n, 0))
	}
	put(object(t, serviceOf("shop/httpbin", wellknown.Enabled, "http:8000->80")))
	for n := range scaleRoutes {
		to := "httpbin"
		if !onParent {
			to = fmt.Sprintf("svc-%d", 2*n)
		}
		put(object(t, routeOf(fmt.Sprintf("shop/route-%d", n), fmt.Sprintf(`{group: "", kind: Service, name: %s}`, to),
			fmt.Sprintf("{matches: [{path: {value: /api/v1/route-%d}}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: svc-%d, port: 80}}}], backendRefs: [{name: svc-%d, port: 80}]}",
				n, 2*n+1, 2*n))))
	}
}

// scaleSlice is the slice of a Service, whose first endpoint is one or another.
func scaleSlice(n, generation int) *discoveryv1.EndpointSlice {
	of := fmt.Sprintf("svc-%d", n)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: of + "-abcde", Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, e := range []int{100 + generation%100, 0, 1, 2, 3} {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", e, n/200, n%200)}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		})
	}
	return s
}

// scaled is a proxy that follows one Service of such a namespace.
func scaled(t testing.TB, onParent bool) (*Index, *Follower) {
	t.Helper()
	x := NewIndex(Options{Listen: func(Name, *corev1.ServicePort) string { return "127.0.0.1:0" }})
	fill(t, x, onParent)
	of := name("httpbin")
	if !onParent {
		of = name("svc-0")
	}
	server := proxy.New(&proxy.Options{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		require.NoError(t, server.Shutdown(ctx))
	})
	f := Follow(x, of, server)
	require.NoError(t, f.Sync())
	return x, f
}

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// TestScale holds the promise, with room: the update for one change of endpoints, from the typed object to
// the proxy that serves it, costs less than 5 ms of CPU, and all of it less than 200 MB.
func TestScale(t *testing.T) {
	before := heap()
	x, f := scaled(t, true)
	used := heap() - before
	slices := make([]any, 200)
	for i := range slices {
		slices[i] = scaleSlice(0, i+1)
	}
	begin := cpu()
	for _, s := range slices {
		require.NoError(t, x.Upsert(s))
		require.NoError(t, f.Sync())
	}
	each := (cpu() - begin) / time.Duration(len(slices))
	t.Logf("%s of CPU for each change, %.1f MiB", each, used)
	require.Less(t, each, 5*time.Millisecond)
	require.Less(t, used, 200.0)
	// A Feed calls it after every change.
	assert.Zero(t, testing.AllocsPerRun(100, func() { x.foreignOf(name("httpbin")) }), "of routes that refer to no other namespace")
	runtime.KeepAlive(x)
}

func BenchmarkEndpoints(b *testing.B) {
	for layout, onParent := range map[string]bool{"oneParent": true, "manyParents": false} {
		b.Run(layout, func(b *testing.B) {
			x, f := scaled(b, onParent)
			states := [2]any{scaleSlice(0, 1), scaleSlice(0, 2)}
			b.ReportAllocs()
			i, begin := 0, cpu()
			for b.Loop() {
				require.NoError(b, x.Upsert(states[i%2]))
				require.NoError(b, f.Sync())
				i++
			}
			b.ReportMetric(float64(cpu()-begin)/float64(i), "cpu-ns/op")
		})
	}
}

// BenchmarkRoute measures a change of rules, which makes a new table.
func BenchmarkRoute(b *testing.B) {
	x, f := scaled(b, true)
	states := [2]any{}
	for i := range states {
		states[i] = object(b, routeOf("shop/route-0", `{group: "", kind: Service, name: httpbin}`, "{backendRefs: [{name: svc-0, port: 80}]}", fmt.Sprintf("generation: %d", i+8)))
	}
	i := 0
	for b.Loop() {
		require.NoError(b, x.Upsert(states[i%2]))
		require.NoError(b, f.Sync())
		i++
	}
}

func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		empty := heap()
		x := NewIndex(Options{})
		fill(b, x, true)
		index := heap() - empty
		b.ReportMetric(index, "index-MiB")
		runtime.KeepAlive(x)
	}
	before := heap()
	x, f := scaled(b, true)
	b.ReportMetric(heap()-before, "index+proxy-MiB")
	runtime.KeepAlive(x)
	runtime.KeepAlive(f)
}

// BenchmarkLookup finds the rule of a request among few and many.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 100, scaleRoutes} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := NewIndex(Options{})
			fill(b, x, true)
			for i := n; i < scaleRoutes; i++ {
				x.Delete(KindHTTPRoute, "shop", fmt.Sprintf("route-%d", i))
			}
			table, problems := routing.Compile(x.Table(name("httpbin")))
			require.NotNil(b, table, problems)
			r := &routing.Request{Method: "GET", Host: "httpbin:8000", Path: fmt.Sprintf("/api/v1/route-%d/x", n-1), Header: noHeader{}}
			b.ReportAllocs()
			for b.Loop() {
				if table.Match(0, r) == nil {
					b.Fatal("no rule")
				}
			}
		})
	}
}
