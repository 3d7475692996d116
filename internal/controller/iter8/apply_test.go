package iter8

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/fake"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

func TestOnlyRoutesOfTheDocumentAreApplied(t *testing.T) {
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
	const virtualService = `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web, namespace: shop}, spec: %s}`
	given := func(to string) *unstructured.Unstructured {
		u := object(t, mirrored)
		u.SetAnnotations(map[string]string{"mirrorgate.dev/iter8": to})
		return u
	}
	bare := object(t, mirrored)
	bare.SetManagedFields(forged.GetManagedFields())
	for name, c := range map[string]struct {
		live   *unstructured.Unstructured
		result string
		note   string
		// spec is that of the document's VirtualService, "" for the whole HTTPRoute; shared says that it is given to it.
		spec   string
		shared bool
	}{
		"no route":                                     {nil, "", "", "", false},
		"of the document":                              {ours("p-uid", "p"), "", "", "", false},
		"of an earlier ConfigMap of its name":          {ours("old-uid", "p"), "", "", "", false},
		"of another document":                          {ours("q-uid", "q"), "taken", `belongs to ConfigMap "q"`, "", false},
		"of a deleted document":                        {ours("gone", "gone"), "error", `"gone", which is gone`, "", false},
		"of its name, by another manager":              {forged, "taken", `belongs to ConfigMap "p"`, "", false},
		"of no document":                               {bare, "taken", "field managers: kubectl. To let this document set its rules, annotate it: kubectl -n shop annotate httproute web mirrorgate.dev/iter8=p. Or delete it", "", false},
		"of the document, being deleted":               {deleted, "error", "is being deleted", "", false},
		"of no document, for a template without hosts": {bare, "taken", "annotate virtualservice web mirrorgate.dev/iter8=p", `{http: [{}]}`, false},
		"given to the document":                        {given("p"), "", "", `{http: [{}]}`, true},
		"given to it, which sets no rules":             {given("p"), "refused", "must set spec.http", `{tls: [{}]}`, true},
		"given to it meanwhile":                        {given("p"), "error", "mirrorgate.dev/iter8", `{http: [{}]}`, false},
		"taken from it meanwhile":                      {bare, "error", "mirrorgate.dev/iter8", `{http: [{}]}`, true},
		"given to it, and deleted":                     {nil, "error", "is deleted", `{http: [{}]}`, true},
		"given to another document":                    {given("q"), "taken", `is given to ConfigMap "q"`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestState(t, fakeIndex{}, policy.Config{})
			s.documents["q-uid"] = &document{}
			text := mirrored
			if c.spec != "" {
				text = fmt.Sprintf(virtualService, c.spec)
			}
			d := desiredOf(t, text)
			d.shared = c.shared
			f := s.checkOwner(d, c.live)
			if c.result == "" {
				require.Nil(t, f)
				return
			}
			require.NotNil(t, f)
			assert.Equal(t, c.result, f.result)
			assert.Contains(t, f.note, c.note)
			assert.Equal(t, c.result == "error", f.transient)
			assert.Equal(t, c.spec == "" && c.live == bare, strings.Contains(f.note, "delete it"), "a template without hosts cannot replace the route")
		})
	}
}

func TestRetriesSlowDownAndAreReportedOnce(t *testing.T) {
	s, recorder := newTestState(t, fakeIndex{}, policy.Config{})
	s.held = map[route.Key]bool{}
	d, a := desiredOf(t, mirrored), &applied{}
	at := attempt{key: d.key(), hash: [32]byte{1}}
	var waits []time.Duration
	for range 14 {
		s.recheck = 0
		s.record(d, a, transient("no answer"), at)
		waits = append(waits, s.recheck)
	}
	require.Equal(t, loop.FirstRetry, waits[0])
	require.Equal(t, 2*loop.FirstRetry, waits[1])
	require.Equal(t, loop.LastRetry, waits[13])
	require.Len(t, recorder.Events, 1)
	require.Contains(t, <-recorder.Events, "RouteDelayed no answer")

	s.recheck = 0
	at.hash = [32]byte{2} // another route is desired, so the delays start again
	s.record(d, a, transient("no answer"), at)
	require.Equal(t, loop.FirstRetry, s.recheck)
	s.record(d, a, failed("taken", "RouteTaken", "it belongs to somebody else"), at)
	s.record(d, a, failed("taken", "RouteTaken", "it belongs to somebody else"), at)
	require.Len(t, recorder.Events, 1)
	require.False(t, s.run.manages(at.key, ""))
	require.False(t, s.held[at.key], "another document may have it")

	a.uid, a.created, a.wrote = "r", true, true
	s.record(d, a, nil, at)
	require.True(t, s.run.manages(at.key, "r"))
	require.Nil(t, a.failed)
	s.record(d, a, failed("taken", "RouteTaken", "it belongs to somebody else"), at)
	require.Len(t, recorder.Events, 3, "reported again, since the route was applied in between")
}

// The older document does not take a route that the younger one has created.
func TestDocumentThatCreatedARouteKeepsIt(t *testing.T) {
	s, recorder := newTestState(t, fakeIndex{state: policy.Ready}, policy.Config{})
	holder, challenger := desiredOf(t, mirrored), desiredOf(t, mirrored)
	challenger.cm.Name, challenger.cm.UID = "a", "a-uid"
	live := object(t, mirrored)
	live.SetUID("r")
	live.SetGeneration(1)
	live.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "p", UID: "p-uid"}})
	s.documents = map[types.UID]*document{"p-uid": holder.document, "a-uid": challenger.document}
	client := fake.NewSimpleDynamicClient(runtime.NewScheme(), live)
	s.run.routes = routes{client}
	httproutes := gvrOf(route.HTTPRoute)
	s.run.kinds = &kinds{found: map[string]schema.GroupVersionResource{"httproutes.v1." + route.GatewayGroup: httproutes}}
	s.watches.running[httproutes] = storeOf(t, &watched{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "r", Generation: 1}})
	key := holder.key()
	s.routes[claim{"p-uid", key}] = &applied{hash: sha256.Sum256(holder.body("")), uid: "r", generation: 1}
	for range 2 {
		s.needed, s.claimed, s.held = map[schema.GroupVersionResource]bool{}, map[claim]bool{}, map[route.Key]bool{}
		s.bring(t.Context(), challenger)
		require.False(t, s.held[key])
		s.bring(t.Context(), holder)
		require.True(t, s.held[key])
		require.True(t, s.run.manages(key, "r"))
		s.prune()
	}
	require.Len(t, recorder.Events, 1)
	require.Contains(t, <-recorder.Events, `RouteTaken HTTPRoute shop/web belongs to ConfigMap "p"`)
	require.Len(t, client.Actions(), 1, "one read, and no write")
}
