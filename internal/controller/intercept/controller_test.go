package intercept

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

var (
	own      = map[string]string{"app": "httpbin"}
	primary  = map[string]string{"app": "httpbin", "version": "v1"}
	sentinel = map[string]string{"app": "mirrorgate-httpbin"}
)

// For every state of proxies, route, label, registration and webhook, the Service leads to the right pods and
// keeps leading there, and the tool that applies it stays the owner of its selector.
func TestWhereAServiceLeads(t *testing.T) {
	for _, from := range []string{"its own", "proxied", "bypassed"} {
		for _, pods := range []string{"none", "ready", "unready", "ending", "ready and unready"} {
			for _, without := range []string{"nothing", "route", "label", "registration"} {
				for _, hook := range []string{"up", "down"} {
					t.Run(fmt.Sprintf("%s, proxies %s, without %s, webhook %s", from, pods, without, hook), func(t *testing.T) {
						w := newWorld(t)
						w.feed(httpRoute)
						switch from {
						case "proxied":
							w.proxy("earlier", "ready")
							fallthrough
						case "bypassed":
							_, err := w.reconcile()
							require.NoError(t, err)
							w.proxy("earlier", "gone")
						}
						w.down = hook == "down"
						for i, state := range strings.Split(pods, " and ") {
							if state != "none" {
								w.proxy(fmt.Sprintf("p%d", i), state)
							}
						}
						want := primary
						if strings.HasPrefix(pods, "ready") {
							want = sentinel
						}
						switch without {
						case "route":
							w.index.Delete(dataplane.KindHTTPRoute, "shop", "route")
							want = own
						case "label":
							o := w.stored.DeepCopy()
							o.Labels[wellknown.Label] = "disabled"
							w.store(o)
							want = own
						case "registration":
							w.registered, w.down, want = false, true, own
						}
						_, err := w.reconcile()
						require.NoError(t, err)
						assert.Equal(t, want, w.stored.Spec.Selector)
						assert.Equal(t, maps.Equal(want, own), w.stored.Annotations[wellknown.SelectorAnnotation] == "")
						assert.Equal(t, "author", w.stored.ManagedFields[0].Manager)
						assert.Len(t, w.stored.ManagedFields, 1)
						assert.Equal(t, own, w.own())

						version, patches := w.stored.ResourceVersion, len(w.patches)
						_, err = w.reconcile()
						require.NoError(t, err)
						assert.Equal(t, version, w.stored.ResourceVersion, "the Service is not written again")
						assert.Len(t, w.patches, patches, "nor is it touched")
					})
				}
			}
		}
	}
}

func TestProxiesAreCreatedAndDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, err := w.reconcile()
		require.NoError(t, err)
		require.Empty(t, w.objects, "there is no route")
		w.feed(httpRoute)
		_, err = w.reconcile()
		require.NoError(t, err)
		require.Equal(t, []string{
			"deployments shop/httpbin-mirrorgate-proxy", "poddisruptionbudgets shop/httpbin-mirrorgate-proxy",
			"rolebindings shop/mirrorgate-proxy", "serviceaccounts shop/mirrorgate-proxy", "services shop/httpbin-mirrorgate-origin",
		}, slices.Sorted(maps.Keys(w.objects)))
		require.Equal(t, []string{"mirrorgate-proxy-httpbin"}, w.managers["serviceaccounts shop/mirrorgate-proxy"], "the namespace shares it")
		origin := w.objects["services shop/httpbin-mirrorgate-origin"]
		selector, _, _ := unstructured.NestedStringMap(origin.Object, "spec", "selector")
		require.Equal(t, own, selector)
		require.Equal(t, []string{"Bypassed"}, w.reasons())
		w.proxy("p", "ready")
		_, err = w.reconcile()
		require.NoError(t, err)
		require.Equal(t, []string{"Proxied"}, w.reasons())

		w.index.Delete(dataplane.KindHTTPRoute, "shop", "route")
		result, err := w.reconcile()
		require.NoError(t, err)
		require.Equal(t, own, w.stored.Spec.Selector)
		require.Equal(t, time.Minute, result.RequeueAfter, "clients may still reach the proxies")
		require.Len(t, w.objects, 5)
		time.Sleep(time.Minute) //nolint:forbidigo // in a bubble
		_, err = w.reconcile()
		require.NoError(t, err)
		require.NotContains(t, w.objects, "deployments shop/httpbin-mirrorgate-proxy")
		require.Contains(t, w.objects, "services shop/httpbin-mirrorgate-origin", "draining proxies need it")
		w.proxy("p", "gone")
		_, err = w.reconcile()
		require.NoError(t, err)
		require.NotContains(t, w.objects, "services shop/httpbin-mirrorgate-origin", "it is deleted after the last proxy")
		require.Equal(t, []string{"Released"}, w.reasons())
	})
}

func TestProxiesStayWhenTheRouteComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.feed(httpRoute)
		w.proxy("p", "ready")
		for range 3 {
			_, err := w.reconcile()
			require.NoError(t, err)
			require.Equal(t, sentinel, w.stored.Spec.Selector)
			w.index.Delete(dataplane.KindHTTPRoute, "shop", "route")
			result, err := w.reconcile()
			require.NoError(t, err)
			require.Equal(t, time.Minute, result.RequeueAfter, "the time starts anew")
			time.Sleep(50 * time.Second) //nolint:forbidigo // in a bubble
			w.feed(httpRoute)
		}
		require.Contains(t, w.objects, "deployments shop/httpbin-mirrorgate-proxy")
	})
}

// An object of somebody else under a name that mirrorgate needs is left alone, and reported.
func TestForeignObjectsAreLeftAlone(t *testing.T) {
	for _, k := range []string{
		"services shop/httpbin-mirrorgate-origin", "serviceaccounts shop/mirrorgate-proxy", "rolebindings shop/mirrorgate-proxy",
		"deployments shop/httpbin-mirrorgate-proxy", "poddisruptionbudgets shop/httpbin-mirrorgate-proxy",
	} {
		for name, labels := range map[string]map[string]string{
			"no labels":    nil,
			"another tool": {wellknown.ManagedByLabel: "Helm"},
			"of another":   {wellknown.ManagedByLabel: wellknown.ManagedBy, wellknown.ParentLabel: "other"},
		} {
			if name == "of another" && strings.HasSuffix(k, "/mirrorgate-proxy") {
				continue // the Services of a namespace share these
			}
			t.Run(k+" "+name, func(t *testing.T) {
				w := newWorld(t)
				w.feed(httpRoute)
				theirs := &unstructured.Unstructured{Object: map[string]any{"kind": "X"}}
				theirs.SetLabels(labels)
				w.objects[k] = theirs
				result, err := w.reconcile()
				require.NoError(t, err)
				require.Equal(t, loop.SlowRetry, result.RequeueAfter)
				require.Equal(t, theirs, w.objects[k])
				require.Contains(t, w.reasons(), "NameTaken")
				require.Equal(t, primary, w.stored.Spec.Selector, "the route is served all the same")
				w.index.Delete(dataplane.KindHTTPRoute, "shop", "route")
				w.controller.opts.Linger = time.Nanosecond
				_, err = w.reconcile()
				require.NoError(t, err)
				require.Equal(t, theirs, w.objects[k], "the object is not deleted either")
			})
		}
	}
}

func TestRefusedServiceIsReportedOnce(t *testing.T) {
	w := newWorld(t)
	o := w.stored.DeepCopy()
	o.Spec.PublishNotReadyAddresses = true
	w.store(o)
	w.feed(httpRoute)
	for range 3 {
		_, err := w.reconcile()
		require.NoError(t, err)
	}
	require.Equal(t, []string{"ProxyRefused"}, w.reasons())
	require.Empty(t, w.objects)
}

func TestLostSelectorIsLeftAloneAndReported(t *testing.T) {
	w := newWorld(t)
	o := w.stored.DeepCopy()
	o.Spec.Selector = sentinel
	w.store(o)
	w.feed(httpRoute)
	for range 2 {
		_, err := w.reconcile()
		require.NoError(t, err)
	}
	require.Equal(t, []string{"SelectorLost"}, w.reasons())
	require.Equal(t, sentinel, w.stored.Spec.Selector)
	require.Empty(t, w.patches)
}

// The webhook of a replica whose cache lags behind replaces the controller's write. The controller tries
// again, and owns no field in between.
func TestWebhookWithAnOldCacheIsOverruled(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.proxy("p", "ready")
	_, err := w.reconcile()
	require.NoError(t, err)
	before := w.index.View(w.stored)
	w.outdated = &before
	w.proxy("p", "unready")
	_, err = w.reconcile()
	require.ErrorIs(t, err, errNotCarried)
	require.Equal(t, sentinel, w.stored.Spec.Selector)
	require.Equal(t, "author", w.stored.ManagedFields[0].Manager)
	w.outdated = nil
	_, err = w.reconcile()
	require.NoError(t, err)
	require.Equal(t, primary, w.stored.Spec.Selector)
}

// Somebody changes or replaces the Service between read and write: their change is kept.
func TestConcurrentWritesAreKept(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.down = true
	edited := func() {
		o := w.stored.DeepCopy()
		o.Spec.Selector = map[string]string{"app": "edited"}
		w.store(o)
	}
	w.before = edited
	_, err := w.reconcile()
	require.NoError(t, err, "a change before the touch is seen")
	require.Equal(t, map[string]string{"app": "edited"}, w.own())

	o := w.stored.DeepCopy()
	o.UID = "another"
	w.before = func() { w.store(o) }
	w.proxy("p", "ready")
	_, err = w.reconcile()
	require.Error(t, err)
	require.True(t, apierrors.IsConflict(err))
	w.refuse = apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "httpbin", nil)
	result, err := w.reconcile()
	require.NoError(t, err)
	require.Equal(t, loop.SlowRetry, result.RequeueAfter)
	require.Contains(t, w.reasons(), "ProxyFailed")
}

func TestOwnershipIsGivenUpAfterACrash(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	o := w.stored.DeepCopy()
	claimed := o.ManagedFields[0]
	claimed.Manager, claimed.FieldsV1 = wellknown.FieldManager, fields()
	o.ManagedFields = append(o.ManagedFields, claimed)
	w.store(o)
	_, err := w.reconcile()
	require.NoError(t, err)
	require.Len(t, w.stored.ManagedFields, 1)
	require.Equal(t, "author", w.stored.ManagedFields[0].Manager)
}

// Proxies stay while the API server does not answer.
func TestUnknownRegistrationKeepsTheLastAnswer(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.proxy("p", "ready")
	_, err := w.reconcile()
	require.NoError(t, err)
	w.registeredErr = errors.New("timeout")
	_, err = w.reconcile()
	require.ErrorContains(t, err, "timeout", "a new leader waits for the first answer")
	require.Equal(t, sentinel, w.stored.Spec.Selector)
	w.controller.registration.last.Store(&answer{true, time.Now().Add(-time.Hour)})
	_, err = w.controller.Reconcile(t.Context(), httpbin)
	require.NoError(t, err, "the last answer holds")
	require.Equal(t, sentinel, w.stored.Spec.Selector)
}

func TestGrantsFollowRoutes(t *testing.T) {
	w := newWorld(t)
	w.feed(strings.Replace(httpRoute, "backendRefs: [", "backendRefs: [{name: far, namespace: far, port: 80}, ", 1))
	bindings := func() []string {
		_, err := w.reconcile()
		require.NoError(t, err)
		return slices.DeleteFunc(slices.Sorted(maps.Keys(w.objects)), func(k string) bool { return !strings.HasPrefix(k, "rolebindings far/") })
	}
	require.Empty(t, bindings(), "no ReferenceGrant allows it")
	w.feed(`
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: far}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service}]}
`)
	require.Equal(t, []string{"rolebindings far/mirrorgate-proxy-shop"}, bindings())
	subject, _, _ := unstructured.NestedSlice(w.objects["rolebindings far/mirrorgate-proxy-shop"].Object, "subjects")
	require.Equal(t, []any{map[string]any{"kind": "ServiceAccount", "name": "mirrorgate-proxy", "namespace": "shop"}}, subject)
	w.index.Delete(dataplane.KindReferenceGrant, "far", "g")
	require.Empty(t, bindings())
}

func TestAnnotationsOfAServiceConfigureItsProxies(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	note := func(annotations map[string]string) *unstructured.Unstructured {
		o := w.stored.DeepCopy()
		o.Annotations = annotations
		w.store(o)
		_, err := w.reconcile()
		require.NoError(t, err)
		return w.objects["deployments shop/httpbin-mirrorgate-proxy"]
	}
	replicas := func(d *unstructured.Unstructured) int64 {
		n, _, err := unstructured.NestedInt64(d.Object, "spec", "replicas")
		require.NoError(t, err)
		return n
	}
	d := note(map[string]string{objects.ReplicasAnnotation: "3", objects.MaxReplicasAnnotation: "9"})
	require.Equal(t, int64(3), replicas(d))
	require.Contains(t, w.objects, "horizontalpodautoscalers shop/httpbin-mirrorgate-proxy")
	require.NoError(t, unstructured.SetNestedField(d.Object, int64(7), "spec", "replicas"))
	require.Equal(t, int64(7), replicas(note(w.stored.Annotations)), "the number that the autoscaler set")
	w.reasons()
	d = note(map[string]string{objects.ReplicasAnnotation: "many", objects.ResourcesAnnotation: `{"limit":{}}`})
	require.Equal(t, int64(2), replicas(d))
	require.NotContains(t, w.objects, "horizontalpodautoscalers shop/httpbin-mirrorgate-proxy")
	require.Contains(t, w.reasons(), "ProxyConfigInvalid")
}

// Where proxies report to stands in the origin, so that another CA rolls none of them out.
func TestTheOriginSaysWhereToReport(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.report = wellknown.ReportTarget{Address: "mirrorgate.mirrorgate-system.svc:9444", CA: "one"}
	_, err := w.reconcile()
	require.NoError(t, err)
	deployment := w.objects["deployments shop/httpbin-mirrorgate-proxy"].DeepCopy()
	w.report.CA = "two"
	_, err = w.reconcile()
	require.NoError(t, err)
	require.Equal(t, deployment.Object["spec"], w.objects["deployments shop/httpbin-mirrorgate-proxy"].Object["spec"])
	origin := w.objects["services shop/httpbin-mirrorgate-origin"]
	require.JSONEq(t, `{"address": "mirrorgate.mirrorgate-system.svc:9444", "ca": "two"}`, origin.GetAnnotations()[wellknown.ReportAnnotation])
}

// Every Service is reconciled when proxies have to report elsewhere.
func TestAnotherCAIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, changes atomic.Int32
		r := registration{
			registered: func(context.Context) (bool, error) { asked.Add(1); return true, nil },
			// The second answer of the API server comes with another CA.
			report: func() wellknown.ReportTarget {
				return wellknown.ReportTarget{Address: "a:1", CA: strconv.FormatBool(asked.Load() > 1)}
			},
			log: testr.New(t),
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.watch(ctx, func() { changes.Add(1) })
		synctest.Wait()
		require.EqualValues(t, 1, changes.Load())
		time.Sleep(registeredPoll) //nolint:forbidigo // in a bubble
		synctest.Wait()
		require.EqualValues(t, 2, changes.Load())
		time.Sleep(registeredPoll) //nolint:forbidigo // in a bubble
		synctest.Wait()
		require.EqualValues(t, 2, changes.Load())
	})
}

func TestDeletedServiceGetsNoObjects(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.stored = nil
	w.index.Delete(dataplane.KindService, "shop", "httpbin")
	result, err := w.reconcile()
	require.NoError(t, err)
	require.Zero(t, result)
	require.Empty(t, w.objects)
}
