package variant

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// randomObject is an object with one of so few names and labels that objects often meet.
type randomObject struct {
	kind Kind
	name types.NamespacedName
	obj  any // for apply
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func newRandomObject(r *rand.Rand) randomObject {
	kind := Kind(r.IntN(int(kindCount)))
	ns, name := pick(r, "n1", "n2"), pick(r, "a", "b", "c")
	full := ns + "/" + name
	podLabels := pick(r, "app=a", "app=b", "app=a,version=v1", "app=a,version=v2", "app=b,version=v1,pod-template-hash=1")
	o := randomObject{kind: kind, name: types.NamespacedName{Namespace: ns, Name: name}}
	switch kind {
	case KindService:
		s := serviceOf(full, pick(r, "", "app=a", "app=b", "app=a,version=v1", "app=b,pod-template-hash=1", "pod-template-hash=1"))
		if r.IntN(8) == 0 {
			s = deleting(s)
		}
		if r.IntN(3) == 0 {
			s = aliasOf(full, pick(r, "a.n1.svc.cluster.local", "b.n2.svc.cluster.local", "api.x.io", "b.n2"), 8000)
		}
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Port: pick[int32](r, 80, 81)})
		o.obj = s
	case KindDeployment:
		o.obj = deployment(full, podLabels, r.Int32N(3))
	case KindReplicaSet:
		d := podOf(full, podLabels, pick(r, "", "apps/v1 Deployment a"))
		rs := &appsv1.ReplicaSet{ObjectMeta: d.ObjectMeta}
		rs.Spec.Template, rs.Spec.Replicas = template(podLabels), new(r.Int32N(2))
		o.obj = rs
	case KindDaemonSet:
		o.obj = &appsv1.DaemonSet{ObjectMeta: meta(full), Spec: appsv1.DaemonSetSpec{Template: template(podLabels)}}
	case KindStatefulSet:
		o.obj = statefulSet(full, podLabels)
	case KindPod:
		o.obj = podOf(full, podLabels, pick(r, "", replicaSet))
	case KindEndpointSlice:
		o.obj = sliceOf(full, pick(r, "a", "b", "c"), pick(r, []string{}, []string{"a"}, []string{"!a", "b"}, []string{"?"}, []string{"c", "!?"})...)
	case KindRollout:
		o.obj = fmt.Sprintf(`{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {namespace: %s, name: %s}, spec: {replicas: %d,
selector: {matchLabels: {app: a}}, %s, strategy: {canary: {trafficRouting: {istio: {virtualService: {name: %s}}}}}}}`, ns, name, r.IntN(2),
			pick(r, "template: {metadata: {labels: {app: b}}}", "workloadRef: {apiVersion: apps/v1, kind: Deployment, name: b}"), pick(r, "a", "b.n1"))
	case KindDestinationRule:
		o.obj = strings.Replace(ruleOf(full, pick(r, "a", "b", "*.n1.svc.cluster.local", "*.local", "*.x.io"), pick(r, "", `"."`, "n1", `"~"`),
			pick(r, "s1", "s2"), pick(r, "", "version: v1", "app: b")), "spec: {", "spec: {"+pick(r, "", "", "workloadSelector: {matchLabels: {app: a}}, "), 1)
	case KindServiceEntry:
		o.obj = strings.Replace(entryOf(full, pick(r, "api.x.io", "*.x.io", "b.n2", "c.n1.svc.cluster.local"), pick(r, "", `"."`)), "8000", pick(r, "8000", "81"), 1)
	case KindReferenceGrant:
		o.obj = grantOf(full, route.GatewayGroup, pick(r, "HTTPRoute", "GRPCRoute"), pick(r, "n1", "n2"),
			pick(r, `{group: "", kind: Service}`, `{group: "", kind: Service, name: a}`))
	case KindHTTPRoute:
		o.obj = httpRoute(full, ns+"/a", pick(r, "n1", "n2")+"/"+pick(r, "a", "b", "c"), "n1/b")
	case KindGRPCRoute:
		o.obj = gatewayRoute(route.GRPCRoute, full, ns+"/b", pick(r, "n1", "n2")+"/"+pick(r, "a", "b", "c"))
	case KindCanary:
		o.obj = fmt.Sprintf(`{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {namespace: %s, name: %s, uid: u-%d}}`, ns, name, r.IntN(2))
	case KindIstioGateway:
		o.obj = fmt.Sprintf(`{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: %s, name: %s},
spec: {selector: {app: %s}, servers: [{port: {number: %d}}]}}`, ns, name, pick(r, "a", "b"), pick(r, 80, 8000))
	case KindGateway:
		o.obj = fmt.Sprintf(`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: %s, name: %s}, spec: {gatewayClassName: %s}}`, ns, name, pick(r, "a", "b"))
	case KindGatewayClass:
		o.name.Namespace = ""
		o.obj = json.RawMessage(fmt.Sprintf(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": %q}, "status": {"supportedFeatures": [%s]}}`,
			name, pick(r, "", `{"name": "HTTPRouteRequestMirror"}`, `"HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"`, `"Gateway"`)))
	case KindNamespace:
		o.name = types.NamespacedName{Name: ns}
		o.obj = fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {env: %s}}}`, ns, pick(r, "prod", "test"))
	case KindMirrorLimit:
		o.name.Namespace = ""
		o.obj = fmt.Sprintf(`{apiVersion: mirrorgate.dev/v1alpha1, kind: MirrorLimit, metadata: {name: %s}, spec: {maxPercent: %d, namespaceSelector: {matchLabels: {env: %s}}}}`,
			name, r.IntN(3), pick(r, "prod", "test"))
	case KindMirrorPolicy:
		o.obj = fmt.Sprintf(`{apiVersion: mirrorgate.dev/v1alpha1, kind: MirrorPolicy, metadata: {namespace: %s, name: %s}, spec: {
targetRefs: [{group: networking.istio.io, kind: VirtualService, name: %s}], ramp: {steps: [{percent: %d}]}}}`, ns, name, pick(r, "a", "b"), r.IntN(3))
	default:
		o.obj = randomVirtualService(r, o.name)
	}
	return o
}

// randomVirtualService returns a VirtualService, a root or a delegate, of Flagger's or not.
func randomVirtualService(r *rand.Rand, name types.NamespacedName) string {
	host, subset, _ := strings.Cut(pick(r, "a", "b#s1", "c#s2", "b.n2", "api.x.io#s1", "a.n1.svc.cluster.local#s1"), "#")
	mirror := fmt.Sprintf(`{mirror: {host: %s, subset: %q%s}}`, host, subset, pick(r, "", "", ", port: {number: 8000}", ", port: {number: 81}"))
	return fmt.Sprintf(`{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {namespace: %s, name: %s,
ownerReferences: [{apiVersion: flagger.app/v1beta1, kind: Canary, name: a, uid: %s, controller: true}]},
spec: {hosts: [%s], gateways: [%s], exportTo: [%s], http: [%s]}}`, name.Namespace, name.Name, pick(r, "u-0", "other"),
		pick(r, "a", "", "x.io", "api.x.io", `"*.x.io"`, `"*.n1.svc.cluster.local", a`), pick(r, "", "mesh", "n1/a", "n2/b, mesh"), pick(r, "", "., n2", "'*'", "'~'"),
		pick(r, mirror, mirror, `{delegate: {name: b}}, `+mirror, `{delegate: {name: c, namespace: n1}}`))
}

// TestRandomHistories checks that an Index after many events gives the same snapshots as a new one with the
// same objects, that every change of a stored route's snapshot was notified, and that the Index is empty when
// all objects are deleted.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		live := map[string]randomObject{}
		c := newCluster(t)
		c.opts.Grace = -1
		before := map[route.Key]policy.Snapshot{}
		for range 300 {
			o := newRandomObject(r)
			key := fmt.Sprint(int(o.kind), o.name)
			if _, there := live[key]; there && r.IntN(3) == 0 {
				delete(live, key)
				c.Delete(o.kind, o.name.Namespace, o.name.Name)
			} else {
				live[key] = o
				c.apply(o.obj)
			}
			before = checkNotified(t, c, before)
		}
		fresh := newCluster(t)
		fresh.opts.Grace = -1
		for _, o := range live {
			fresh.apply(o.obj)
		}
		for rt := range c.Routes() {
			require.Equal(t, fresh.Snapshot(rt), c.Snapshot(rt), "seed %d, %s", seed, rt.Key)
		}
		require.Equal(t, fresh.Counts(), c.Counts())
		for _, o := range live {
			c.Delete(o.kind, o.name.Namespace, o.name.Name)
		}
		assertEmpty(t, c.Index)
	}
}

// TestLaggingCaches checks that Resolver answers as an Index with all objects, while the caches lack some of those
// whose absence it confirms.
func TestLaggingCaches(t *testing.T) {
	lags := func(o randomObject) bool {
		switch o.kind {
		case KindDestinationRule: // of the Service's namespace: those of other clients are not read
			return !strings.Contains(o.obj.(string), "*")
		default:
			return slices.Contains([]Kind{KindService, KindServiceEntry, KindReferenceGrant}, o.kind)
		}
	}
	reads, differ := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		full, caches := newCluster(t), newCluster(t)
		for range 80 {
			o := newRandomObject(r)
			full.apply(o.obj)
			if !lags(o) || r.IntN(2) == 0 {
				caches.apply(o.obj)
			} else {
				caches.Delete(o.kind, o.name.Namespace, o.name.Name)
			}
		}
		reader := &fakeReader{index: full.Index}
		resolver := NewResolver(caches.Index, reader, func() bool { return true })
		for rt := range full.Routes() {
			got, err := resolver.Resolve(t.Context(), rt)
			require.NoError(t, err)
			want, lagging := full.Snapshot(rt), caches.Snapshot(rt)
			for target, v := range want.Variants {
				if lagging.Variants[target].State != v.State {
					differ++
				}
				if v.State == policy.Ready {
					require.Equal(t, policy.Ready, got.Variants[target].State, "seed %d, %s to %v: %s", seed, rt.Key, target, got.Variants[target].Detail)
				}
			}
		}
		reads += len(reader.queries)
	}
	require.NotZero(t, reads)
	require.NotZero(t, differ, "the caches never lag")
	t.Logf("%d live reads, %d states differ in the caches", reads, differ)
}

// checkNotified requires that the routes whose snapshots changed were notified, and returns the snapshots of
// all stored routes. It ignores loops, because a loop is denied when the route is written that closes it.
func checkNotified(t *testing.T, c *cluster, before map[route.Key]policy.Snapshot) map[route.Key]policy.Snapshot {
	t.Helper()
	notified := map[string]bool{}
	for _, e := range c.notified() {
		notified[e] = true
	}
	after := map[route.Key]policy.Snapshot{}
	for rt := range c.Routes() {
		snap := c.Snapshot(rt)
		for target, v := range snap.Variants {
			v.Detail = ""                 // it has the name of a workload, which may change alone
			v.Gateway, v.Loop = false, "" // these deny the write of the route, and move no mirror
			snap.Variants[target] = v
		}
		after[rt.Key] = snap
		if old, ok := before[rt.Key]; ok && !notified[rt.String()] {
			require.Equal(t, old, snap, "the change of %s was not notified", rt.Key)
		}
	}
	return after
}
