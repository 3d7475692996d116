package intercept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var httpbin = Name{Namespace: "shop", Name: "httpbin"}

const (
	httpbinService = `
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: shop, uid: u1, labels: {mirrorgate.dev/proxy: enabled}, managedFields: [
  {manager: author, operation: Apply, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:selector": {}, "f:ports": {}}}}]}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 8000, targetPort: 80}], selector: {app: httpbin}}
`
	primaryService = `
apiVersion: v1
kind: Service
metadata: {name: httpbin-v1, namespace: shop, uid: u2}
spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 80}], selector: {app: httpbin, version: v1}}
`
	httpRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop, generation: 1}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin, port: 8000}]
  rules: [{backendRefs: [{name: httpbin-v1, port: 80}]}]
`
)

// world is an API server with a webhook, an Index, and a controller.
type world struct {
	t          *testing.T
	index      *dataplane.Index
	controller *Controller
	registered bool
	// registeredErr is the error of reading the registration.
	registeredErr error
	// report is where proxies report to.
	report wellknown.ReportTarget
	// down is set while the webhook does not answer.
	down bool
	// outdated is the view of the webhook, nil if it is the controller's.
	outdated *interception.View
	// before, if set, is called once before the next patch.
	before func()

	mu       sync.Mutex
	stored   *corev1.Service
	version  int
	patches  []string
	objects  map[string]*unstructured.Unstructured
	managers map[string][]string
	refuse   error
	events   *events.FakeRecorder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, registered: true, objects: map[string]*unstructured.Unstructured{}, managers: map[string][]string{}, events: events.NewFakeRecorder(1000)}
	w.index = dataplane.NewIndex(dataplane.Options{})
	w.controller = New(w.state(), w, fakeObjects{w}, w.events, Options{
		Linger:     time.Minute,
		Registered: func(context.Context) (bool, error) { return w.registered, w.registeredErr },
		Report:     func() wellknown.ReportTarget { return w.report },
		Log:        testr.New(t),
	})
	w.controller.config = objects.Config{Image: "mirrorgate:test", Replicas: 2}
	w.write(httpbinService)
	w.feed(primaryService)
	return w
}

// state is the Index, which knows everything at once.
func (w *world) state() State {
	return dataplane.Synced{Index: w.index, HasSynced: func() bool { return true }}
}

// write stores a Service without admission.
func (w *world) write(text string) {
	w.t.Helper()
	o := &corev1.Service{}
	require.NoError(w.t, yaml.UnmarshalStrict([]byte(text), o))
	w.store(o)
}

func (w *world) store(o *corev1.Service) {
	w.version++
	o.ResourceVersion = fmt.Sprint(w.version)
	w.stored = o
	require.NoError(w.t, w.index.Upsert(o.DeepCopy()))
}

func (w *world) feed(text string) {
	w.t.Helper()
	if strings.Contains(text, "kind: Service\n") {
		o := &corev1.Service{}
		require.NoError(w.t, yaml.UnmarshalStrict([]byte(text), o))
		require.NoError(w.t, w.index.Upsert(o))
		return
	}
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(w.t, err)
	require.NoError(w.t, w.index.Upsert(raw))
}

// proxy stores a pod of the Service's Deployment in a state: ready, unready, ending or gone.
func (w *world) proxy(name, state string) {
	w.t.Helper()
	pod := Name{Namespace: "shop", Name: name}
	if state == "gone" {
		w.index.Delete(dataplane.KindPod, pod.Namespace, pod.Name)
		return
	}
	d := (&objects.Parent{Service: w.stored, Original: w.own(), Config: w.controller.config}).Deployment()
	o := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta}
	status := corev1.ConditionTrue
	if state == "unready" {
		status = corev1.ConditionFalse
	}
	o.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
	if state == "ending" {
		o.DeletionTimestamp = &metav1.Time{}
	}
	o.Namespace, o.Name = pod.Namespace, pod.Name
	require.NoError(w.t, w.index.Upsert(o))
}

// own returns the selector that the author wrote.
func (w *world) own() map[string]string {
	got, err := interception.Original(objects.Read(w.stored), nil, nil)
	require.NoError(w.t, err)
	return got
}

// Get implements Services.
func (w *world) Get(_ context.Context, name Name) (*corev1.Service, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stored == nil || name != httpbin {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, name.Name)
	}
	return w.stored.DeepCopy(), nil
}

// Patch implements Services like an API server: it compares uid and version, sets the owner of the changed
// fields, and then calls admission.
func (w *world) Patch(ctx context.Context, name Name, body []byte) (*corev1.Service, error) {
	if fn := w.before; fn != nil {
		w.before = nil
		fn()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patches = append(w.patches, string(body))
	if w.refuse != nil {
		return nil, w.refuse
	}
	if w.stored == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, name.Name)
	}
	old, err := json.Marshal(w.stored)
	require.NoError(w.t, err)
	merged, err := jsonpatch.MergePatch(old, body)
	require.NoError(w.t, err)
	var o corev1.Service
	require.NoError(w.t, json.Unmarshal(merged, &o))
	if o.UID != w.stored.UID || o.ResourceVersion != w.stored.ResourceVersion {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "services"}, name.Name, errors.New("the Service was replaced"))
	}
	if !maps.Equal(o.Spec.Selector, w.stored.Spec.Selector) {
		o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: wellknown.FieldManager, Operation: metav1.ManagedFieldsOperationUpdate, FieldsV1: fields()}}
	}
	if !w.down {
		w.admit(ctx, &o, old)
	}
	if after, _ := json.Marshal(&o); string(after) != string(old) {
		w.store(&o)
	}
	return w.stored.DeepCopy(), nil
}

func fields() *metav1.FieldsV1 {
	var f metav1.FieldsV1
	f.SetRawString(`{"f:spec":{"f:selector":{}}}`)
	return &f
}

// webhookState is the State of the webhook.
type webhookState struct{ w *world }

func (s webhookState) View(o *corev1.Service) (interception.View, error) {
	if s.w.outdated != nil {
		return *s.w.outdated, nil
	}
	return s.w.state().View(o)
}

func (w *world) admit(ctx context.Context, o *corev1.Service, old []byte) {
	raw, err := json.Marshal(o)
	require.NoError(w.t, err)
	admitted, err := webhook.NewServices(webhookState{w}, nil).Admit(ctx, raw, old) //nolint:staticcheck // webhooktest has no call for Services
	require.NoError(w.t, err)
	*o = corev1.Service{}
	require.NoError(w.t, json.Unmarshal(admitted.Object, o))
}

// reconcile reconciles the Service once.
func (w *world) reconcile() (reconcile.Result, error) {
	w.t.Helper()
	w.controller.registration.forget()
	return w.controller.Reconcile(w.t.Context(), httpbin)
}

// reasons returns the reasons of the Events so far, and forgets them.
func (w *world) reasons() (found []string) {
	for {
		select {
		case e := <-w.events.Events:
			found = append(found, strings.Fields(e)[1])
		default:
			return found
		}
	}
}

// fakeObjects are the objects of the world.
type fakeObjects struct{ w *world }

func key(of schema.GroupVersionResource, namespace, name string) string {
	return of.Resource + " " + namespace + "/" + name
}

func (f fakeObjects) Get(_ context.Context, of schema.GroupVersionResource, name Name) (*unstructured.Unstructured, error) {
	if o := f.w.objects[key(of, name.Namespace, name.Name)]; o != nil {
		return o.DeepCopy(), nil
	}
	return nil, nil
}

func (f fakeObjects) List(_ context.Context, of schema.GroupVersionResource, labels string) (found []unstructured.Unstructured, err error) {
	for k, o := range f.w.objects {
		if strings.HasPrefix(k, of.Resource+" ") && strings.HasSuffix(labels, wellknown.SourceLabel+"="+o.GetLabels()[wellknown.SourceLabel]) {
			found = append(found, *o)
		}
	}
	return found, nil
}

func (f fakeObjects) Apply(_ context.Context, of schema.GroupVersionResource, o *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	o = o.DeepCopy()
	k := key(of, o.GetNamespace(), o.GetName())
	o.SetUID("uid of " + "x")
	f.w.objects[k] = o
	f.w.managers[k] = append(f.w.managers[k], manager)
	if of == services {
		var s corev1.Service
		require.NoError(f.w.t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s))
		require.NoError(f.w.t, f.w.index.Upsert(&s))
	}
	return o, nil
}

func (f fakeObjects) Delete(_ context.Context, of schema.GroupVersionResource, o *unstructured.Unstructured) error {
	delete(f.w.objects, key(of, o.GetNamespace(), o.GetName()))
	if of == services {
		f.w.index.Delete(dataplane.KindService, o.GetNamespace(), o.GetName())
	}
	return nil
}
