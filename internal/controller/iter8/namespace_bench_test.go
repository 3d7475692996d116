package iter8

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// policies returns n policies of one namespace, each with a subject of its own.
func policies(n int) []*corev1.ConfigMap {
	var all []*corev1.ConfigMap
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		spec := fmt.Sprintf("trigger: {owner: %[1]s, update: variant/2}\nchart: mirror\nversion: 0.14.x\nvalues:\n  rules:\n"+
			"  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: %[1]s, port: 80}}}]\n    backendRefs: [{name: v1, port: 80}]\n", name)
		for kind, text := range map[string]string{"": "gvrs: [svc, deploy]\nvariants: [[v1, v1], [" + name + ", " + name + "]]", "-route": spec} {
			all = append(all, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name + kind, UID: types.UID(name + kind)}, Data: map[string]string{"spec": text},
			})
		}
	}
	return all
}

// BenchmarkNamespace reconciles a namespace in which nothing has changed.
func BenchmarkNamespace(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := &Controller{index: fakeIndex{state: policy.Ready}, opts: Options{Metrics: NewMetrics(nil), Log: logr.Discard()}}
			services, deployments := schema.GroupVersionResource{Version: "v1", Resource: "services"}, schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
			httproutes := gvrOf(route.HTTPRoute)
			k := &kinds{found: map[string]schema.GroupVersionResource{"svc": services, "deploy": deployments, "httproutes.v1." + route.GatewayGroup: httproutes}}
			s := newNamespaceState(&run{Controller: c, kinds: k}, "shop")
			docs := policies(n)
			var there, routes []*watched
			for i := range n {
				meta := metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("web-%d", i), UID: types.UID(fmt.Sprint(i)), Generation: 1}
				there, routes = append(there, &watched{ObjectMeta: meta}), append(routes, &watched{ObjectMeta: meta})
			}
			s.watches.running[services], s.watches.running[deployments], s.watches.running[httproutes] = storeOf(b, there...), storeOf(b, there...), storeOf(b, routes...)
			// The first reconciliation would have applied these routes.
			for _, d := range s.readAll(docs) {
				if d.Policy == nil {
					continue
				}
				want := &desired{document: d, object: d.Policy.Route("shop")}
				s.routes[claim{d.cm.UID, want.key()}] = &applied{hash: sha256.Sum256(want.body("")), uid: types.UID(strings.TrimPrefix(d.Policy.Owner, "web-")), generation: 1}
			}
			for b.Loop() {
				s.reconcile(b.Context(), docs)
			}
		})
	}
}
