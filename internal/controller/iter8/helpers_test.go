package iter8

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	k8sevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// fakeIndex answers with one state for every variant.
type fakeIndex struct {
	state   policy.State
	inGrace bool
}

func (f fakeIndex) Subscribe(variant.Subscriber) {}

func (f fakeIndex) SubscribeServices(func([]types.NamespacedName)) {}

func (f fakeIndex) Snapshot(doc *route.Route) policy.Snapshot {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}}
	for _, m := range doc.Every {
		snap.Variants[m.Target] = policy.Variant{
			State: f.state, InGrace: f.inGrace, Exists: true, Ports: []policy.Port{{Number: 80}}, Reason: policy.NoReadyEndpoints, Detail: "nothing is ready",
		}
	}
	return snap
}

func newTestState(t *testing.T, index Index, cfg policy.Config) (*namespaceState, *k8sevents.FakeRecorder) {
	t.Helper()
	recorder := k8sevents.NewFakeRecorder(20)
	c := &Controller{index: index, events: events.NewReporter(recorder, "Route"), opts: Options{Policy: cfg, Grace: 10 * time.Second, Metrics: NewMetrics(nil), Log: logr.Discard()}}
	tm := &run{Controller: c}
	return newNamespaceState(tm, "shop"), recorder
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	u := &unstructured.Unstructured{}
	require.NoError(t, u.UnmarshalJSON(raw))
	return u
}

const mirrored = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: public}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]
    backendRefs: [{name: v1, port: 80}]
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}}}]
    backendRefs: [{name: v1, port: 80}]
`

func desiredOf(t *testing.T, text string) *desired {
	t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", UID: "p-uid"}}
	return &desired{document: &document{cm: cm, reported: &events.News[string]{}}, object: object(t, text).Object}
}

// store is an informer with the objects of a test.
type store struct {
	cache.SharedIndexInformer
	objects cache.Indexer
}

func (s store) HasSynced() bool { return true }

func (s store) GetStore() cache.Store { return s.objects }

func storeOf(t testing.TB, objects ...*watched) *watch {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, each := range objects {
		require.NoError(t, indexer.Add(each))
	}
	return &watch{informer: store{objects: indexer}, cancel: func() {}}
}
