package iter8

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/tools/cache"
	k8sevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// fakeIndex answers with one state for every variant.
type fakeIndex struct {
	state   policy.State
	inGrace bool
}

func (f fakeIndex) Subscribe(variant.Subscriber)                   {}
func (f fakeIndex) SubscribeServices(func([]types.NamespacedName)) {}
func (f fakeIndex) Snapshot(doc *route.Route) policy.Snapshot {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}}
	for _, m := range doc.Every {
		snap.Variants[m.Target.WithoutPort()] = policy.Variant{
			State: f.state, InGrace: f.inGrace, Exists: true, Ports: []policy.Port{{Number: 80}}, Reason: policy.NoReadyEndpoints, Detail: "nothing is ready",
		}
	}
	return snap
}

func newTestState(t *testing.T, index Index, cfg policy.Config) (*namespaceState, *k8sevents.FakeRecorder) {
	t.Helper()
	recorder := k8sevents.NewFakeRecorder(20)
	c := &Controller{index: index, events: events.NewReporter(recorder, "Route"), opts: Options{Policy: cfg, Grace: 10 * time.Second, Metrics: NewMetrics(nil), Log: logr.Discard()}}
	tm := &run{Controller: c, managed: map[route.Key]types.UID{}, states: map[string]*namespaceState{}}
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

func TestReadinessOfAnyKind(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	services := schema.GroupResource{Resource: "services"}
	inference := schema.GroupResource{Group: "serving.kserve.io", Resource: "inferenceservices"}
	const head = "{apiVersion: a/v1, kind: A, metadata: {name: a, generation: 2}, "
	for name, c := range map[string]struct {
		kind        schema.GroupResource
		text        string
		ready, idle bool
	}{
		"a Service":                      {services, head + "spec: {}}", true, false},
		"a Deployment of a moment ago":   {deployments, head + "spec: {replicas: 1}}", false, false},
		"a Deployment":                   {deployments, head + "spec: {replicas: 3}, status: {readyReplicas: 1, conditions: [{type: Available, status: 'False'}]}}", true, false},
		"scaled to 0":                    {deployments, head + "spec: {replicas: 0}, status: {conditions: [{type: Available, status: 'True'}]}}", false, true},
		"a DaemonSet":                    {schema.GroupResource{Group: "apps", Resource: "daemonsets"}, head + "status: {desiredNumberScheduled: 2, numberReady: 1}}", true, false},
		"a DaemonSet without nodes":      {schema.GroupResource{Group: "apps", Resource: "daemonsets"}, head + "status: {desiredNumberScheduled: 0, numberReady: 0}}", false, true},
		"Ready wins over Available":      {inference, head + "status: {conditions: [{type: Available, status: 'True'}, {type: Ready, status: 'False'}]}}", false, false},
		"Ready":                          {inference, head + "status: {conditions: [{type: Ready, status: 'True'}]}}", true, false},
		"Ready of an older generation":   {inference, head + "status: {observedGeneration: 1, conditions: [{type: Ready, status: 'True'}]}}", false, false},
		"Ready, the condition is older":  {inference, head + "status: {observedGeneration: 2, conditions: [{type: Ready, status: 'True', observedGeneration: 1}]}}", false, false},
		"an InferenceService, no status": {inference, head + "spec: {}}", false, false},
		"anything else that is Unknown":  {schema.GroupResource{Group: "a", Resource: "as"}, head + "status: {conditions: [{type: Ready, status: Unknown}]}}", false, false},
		"anything else, no status":       {schema.GroupResource{Group: "a", Resource: "as"}, head + "spec: {}}", true, false},
		"odd conditions":                 {schema.GroupResource{Group: "a", Resource: "as"}, head + "status: {conditions: [1, {type: 3}]}}", true, false},
		"a Pod of a moment ago":          {schema.GroupResource{Resource: "pods"}, head + "spec: {}}", false, false},
	} {
		shrunk, err := shrink(object(t, c.text))
		require.NoError(t, err)
		got := shrunk.(*watched)
		assert.Equal(t, c.ready, got.isReady(c.kind), name)
		assert.Equal(t, c.idle, got.idle, name)
	}
	same, err := shrink("what comes after a missed deletion")
	require.NoError(t, err)
	require.Equal(t, "what comes after a missed deletion", same)
}

func TestGraceOfAResource(t *testing.T) {
	s, _ := newTestState(t, fakeIndex{}, policy.Config{})
	now := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	require.False(t, s.endures("a", false, at(0)), "it never was ready")
	require.True(t, s.endures("a", true, at(1)))
	require.True(t, s.endures("a", false, at(60)), "from when it is seen unready")
	require.Equal(t, 10*time.Second, s.next)
	require.True(t, s.endures("a", true, at(65)))
	require.True(t, s.endures("a", false, at(66)), "and anew")
	require.True(t, s.endures("a", false, at(75)))
	require.False(t, s.endures("a", false, at(76)))
	require.False(t, s.endures("a", false, at(77)), "a grace brings nothing back")
}

const mirrored = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]
    backendRefs: [{name: v1, port: 80}]
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}}}]
    backendRefs: [{name: v1, port: 80}]
`

func wishOf(t *testing.T, text string) *wish {
	t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", UID: "p-uid"}}
	return &wish{document: &document{cm: cm, reported: &events.News[string]{}}, object: object(t, text).Object}
}

func TestGateLeavesOutWhatPolicySays(t *testing.T) {
	const first, second = "spec.rules[0].filters[0].requestMirror", "spec.rules[1].filters[0].requestMirror"
	none := 0
	itself := `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web, namespace: shop}, spec: {rules: [` +
		`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}}}], backendRefs: [{name: v1, port: 80}]},` +
		`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}}}], backendRefs: [{name: v1, port: 80}]}]}}`
	for name, c := range map[string]struct {
		text  string
		index fakeIndex
		cfg   policy.Config
		away  string
		was   map[string]bool
		out   map[string]bool
		event bool
	}{
		"ready":                 {mirrored, fakeIndex{state: policy.Ready}, policy.Config{}, "", nil, map[string]bool{}, false},
		"away":                  {mirrored, fakeIndex{state: policy.Ready}, policy.Config{}, "gone", nil, map[string]bool{first: true, second: true}, false},
		"present":               {mirrored, fakeIndex{state: policy.Present}, policy.Config{}, "", nil, map[string]bool{first: true, second: true}, false},
		"present, strict":       {mirrored, fakeIndex{state: policy.Present}, policy.Config{Strict: true}, "", nil, map[string]bool{first: true, second: true}, false},
		"in grace":              {mirrored, fakeIndex{state: policy.Ready, inGrace: true}, policy.Config{}, "", nil, map[string]bool{}, false},
		"in grace, one was out": {mirrored, fakeIndex{state: policy.Ready, inGrace: true}, policy.Config{}, "", map[string]bool{second: true}, map[string]bool{second: true}, false},
		"a limit":               {mirrored, fakeIndex{state: policy.Ready}, policy.Config{Limits: policy.Limits{MaxMirrors: &none}}, "", nil, map[string]bool{first: true, second: true}, true},
		"one mirrors itself":    {itself, fakeIndex{state: policy.Ready}, policy.Config{}, "", nil, map[string]bool{first: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, recorder := newTestState(t, c.index, c.cfg)
			w := wishOf(t, c.text)
			w.away = c.away
			out, why := s.gate(w, &applied{out: c.was})
			assert.Equal(t, c.out, out)
			assert.Equal(t, len(out) > 0, why != "", why)
			assert.Equal(t, c.event, len(recorder.Events) > 0)
			s.gate(w, &applied{out: c.was})
			assert.LessOrEqual(t, len(recorder.Events), 1, "told once")
		})
	}
}

func TestWhoseARouteIs(t *testing.T) {
	ours := func(uid, name string) *unstructured.Unstructured {
		u := object(t, mirrored)
		u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: types.UID(uid)}})
		u.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: wellknown.FieldManager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}})
		return u
	}
	forged := ours("old-uid", "p")
	forged.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}})
	deleted := ours("p-uid", "p")
	deleted.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)})
	bare := object(t, mirrored)
	bare.SetManagedFields(forged.GetManagedFields())
	for name, c := range map[string]struct {
		live   *unstructured.Unstructured
		result string
		note   string
	}{
		"none":                       {nil, "", ""},
		"its own":                    {ours("p-uid", "p"), "", ""},
		"of its former self":         {ours("old-uid", "p"), "", ""},
		"of another document":        {ours("q-uid", "q"), "taken", `is of ConfigMap "q"`},
		"of one that is gone":        {ours("gone", "gone"), "error", `"gone", which is gone`},
		"of its name, by another":    {forged, "taken", `is of ConfigMap "p"`},
		"nobody's":                   {bare, "taken", "field managers: kubectl. Delete it"},
		"its own, but being deleted": {deleted, "error", "is being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestState(t, fakeIndex{}, policy.Config{})
			s.read["q-uid"] = &document{}
			f := s.foreign(wishOf(t, mirrored), c.live)
			if c.result == "" {
				require.Nil(t, f)
				return
			}
			require.NotNil(t, f)
			assert.Equal(t, c.result, f.result)
			assert.Contains(t, f.note, c.note)
			assert.Equal(t, c.result == "error", f.soon)
		})
	}
}

func TestAnswersOfTheAPIServer(t *testing.T) {
	kind := schema.GroupKind{Group: route.GatewayGroup, Kind: "HTTPRoute"}
	resource := schema.GroupResource{Group: route.GatewayGroup, Resource: "httproutes"}
	terminating := apierrors.NewForbidden(resource, "web", errors.New("is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: "NamespaceTerminating"}}
	for name, c := range map[string]struct {
		err            error
		result, reason string
		soon           bool
	}{
		"field managers":     {apierrors.NewApplyConflict([]metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.rules"}}, "conflict"), "conflict", "RouteConflict", false},
		"another object":     {apierrors.NewConflict(resource, "web", errors.New("uid")), "error", "RouteDelayed", true},
		"admission lags":     {apierrors.NewConflict(resource, "web", errors.New("a mirror has no variant that is ready")), "error", "RouteDelayed", true},
		"invalid":            {apierrors.NewInvalid(kind, "web", field.ErrorList{field.Invalid(field.NewPath("spec"), 1, "no")}), "refused", "RouteRefused", false},
		"forbidden":          {apierrors.NewForbidden(resource, "web", errors.New("no")), "refused", "RouteRefused", false},
		"unknown field":      {errors.New(".spec.a: field not declared in schema"), "refused", "RouteRefused", false},
		"end of namespace":   {terminating, "refused", "", false},
		"gone":               {apierrors.NewNotFound(resource, "web"), "error", "RouteDelayed", true},
		"no answer":          {errors.New("connection refused"), "error", "RouteDelayed", true},
		"the server's fault": {apierrors.NewInternalError(errors.New("etcd")), "error", "RouteDelayed", true},
	} {
		f := refusal(route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: "web"}, c.err)
		assert.Equal(t, []any{c.result, c.reason, c.soon}, []any{f.result, f.reason, f.soon}, name)
	}
}

func TestRetriesSlowDownAndAreToldOnce(t *testing.T) {
	s, recorder := newTestState(t, fakeIndex{}, policy.Config{})
	s.held = map[route.Key]bool{}
	w, a := wishOf(t, mirrored), &applied{}
	at := attempt{key: w.key(), hash: [32]byte{1}}
	var waits []time.Duration
	for range 14 {
		s.next = 0
		s.settle(w, a, later("no answer"), at)
		waits = append(waits, s.next)
	}
	require.Equal(t, loop.FirstRetry, waits[0])
	require.Equal(t, 2*loop.FirstRetry, waits[1])
	require.Equal(t, loop.LastRetry, waits[13])
	require.Len(t, recorder.Events, 1)
	require.Contains(t, <-recorder.Events, "RouteDelayed no answer")

	s.next = 0
	at.hash = [32]byte{2} // something else is wanted: at once again
	s.settle(w, a, later("no answer"), at)
	require.Equal(t, loop.FirstRetry, s.next)
	s.settle(w, a, failed("taken", "RouteTaken", "somebody's"), at)
	s.settle(w, a, failed("taken", "RouteTaken", "somebody's"), at)
	require.Len(t, recorder.Events, 1)
	require.False(t, s.run.manages(at.key, ""))
	require.False(t, s.held[at.key], "another document may have it")

	a.uid, a.generation = "r", 1
	s.settle(w, a, nil, at)
	require.True(t, s.run.manages(at.key, "r"))
	require.Zero(t, a.attempts)
	s.settle(w, a, failed("taken", "RouteTaken", "somebody's"), at)
	require.Len(t, recorder.Events, 3, "told again, since it was well in between")
}

func TestTemplatesAreFilledInForNewWeightsAlone(t *testing.T) {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "m", UID: "m", ResourceVersion: "1", Labels: map[string]string{documents.KindLabel: documents.KindRoutemap}},
		Data:       map[string]string{"strSpec": "versions: [{}, {}]\nroutingTemplates: {a: {gvrShort: vs, template: '{{if gt (index .Weights 1) 7}}{{index .Weights 9}}{{end}}'}}"},
	}
	s, _ := newTestState(t, fakeIndex{}, policy.Config{})
	d := s.readAll([]*corev1.ConfigMap{cm})[0]
	require.Nil(t, d.wrong)
	now := time.Unix(1000, 0)
	first := d.render([]uint32{1, 2}, now)
	require.Empty(t, first.wrong)
	require.Same(t, first, d.render([]uint32{1, 2}, now.Add(time.Hour)))
	bad := d.render([]uint32{1, 8}, now)
	require.Len(t, bad.wrong, 1)
	require.Same(t, bad, d.render([]uint32{1, 8}, now.Add(slowRetry-1)))
	require.NotSame(t, bad, d.render([]uint32{1, 8}, now.Add(slowRetry)))
	require.Empty(t, d.render([]uint32{1, 2}, now).wrong)
	require.Same(t, d, s.readAll([]*corev1.ConfigMap{cm})[0])
	changed := cm.DeepCopy()
	changed.ResourceVersion = "2"
	require.NotSame(t, d, s.readAll([]*corev1.ConfigMap{changed})[0])
}

// A document that comes first in the order, but after the route was made, does not disturb the
// one that has it.
func TestWhoHasMadeARouteKeepsIt(t *testing.T) {
	s, recorder := newTestState(t, fakeIndex{state: policy.Ready}, policy.Config{})
	holder, challenger := wishOf(t, mirrored), wishOf(t, mirrored)
	challenger.cm.Name, challenger.cm.UID = "a", "a-uid"
	live := object(t, mirrored)
	live.SetUID("r")
	live.SetGeneration(1)
	live.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "p", UID: "p-uid"}})
	s.read = map[types.UID]*document{"p-uid": holder.document, "a-uid": challenger.document}
	client := fake.NewSimpleDynamicClient(runtime.NewScheme(), live)
	s.run.routes = routes{client}
	httproutes := gvrOf(route.HTTPRoute)
	s.run.kinds = &kinds{found: map[string]schema.GroupVersionResource{"httproutes.v1." + route.GatewayGroup: httproutes}}
	s.watches.running[httproutes] = storeOf(t, &watched{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "r", Generation: 1}})
	key := holder.key()
	s.routes[claim{"p-uid", key}] = &applied{hash: sha256.Sum256(holder.body()), uid: "r", generation: 1}
	for range 2 {
		s.needed, s.wanted, s.held = map[schema.GroupVersionResource]bool{}, map[claim]bool{}, map[route.Key]bool{}
		s.want(t.Context(), challenger)
		require.False(t, s.held[key])
		s.want(t.Context(), holder)
		require.True(t, s.held[key])
		require.True(t, s.run.manages(key, "r"))
		s.tidy()
	}
	require.Len(t, recorder.Events, 1)
	require.Contains(t, <-recorder.Events, `RouteTaken HTTPRoute shop/web is of ConfigMap "p"`)
	require.Len(t, client.Actions(), 1, "one read, and no write")
}

func TestOneObjectAlone(t *testing.T) {
	var body map[string]any
	require.NoError(t, json.Unmarshal(withUID(wishOf(t, mirrored).body(), "u"), &body))
	metadata := body["metadata"].(map[string]any)
	require.Equal(t, "u", metadata["uid"])
	require.Equal(t, []any{map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "name": "p", "uid": "p-uid", "controller": true}}, metadata["ownerReferences"])
}

func TestManagesOnlyRoutesOfConfigMaps(t *testing.T) {
	owned := object(t, mirrored)
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "p", UID: "p-uid"}})
	owned.SetUID("r")
	decode := func(u *unstructured.Unstructured) *route.Route {
		raw, err := u.MarshalJSON()
		require.NoError(t, err)
		doc, err := route.Decode(raw, route.Options{})
		require.NoError(t, err)
		return doc
	}
	doc := decode(owned)
	s, _ := newTestState(t, fakeIndex{}, policy.Config{})
	c := s.run.Controller
	require.False(t, c.Manages(decode(object(t, mirrored))))
	require.True(t, c.Manages(doc), "until it has looked it may")
	c.run.Store(s.run)
	require.True(t, c.Manages(doc))
	s.run.complete.Store(true)
	require.False(t, c.Manages(doc))
	s.run.manage(doc.Key, "r")
	require.True(t, c.Manages(doc))
	owned.SetUID("another")
	require.False(t, c.Manages(decode(owned)))
}

// many are so many policies in one namespace, each with a subject of its own.
func many(n int) []*corev1.ConfigMap {
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

// store is an informer that holds what a test gives it.
type store struct {
	cache.SharedIndexInformer
	objects cache.Indexer
}

func (s store) HasSynced() bool       { return true }
func (s store) GetStore() cache.Store { return s.objects }
func storeOf(t testing.TB, objects ...*watched) *watch {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, each := range objects {
		require.NoError(t, indexer.Add(each))
	}
	return &watch{informer: store{objects: indexer}, cancel: func() {}}
}

// BenchmarkNamespace is a look at a namespace in which nothing has changed.
func BenchmarkNamespace(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := &Controller{index: fakeIndex{state: policy.Ready}, opts: Options{Metrics: NewMetrics(nil), Log: logr.Discard()}}
			services, deployments := schema.GroupVersionResource{Version: "v1", Resource: "services"}, schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
			httproutes := gvrOf(route.HTTPRoute)
			k := &kinds{found: map[string]schema.GroupVersionResource{"svc": services, "deploy": deployments, "httproutes.v1." + route.GatewayGroup: httproutes}}
			s := newNamespaceState(&run{Controller: c, kinds: k, managed: map[route.Key]types.UID{}, states: map[string]*namespaceState{}}, "shop")
			docs := many(n)
			var there, routes []*watched
			for i := range n {
				meta := metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("web-%d", i), UID: types.UID(fmt.Sprint(i)), Generation: 1}
				there, routes = append(there, &watched{ObjectMeta: meta}), append(routes, &watched{ObjectMeta: meta})
			}
			s.watches.running[services], s.watches.running[deployments], s.watches.running[httproutes] = storeOf(b, there...), storeOf(b, there...), storeOf(b, routes...)
			// What a first look would have applied.
			for _, d := range s.readAll(docs) {
				if d.Policy == nil {
					continue
				}
				w := &wish{document: d, object: d.Policy.Route("shop")}
				s.routes[claim{d.cm.UID, w.key()}] = &applied{hash: sha256.Sum256(w.body()), uid: types.UID(strings.TrimPrefix(d.Policy.Owner, "web-")), generation: 1}
			}
			for b.Loop() {
				s.reconcile(b.Context(), docs)
			}
		})
	}
}
