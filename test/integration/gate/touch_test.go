package gate

import (
	"context"
	"encoding/json"
	"iter"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/controller/mirrors"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// fakeIndex has one route and keeps it unchanged, whatever happens to the stored route.
type fakeIndex struct{ doc *route.Route }

func (f fakeIndex) Route(route.Key) *route.Route { return f.doc }

func (f fakeIndex) Keys() iter.Seq[route.Key] {
	return func(yield func(route.Key) bool) { yield(f.doc.Key) }
}

func (f fakeIndex) Snapshot(doc *route.Route) policy.Snapshot {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}}
	for _, m := range doc.Every {
		snap.Variants[m.Target] = policy.Variant{State: policy.Absent, Reason: policy.ServiceNotFound}
	}
	return snap
}

// TestTouchOfARouteThatIsGoneDoesNothing reads a route, deletes or recreates it, and then touches the version
// that was read.
func TestTouchOfARouteThatIsGoneDoesNothing(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	apply(t, ns, routesOfEveryKind())
	config := env.Config(t)
	toucher, err := mirrors.NewToucher(config)
	require.NoError(t, err)

	// reconcile runs a controller on the version that was read, and returns the result label under which its
	// touch was counted.
	reconcileOnce := func(t *testing.T, doc *route.Route) (counted map[string]float64) {
		t.Helper()
		reg := prometheus.NewRegistry()
		recorder := events.NewFakeRecorder(10)
		c := mirrors.New(fakeIndex{doc}, toucher, everywhere{}, recorder, mirrors.Options{Metrics: mirrors.NewMetrics(reg)})
		result, err := c.Reconcile(t.Context(), doc.Key)
		require.NoError(t, err, "a route that is gone is no error")
		require.Equal(t, reconcile.Result{}, result, "and is not retried")
		require.Empty(t, recorder.Events)
		counted = map[string]float64{}
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				if m.GetCounter().GetValue() > 0 {
					counted[m.Label[0].GetValue()] = m.Counter.GetValue()
				}
			}
		}
		return counted
	}
	for _, r := range everyKind[:3] {
		t.Run(r.kind, func(t *testing.T) {
			u := get(t, ns, r)
			manifest := u.DeepCopy()
			manifest.SetManagedFields(nil)
			manifest.SetResourceVersion("")
			manifest.SetAnnotations(nil)
			raw, err := json.Marshal(object(t, map[string]string{
				"HTTPRoute": gatewayRoute(httpRoute, "httpbin-v2", ""), "GRPCRoute": gatewayRoute(grpcRoute, "httpbin-v2", ""),
				"VirtualService": virtualService("vs", "httpbin-v2", ""),
			}[r.kind]))
			require.NoError(t, err)
			doc, err := route.Decode(raw, route.Options{Namespace: ns})
			require.NoError(t, err)
			doc.UID = string(u.GetUID())

			require.NoError(t, env.Client(t).Delete(t.Context(), u))
			_, err = toucher.Touch(t.Context(), doc, "httpbin-v2=Ready")
			require.True(t, apierrors.IsNotFound(err), "%v", err)
			require.Nil(t, get(t, ns, r), "a touch does not recreate the route")
			require.Equal(t, map[string]float64{"gone": 1}, reconcileOnce(t, doc))
			require.Nil(t, get(t, ns, r))

			manifest.SetUID("")
			require.NoError(t, env.Client(t).Create(t.Context(), manifest))
			before := get(t, ns, r)
			require.NotEqual(t, u.GetUID(), before.GetUID())
			_, err = toucher.Touch(t.Context(), doc, "httpbin-v2=Ready")
			require.Error(t, err)
			t.Logf("another uid: %v", err)
			require.Equal(t, map[string]float64{"gone": 1}, reconcileOnce(t, doc))
			require.Equal(t, before, get(t, ns, r), "the new route of the same name is unchanged")

			// With its own uid it can be touched, and only the annotation changes.
			doc.UID = string(before.GetUID())
			_, err = toucher.Touch(t.Context(), doc, "httpbin-v2=Ready")
			require.NoError(t, err)
			require.Equal(t, "httpbin-v2=Ready", get(t, ns, r).GetAnnotations()[route.VariantsAnnotation])
		})
	}
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
}

// everywhere is a cluster in which no namespace has opted out.
type everywhere struct{}

func (everywhere) Gated(context.Context, string) (bool, error) { return true, nil }
