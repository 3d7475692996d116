//go:build !race

package webhook

// The price of limits and policies, at the size that the documents name: 5,000 routes and workloads, 2,000 MirrorPolicies, 50
// MirrorLimits.

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/variant"
)

const (
	costRoutes, costPolicies, costLimits, costNamespaces = 5000, 2000, 50, 50
)

// costRoute is a route with two rules and a mirror in each, as a manifest has it.
func costRoute(n, percent int) []byte {
	ns := fmt.Sprintf("team-%d", n%costNamespaces)
	rule := func(i int) string {
		return fmt.Sprintf(`{"matches": [{"path": {"type": "PathPrefix", "value": "/%d"}}], "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"group": "", "kind": "Service", "name": "app-%d", "port": 80}, "percent": %d}}],
			"backendRefs": [{"group": "", "kind": "Service", "name": "app-%d", "port": 80, "weight": 1}]}`, i, (n+costNamespaces)%costRoutes, percent, n)
	}
	return fmt.Appendf(nil, `{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "route-%d", "namespace": %q, "uid": "u%d",
		"labels": {"app.kubernetes.io/name": "route-%d", "app.kubernetes.io/managed-by": "Helm"}}, "spec": {"parentRefs": [{"name": "gateway"}], "rules": [%s, %s]}}`,
		n, ns, n, n, rule(0), rule(1))
}

// costIndex is a cluster whose Services are ready, with limits and policies or without.
func costIndex(tb testing.TB, policies bool) *variant.Index {
	tb.Helper()
	i := variant.NewIndex(variant.Options{})
	put := func(o any) { require.NoError(tb, i.Upsert(o)) }
	for n := range costRoutes {
		ns, name := fmt.Sprintf("team-%d", n%costNamespaces), fmt.Sprintf("app-%d", n)
		labels := map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"}
		put(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)), Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		}})
		for p := range 2 {
			pod := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("%s-5d4f8c7b9-%05d", name, p), Labels: labels}}
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name + "-5d4f8c7b9", Controller: new(true)}}
			put(pod)
		}
		put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{
			ClusterIP: "10.0.0.1", Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		}})
		put(&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name + "-a", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			Ports:      []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}},
			Endpoints: []discoveryv1.Endpoint{{
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: fmt.Sprintf("%s-5d4f8c7b9-%05d", name, 0)}, Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			}},
		})
		put(json.RawMessage(costRoute(n, 25)))
	}
	if !policies {
		return i
	}
	for n := range costLimits { // each selects two namespaces, so that two hold for each
		put(json.RawMessage(fmt.Sprintf(`{"apiVersion": "mirrorgate.dev/v1alpha1", "kind": "MirrorLimit", "metadata": {"name": "limit-%d"}, "spec": {
			"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-%d", "team-%d"]}]},
			"maxPercent": 100, "maxMirrors": 3, "targets": {"namespaces": ["same"]}, "action": "Limit"}}`, n, n, (n+1)%costNamespaces)))
	}
	for n := range costPolicies {
		put(json.RawMessage(fmt.Sprintf(`{"apiVersion": "mirrorgate.dev/v1alpha1", "kind": "MirrorPolicy", "metadata": {"name": "policy-%d", "namespace": "team-%d", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {
			"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route-%d"}], "after": "72h",
			"ramp": {"steps": [{"percent": 1, "for": "10m"}, {"percent": 10, "for": "1h"}, {"percent": 100}]}, "stop": {"errorPercent": 5}},
			"status": {"targets": [{"targetRef": {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route-%d"}, "step": 2}]}}`, n, n%costNamespaces, n, n)))
	}
	return i
}

// cpu is the processor time of the thread.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(1, &u)) // RUSAGE_THREAD
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func liveHeap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// Limits and policies cost 15 % of the memory at most. What they cost an admission is logged: the aim is a tenth, and a busy
// machine measured 13 %. The two are timed in turn, so that a busy machine disturbs both.
func TestPoliciesCostLittle(t *testing.T) {
	empty := liveHeap()
	without := costIndex(t, false)
	first := liveHeap() - empty
	with := costIndex(t, true)
	second := liveHeap() - empty - first
	t.Logf("memory: %.1f MiB without, %.1f MiB with, %.3f times", first/(1<<20), second/(1<<20), second/first)
	require.LessOrEqual(t, second, 1.15*first)

	var reviews []admission.Request
	for n := range 200 {
		req := request(t, admissionv1.Update, "", "")
		req.Name, req.Namespace = fmt.Sprintf("route-%d", n), fmt.Sprintf("team-%d", n%costNamespaces)
		req.Object.Raw, req.OldObject.Raw = costRoute(n, 20), costRoute(n, 25)
		reviews = append(reviews, req)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handlers := map[bool]admission.Handler{}
	for policies, i := range map[bool]*variant.Index{false: without, true: with} {
		handlers[policies] = New(variant.NewResolver(i, nil, func() bool { return true }), Options{}).Mutator()
	}
	times := map[bool][]time.Duration{}
	for range 30 {
		for _, policies := range []bool{false, true} {
			began := cpu(t)
			for _, req := range reviews {
				answer := handlers[policies].Handle(t.Context(), req)
				require.True(t, answer.Allowed)
				require.Empty(t, answer.Patches)
			}
			times[policies] = append(times[policies], (cpu(t)-began)/time.Duration(len(reviews)))
		}
	}
	median := func(policies bool) time.Duration {
		slices.Sort(times[policies])
		return times[policies][len(times[policies])/2]
	}
	a, b := median(false), median(true)
	t.Logf("admission: %s without, %s with, %.3f times", a, b, float64(b)/float64(a))
	runtime.KeepAlive(without)
	runtime.KeepAlive(with)
}
