package iter8

import (
	"crypto/sha256"
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
	bare := object(t, mirrored)
	bare.SetManagedFields(forged.GetManagedFields())
	for name, c := range map[string]struct {
		live   *unstructured.Unstructured
		result string
		note   string
	}{
		"no route":                            {nil, "", ""},
		"of the document":                     {ours("p-uid", "p"), "", ""},
		"of an earlier ConfigMap of its name": {ours("old-uid", "p"), "", ""},
		"of another document":                 {ours("q-uid", "q"), "taken", `belongs to ConfigMap "q"`},
		"of a deleted document":               {ours("gone", "gone"), "error", `"gone", which is gone`},
		"of its name, by another manager":     {forged, "taken", `belongs to ConfigMap "p"`},
		"of no document":                      {bare, "taken", "field managers: kubectl. Delete it"},
		"of the document, being deleted":      {deleted, "error", "is being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestState(t, fakeIndex{}, policy.Config{})
			s.documents["q-uid"] = &document{}
			f := s.checkOwner(desiredOf(t, mirrored), c.live)
			if c.result == "" {
				require.Nil(t, f)
				return
			}
			require.NotNil(t, f)
			assert.Equal(t, c.result, f.result)
			assert.Contains(t, f.note, c.note)
			assert.Equal(t, c.result == "error", f.transient)
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

	a.uid, a.generation = "r", 1
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
