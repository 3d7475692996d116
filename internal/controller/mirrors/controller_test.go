package mirrors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
	"github.com/mirrorgate/mirrorgate/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const web = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop, uid: "1"}
spec:
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 25}}
    backendRefs: [{name: v1, port: 80}]
`

var webKey = route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: "web"}

// fakeCluster is a cluster with one route: the Index, the API server that stores a touch, and the webhook
// that answers it.
type fakeCluster struct {
	mu    sync.Mutex
	raw   []byte // nil when there is no route
	state policy.State
	// webhookDown is set while the webhook does not answer.
	webhookDown bool
	// refusals are the errors with which the API server answers the first touches.
	refusals []error
	touches  int
	recheck  time.Duration
}

func newFakeCluster(t *testing.T, manifest string) *fakeCluster {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(manifest))
	require.NoError(t, err)
	return &fakeCluster{raw: raw, state: policy.Absent}
}

func (f *fakeCluster) Route(key route.Key) *route.Route {
	f.mu.Lock()
	defer f.mu.Unlock()
	rt, err := route.Decode(f.raw, route.Options{})
	if err != nil || rt.Key != key {
		return nil
	}
	return rt
}

func (f *fakeCluster) Keys() iter.Seq[route.Key] {
	return func(yield func(route.Key) bool) {
		if rt := f.Route(webKey); rt != nil {
			yield(rt.Key)
		}
	}
}

func (f *fakeCluster) Snapshot(rt *route.Route) policy.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshot(rt)
}

func (f *fakeCluster) snapshot(rt *route.Route) policy.Snapshot {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}, Recheck: f.recheck}
	for _, m := range rt.Every {
		v := policy.Variant{State: f.state, Exists: true, Ports: []policy.Port{{Number: 80}}}
		if f.state != policy.Ready {
			v.Reason, v.Detail = policy.ScaledToZero, `Deployment "v2" is scaled to 0`
		}
		snap.Variants[m.Target] = v
	}
	return snap
}

// Touch stores a touch, and lets the webhook move the mirrors unless it is down.
func (f *fakeCluster) Touch(_ context.Context, rt *route.Route, variants string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touches++
	if len(f.refusals) > 0 {
		err := f.refusals[0]
		f.refusals = f.refusals[1:]
		return nil, err
	}
	if f.webhookDown {
		return f.raw, nil
	}
	d, err := policy.Decide(rt, f.snapshot(rt), policy.Config{})
	if err != nil {
		return nil, err
	}
	if variants != policy.VariantsValue(rt, f.snapshot(rt), d) {
		return nil, fmt.Errorf("touched with %q", variants)
	}
	f.raw, err = patch.Apply(f.raw, d.Plan.Operations)
	return f.raw, err
}

func (f *fakeCluster) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeCluster) touched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.touches
}

// fakeNamespaces gives the same answer for every namespace.
type fakeNamespaces struct {
	gated bool
	err   error
}

func (f fakeNamespaces) Gated(context.Context, string) (bool, error) { return f.gated, f.err }

// scene is a controller over a fakeCluster, with the Events that it writes.
type scene struct {
	*Controller
	cluster  *fakeCluster
	recorder *events.FakeRecorder
}

func newScene(t *testing.T, namespaces Namespaces, opts Options) *scene {
	t.Helper()
	s := &scene{cluster: newFakeCluster(t, web), recorder: events.NewFakeRecorder(100)}
	opts.Metrics, opts.Log = NewMetrics(prometheus.NewRegistry()), testr.New(t)
	s.Controller = New(s.cluster, s.cluster, namespaces, s.recorder, opts)
	return s
}

// events returns the Events so far, and forgets them.
func (s *scene) events() []string {
	var out []string
	for {
		select {
		case e := <-s.recorder.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func (s *scene) counted(result string) float64 {
	return testutil.ToFloat64(s.opts.Metrics.touches.WithLabelValues(result))
}

// durations returns the number of measured flips, all of one kind and action, and the sum of their durations.
func (s *scene) durations(t *testing.T) (flips uint64, together float64, labels string) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.opts.Metrics.latency)
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	require.Len(t, families[0].Metric, 1)
	have := families[0].Metric[0]
	for _, label := range have.Label {
		labels += label.GetName() + "=" + label.GetValue() + " "
	}
	return have.Histogram.GetSampleCount(), have.Histogram.GetSampleSum(), labels
}

func (s *scene) parked(t *testing.T) bool {
	t.Helper()
	rt := s.cluster.Route(webKey)
	require.Len(t, rt.Rules[0].Mirrors, 1)
	return rt.Rules[0].Mirrors[0].Parked
}

func TestFlipsThereAndBack(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	s.pending.notice(webKey)
	_, err := s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	require.True(t, s.parked(t))
	require.Equal(t, []string{
		`Normal MirrorParked mirror to v2:80 is parked: ScaledToZero: Deployment "v2" is scaled to 0 (spec.rules[0].filters[0].requestMirror).` +
			` It comes back by itself once that has changed; more: mirrorgate explain ScaledToZero`,
	}, s.events())

	_, err = s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	require.Equal(t, 1, s.cluster.touched(), "a route that is as decided is not touched")

	s.cluster.set(func() { s.cluster.state = policy.Ready })
	s.pending.notice(webKey)
	_, err = s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	require.False(t, s.parked(t))
	require.Equal(t, []string{`Normal MirrorRestored mirror to v2:80 is back: VariantReady (spec.rules[0].filters[0].requestMirror)`}, s.events())
	require.InDelta(t, 2, s.counted("flipped"), 0)
	require.Empty(t, s.pending.routes)
}

// A mirror that was parked in its author's own write has an Event with the reason, once, and none after the
// controller's own flip or without an event of the route.
func TestAMirrorThatWasParkedInTheWriteHasAnEvent(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	_, err := s.cluster.Touch(t.Context(), s.cluster.Route(webKey), "v2=Absent") // admission parks it, as in the author's write
	require.NoError(t, err)
	require.True(t, s.parked(t))
	reconcile := func(event bool) []string {
		if event {
			s.pending.notice(webKey)
		}
		_, err := s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		return s.events()
	}
	want := []string{`Normal MirrorParked mirror to v2:80 is parked: ScaledToZero: Deployment "v2" is scaled to 0 (spec.rules[0].filters[0].requestMirror).` +
		` It comes back by itself once that has changed; more: mirrorgate explain ScaledToZero`}
	require.Equal(t, want, reconcile(true))
	require.Empty(t, reconcile(true), "once")

	s.cluster.set(func() { s.cluster.state = policy.Ready })
	require.Len(t, reconcile(true), 1, "restored")
	s.cluster.set(func() { s.cluster.state = policy.Absent })
	require.Equal(t, want, reconcile(true), "by a flip")
	require.Empty(t, reconcile(true), "which is not reported again")

	s.Controller.parked.Clear() // as a new leader does
	require.Empty(t, reconcile(false), "it lists the route")
	require.Empty(t, reconcile(true), "and does not repeat what was reported before it led")
}

// It does so whether it touched the route or not, since another mirror of the route may be in its grace.
func TestRouteIsReconciledAgainAfterTheGrace(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	s.cluster.recheck = 3 * time.Second
	for range 2 {
		result, err := s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		require.Equal(t, reconcile.Result{RequeueAfter: 3 * time.Second}, result)
	}
	require.Equal(t, 1, s.cluster.touched())
}

func TestLatencyIsMeasuredFromTheFirstEventToTheStoredFlip(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	s.cluster.webhookDown = true
	s.pending.notice(webKey)
	s.pending.routes[webKey].since = time.Now().Add(-20 * time.Second)
	_, err := s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	s.pending.notice(webKey) // a second event must not restart the clock
	s.cluster.webhookDown = false
	_, err = s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)

	flips, took, labels := s.durations(t)
	require.Equal(t, uint64(1), flips)
	require.Greater(t, took, 20.0)
	require.Equal(t, "action=park kind=HTTPRoute ", labels)
}

func TestFlipAfterAGraceIsMeasuredFromItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, fakeNamespaces{gated: true}, Options{})
		s.cluster.state, s.cluster.recheck = policy.Ready, 10*time.Second
		s.pending.notice(webKey)
		result, err := s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		<-time.After(result.RequeueAfter + 2*time.Second)
		s.cluster.state, s.cluster.recheck = policy.Absent, 0
		_, err = s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		_, took, _ := s.durations(t)
		require.InDelta(t, 2.0, took, 1e-9)

		// A variant that is deleted in its grace flips at once, and one that is ready again does not flip.
		s.cluster.state, s.cluster.recheck = policy.Ready, 10*time.Second
		_, err = s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		_, err = s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		<-time.After(time.Second)
		s.pending.notice(webKey)
		<-time.After(3 * time.Second)
		s.cluster.state, s.cluster.recheck = policy.Absent, 0
		_, err = s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		_, took, _ = s.durations(t)
		require.InDelta(t, 5.0, took, 1e-9)
		require.Empty(t, s.pending.routes)

		s.cluster.state, s.cluster.recheck = policy.Absent, 10*time.Second
		_, err = s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		s.cluster.recheck = 0
		_, err = s.Reconcile(t.Context(), webKey)
		require.NoError(t, err)
		require.Empty(t, s.pending.routes)
	})
}

func TestTouchThatAdmissionIgnoresIsRetriedEverLaterAndReportedAtTheFifth(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	s.cluster.webhookDown = true
	for n := 1; n <= 14; n++ {
		result, err := s.Reconcile(t.Context(), webKey)
		require.NoError(t, err, "a cache that lags behind is no error")
		require.Equal(t, reconcile.Result{RequeueAfter: min(25*time.Millisecond<<n, 30*time.Second)}, result)
		if n == 5 {
			require.Equal(t, []string{
				"Warning FlipDelayed mirrors wait to be moved (ScaledToZero): is the mutating webhook reachable?",
			}, s.events())
		}
		require.Empty(t, s.events(), "attempt %d", n)
	}
	require.InDelta(t, 14, s.counted("not_carried"), 0)

	s.cluster.webhookDown = false
	_, err := s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	require.True(t, s.parked(t))
	require.Len(t, s.events(), 1)
	require.Empty(t, s.pending.routes, "the next flip counts its attempts from 0")
}

func TestConflictIsRetried(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	conflict := apierrors.NewConflict(schema.GroupResource{Group: route.GatewayGroup, Resource: "httproutes"}, "web", errors.New("modified"))
	s.cluster.refusals = []error{conflict, conflict}
	for range 2 {
		_, err := s.Reconcile(t.Context(), webKey)
		require.ErrorIs(t, err, conflict)
	}
	_, err := s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	require.True(t, s.parked(t))
	require.InDelta(t, 2, s.counted("conflict"), 0)
}

func invalid(fields ...string) error {
	var errs field.ErrorList
	for _, f := range fields {
		errs = append(errs, field.Invalid(field.NewPath(f), strings.Repeat("x", 800), "no"))
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: route.GatewayGroup, Kind: "HTTPRoute"}, "web", errs)
}

func TestRefusedTouchEndsInAnEventAndASlowRetry(t *testing.T) {
	for name, err := range map[string]error{
		"422": invalid("spec.rules[0]", "spec.rules[1]"),
		"403": apierrors.NewForbidden(schema.GroupResource{Resource: "httproutes"}, "web", errors.New("a policy says no")),
		"400": apierrors.NewBadRequest("admission webhook of others denied the request"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, fakeNamespaces{gated: true}, Options{})
			s.cluster.refusals = []error{err}
			result, err := s.Reconcile(t.Context(), webKey)
			require.NoError(t, err)
			require.Equal(t, reconcile.Result{RequeueAfter: time.Minute}, result)
			events := s.events()
			require.Len(t, events, 1)
			note, ok := strings.CutPrefix(events[0], "Warning FlipRefused ")
			require.True(t, ok, events[0])
			require.True(t, strings.HasPrefix(note, "mirrors cannot be moved: "))
			require.LessOrEqual(t, len(note), 1024, "the API server drops an Event with a longer note")
			require.InDelta(t, 1, s.counted("refused"), 0)
		})
	}
}

func TestDeletedRouteIsForgotten(t *testing.T) {
	resource := schema.GroupResource{Group: route.GatewayGroup, Resource: "httproutes"}
	for name, err := range map[string]error{
		"404":            apierrors.NewNotFound(resource, "web"),
		"422 on the uid": invalid("metadata.uid"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, fakeNamespaces{gated: true}, Options{})
			s.pending.notice(webKey)
			s.cluster.refusals = []error{err}
			result, err := s.Reconcile(t.Context(), webKey)
			require.NoError(t, err)
			require.Zero(t, result)
			require.Empty(t, s.events())
			require.InDelta(t, 1, s.counted("gone"), 0)
			require.Empty(t, s.pending.routes)
		})
	}
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	s.pending.notice(webKey)
	s.cluster.raw = nil
	_, err := s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	require.Zero(t, s.cluster.touched())
	require.Empty(t, s.pending.routes)
	require.False(t, gone(invalid("metadata.annotations", "spec")), "any other 422 is a refusal")
	require.False(t, gone(apierrors.NewInternalError(errors.New("etcd"))))
}

func TestOtherErrorsAreRetried(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{})
	s.cluster.refusals = []error{errors.New("connection refused"), apierrors.NewTooManyRequests("later", 1)}
	for range 2 {
		_, err := s.Reconcile(t.Context(), webKey)
		require.Error(t, err)
	}
	require.InDelta(t, 2, s.counted("error"), 0)
	require.Empty(t, s.events())
}

func TestRoutesOfNamespacesThatOptedOutAreLeftAlone(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: false}, Options{})
	s.pending.notice(webKey)
	result, err := s.Reconcile(t.Context(), webKey)
	require.NoError(t, err, "no retry")
	require.Zero(t, result)
	require.Zero(t, s.cluster.touched())
	require.Empty(t, s.events())
	require.Empty(t, s.pending.routes)

	s = newScene(t, fakeNamespaces{err: errors.New("forbidden")}, Options{})
	_, err = s.Reconcile(t.Context(), webKey)
	require.NoError(t, err)
	require.True(t, s.parked(t), "without an answer the route is touched")
}

func TestNamespacesFollowTheSelectorOfTheWebhooks(t *testing.T) {
	selector, err := webhook.Namespaces()
	require.NoError(t, err)
	namespace := func(name string, labels map[string]string) *corev1.Namespace {
		all := map[string]string{"kubernetes.io/metadata.name": name}
		maps.Copy(all, labels)
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}}
	}
	namespaces := NewNamespaces(fake.NewClientset(
		namespace("shop", nil),
		namespace("enabled", map[string]string{"mirrorgate.dev/admission": "enabled"}),
		namespace("disabled", map[string]string{"mirrorgate.dev/admission": "disabled"}),
		namespace("kube-system", nil),
		namespace("mirrorgate-system", nil),
	).CoreV1(), selector)
	for name, want := range map[string]bool{
		"shop": true, "enabled": true, "disabled": false, "kube-system": false, "mirrorgate-system": false,
	} {
		gated, err := namespaces.Gated(t.Context(), name)
		require.NoError(t, err)
		assert.Equal(t, want, gated, name)
	}
	_, err = namespaces.Gated(t.Context(), "missing")
	require.True(t, apierrors.IsNotFound(err))
}

// running starts the controller without events, and ends it with the test.
func (s *scene) running(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Start(ctx)
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

func TestEveryRouteIsReconciledWithoutAnEvent(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{Resync: 50 * time.Millisecond})
	s.cluster.refusals = []error{apierrors.NewConflict(schema.GroupResource{}, "web", errors.New("modified"))}
	s.running(t)
	require.Eventually(t, func() bool { return s.parked(t) }, 10*time.Second, time.Millisecond, "at the start, in spite of a conflict")
	s.cluster.set(func() { s.cluster.state = policy.Ready })
	require.Eventually(t, func() bool { return !s.parked(t) }, 10*time.Second, time.Millisecond, "at a resync")
}

func TestRetriesSlowDownWhileTheWebhookIsDown(t *testing.T) {
	s := newScene(t, fakeNamespaces{gated: true}, Options{Resync: time.Hour})
	s.cluster.webhookDown = true
	s.running(t)
	// 50 ms, 100 ms, 200 ms and so on: five touches in 750 ms and the sixth at 1.55 s.
	require.Eventually(t, func() bool { return s.cluster.touched() >= 5 }, 10*time.Second, time.Millisecond)
	require.Never(t, func() bool { return s.cluster.touched() > 7 }, time.Second, 10*time.Millisecond)
	s.cluster.set(func() { s.cluster.webhookDown = false })
	require.Eventually(t, func() bool { return s.parked(t) }, 10*time.Second, time.Millisecond, "it resumes without an event")
}

func TestToucherWritesOneAnnotationOfTheObjectWithTheUID(t *testing.T) {
	type call struct{ method, path, query, contentType, body string }
	var calls []call
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		calls = append(calls, call{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Content-Type"), string(body)})
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"unknown": 1}`))
	}))
	defer server.Close()
	toucher, err := NewToucher(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	raw, err := toucher.Touch(t.Context(), newFakeCluster(t, web).Route(webKey), "v2=Ready")
	require.NoError(t, err)
	require.JSONEq(t, `{"unknown": 1}`, string(raw), "the stored object is returned unchanged")
	require.Equal(t, []call{{
		"PATCH", "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/web", "fieldManager=mirrorgate",
		"application/merge-patch+json", `{"metadata":{"annotations":{"mirrorgate.dev/variants":"v2=Ready"},"uid":"1"}}`,
	}}, calls)
}

func TestToucherKeepsTheCausesOfARefusal(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var status apierrors.APIStatus
		assert.ErrorAs(t, invalid("metadata.uid"), &status)
		body := status.Status()
		body.APIVersion, body.Kind = "v1", "Status"
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		assert.NoError(t, json.NewEncoder(w).Encode(body))
	}))
	defer server.Close()
	toucher, err := NewToucher(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	_, err = toucher.Touch(t.Context(), newFakeCluster(t, web).Route(webKey), "v2=Ready")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.True(t, gone(err), "%v", err)
	require.ErrorContains(t, err, "metadata.uid")
}
