package intercept

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// For every state of proxies, route, label, registration and webhook: where the Service leads, that it
// stays there, and that whoever applies it stays the owner of its selector.
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
						assert.Equal(t, version, w.stored.ResourceVersion, "it stays there")
						assert.Len(t, w.patches, patches, "and is not even touched")
					})
				}
			}
		}
	}
}

func TestProxiesAreMadeAndTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, err := w.reconcile()
		require.NoError(t, err)
		require.Empty(t, w.objects, "no route")
		w.feed(httpRoute)
		_, err = w.reconcile()
		require.NoError(t, err)
		require.Equal(t, []string{
			"deployments shop/httpbin-mirrorgate-proxy", "poddisruptionbudgets shop/httpbin-mirrorgate-proxy",
			"rolebindings shop/mirrorgate-proxy", "serviceaccounts shop/mirrorgate-proxy", "services shop/httpbin-mirrorgate-origin",
		}, slices.Sorted(maps.Keys(w.objects)))
		require.Equal(t, []string{"mirrorgate-proxy-httpbin"}, w.managers["serviceaccounts shop/mirrorgate-proxy"], "shared by the namespace")
		origin := w.objects["services shop/httpbin-mirrorgate-origin"]
		selector, _, _ := unstructured.NestedStringMap(origin.Object, "spec", "selector")
		require.Equal(t, own, selector)
		require.Equal(t, []string{"Bypassed"}, w.told())
		w.proxy("p", "ready")
		_, err = w.reconcile()
		require.NoError(t, err)
		require.Equal(t, []string{"Proxied"}, w.told())

		w.index.Delete(dataplane.KindHTTPRoute, "shop", "route")
		result, err := w.reconcile()
		require.NoError(t, err)
		require.Equal(t, own, w.stored.Spec.Selector)
		require.Equal(t, time.Minute, result.RequeueAfter, "clients may still come")
		require.Len(t, w.objects, 5)
		time.Sleep(time.Minute) //nolint:forbidigo // in a bubble
		_, err = w.reconcile()
		require.NoError(t, err)
		require.NotContains(t, w.objects, "deployments shop/httpbin-mirrorgate-proxy")
		require.Contains(t, w.objects, "services shop/httpbin-mirrorgate-origin", "proxies that drain need it")
		w.proxy("p", "gone")
		_, err = w.reconcile()
		require.NoError(t, err)
		require.NotContains(t, w.objects, "services shop/httpbin-mirrorgate-origin", "and the rest goes with it")
		require.Equal(t, []string{"Released"}, w.told())
	})
}

func TestWantedAgainWhileProxiesWait(t *testing.T) {
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
			require.Equal(t, time.Minute, result.RequeueAfter, "from the start")
			time.Sleep(50 * time.Second) //nolint:forbidigo // in a bubble
			w.feed(httpRoute)
		}
		require.Contains(t, w.objects, "deployments shop/httpbin-mirrorgate-proxy")
	})
}

// What somebody else has under a name of ours is left alone, and told.
func TestForeignObjectsAreNeverTaken(t *testing.T) {
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
				continue // these are the namespace's
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
				require.Contains(t, w.told(), "NameTaken")
				require.Equal(t, primary, w.stored.Spec.Selector, "the route is kept all the same")
				w.index.Delete(dataplane.KindHTTPRoute, "shop", "route")
				w.controller.opts.Linger = time.Nanosecond
				_, err = w.reconcile()
				require.NoError(t, err)
				require.Equal(t, theirs, w.objects[k], "nor is it deleted")
			})
		}
	}
}

func TestRefusedServiceIsToldOnce(t *testing.T) {
	w := newWorld(t)
	o := w.stored.DeepCopy()
	o.Spec.PublishNotReadyAddresses = true
	w.store(o)
	w.feed(httpRoute)
	for range 3 {
		_, err := w.reconcile()
		require.NoError(t, err)
	}
	require.Equal(t, []string{"ProxyRefused"}, w.told())
	require.Empty(t, w.objects)
}

func TestLostSelectorIsLeftAndTold(t *testing.T) {
	w := newWorld(t)
	o := w.stored.DeepCopy()
	o.Spec.Selector = sentinel
	w.store(o)
	w.feed(httpRoute)
	for range 2 {
		_, err := w.reconcile()
		require.NoError(t, err)
	}
	require.Equal(t, []string{"SelectorLost"}, w.told())
	require.Equal(t, sentinel, w.stored.Spec.Selector)
	require.Empty(t, w.patches)
}

// A replica's webhook that is behind makes of our write what it thinks; the controller tries again, and
// owns nothing in between.
func TestWebhookThatIsBehind(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.proxy("p", "ready")
	_, err := w.reconcile()
	require.NoError(t, err)
	before := w.index.View(w.stored)
	w.behind = &before
	w.proxy("p", "unready")
	_, err = w.reconcile()
	require.ErrorIs(t, err, errNotCarried)
	require.Equal(t, sentinel, w.stored.Spec.Selector)
	require.Equal(t, "author", w.stored.ManagedFields[0].Manager)
	w.behind = nil
	_, err = w.reconcile()
	require.NoError(t, err)
	require.Equal(t, primary, w.stored.Spec.Selector)
}

// Somebody writes the Service in the middle, or it is another one by now: nothing of theirs is lost.
func TestWritesInTheMiddle(t *testing.T) {
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
	require.NoError(t, err, "before the touch: it is seen")
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
	require.Contains(t, w.told(), "ProxyFailed")
}

func TestCrashBetweenWriteAndGivingBack(t *testing.T) {
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

// An API server that does not answer is no reason to take proxies away.
func TestNobodyKnowsWhetherTheWebhookIsRegistered(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.proxy("p", "ready")
	_, err := w.reconcile()
	require.NoError(t, err)
	w.silent = errors.New("timeout")
	_, err = w.reconcile()
	require.ErrorContains(t, err, "timeout", "a new leader waits")
	require.Equal(t, sentinel, w.stored.Spec.Selector)
	w.controller.registration.checked = time.Now().Add(-time.Hour)
	_, err = w.controller.Reconcile(t.Context(), httpbin)
	require.NoError(t, err, "the last answer holds")
	require.Equal(t, sentinel, w.stored.Spec.Selector)
}

func TestGrantsFollowRoutes(t *testing.T) {
	w := newWorld(t)
	w.feed(strings.Replace(httpRoute, "backendRefs: [", "backendRefs: [{name: far, namespace: far, port: 80}, ", 1))
	look := func() []string {
		_, err := w.reconcile()
		require.NoError(t, err)
		return slices.DeleteFunc(slices.Sorted(maps.Keys(w.objects)), func(k string) bool { return !strings.HasPrefix(k, "rolebindings far/") })
	}
	require.Empty(t, look(), "nothing is granted")
	w.feed(`
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: far}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service}]}
`)
	require.Equal(t, []string{"rolebindings far/mirrorgate-proxy-shop"}, look())
	subject, _, _ := unstructured.NestedSlice(w.objects["rolebindings far/mirrorgate-proxy-shop"].Object, "subjects")
	require.Equal(t, []any{map[string]any{"kind": "ServiceAccount", "name": "mirrorgate-proxy", "namespace": "shop"}}, subject)
	w.index.Delete(dataplane.KindReferenceGrant, "far", "g")
	require.Empty(t, look())
}

func TestAnnotationsOfAService(t *testing.T) {
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
	require.Equal(t, int64(7), replicas(note(w.stored.Annotations)), "as the scaler has it")
	w.told()
	d = note(map[string]string{objects.ReplicasAnnotation: "many", objects.ResourcesAnnotation: `{"limit":{}}`})
	require.Equal(t, int64(2), replicas(d))
	require.NotContains(t, w.objects, "horizontalpodautoscalers shop/httpbin-mirrorgate-proxy")
	require.Contains(t, w.told(), "ProxyConfigInvalid")
}

func TestServiceThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.feed(httpRoute)
	w.stored = nil
	w.index.Delete(dataplane.KindService, "shop", "httpbin")
	result, err := w.reconcile()
	require.NoError(t, err)
	require.Zero(t, result)
	require.Empty(t, w.objects)
}
