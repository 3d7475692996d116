package dataplane

// The StatusWriter against an API server that the test controls. The real one, with the CRD's schema, is used
// in test/integration/dataplane.

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mirrorgate/mirrorgate/internal/feed/feedtest"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// writing is a feed of the whole cluster and a StatusWriter of it.
type writing struct {
	*fed
	writer *StatusWriter
	stop   func()
}

func newWriting(t *testing.T, api *feedtest.API, manifests ...string) *writing {
	f := feeding(t, api, Options{}, FeedOptions{WithoutEndpoints: true}, manifests...)
	w := &writing{fed: f}
	var err error
	w.writer, err = NewStatusWriter(api.Config(), f.Index, f.HasSynced, f.log.logger())
	require.NoError(t, err)
	w.run(t)
	return w
}

func (w *writing) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.writer.Start(ctx) }()
	ended := false
	w.stop = func() {
		if cancel(); !ended {
			ended = true
			assert.NoError(t, <-done)
		}
	}
	t.Cleanup(w.stop)
}

// statusOf returns the entries of a route's status: controller, parent, conditions.
func statusOf(t *testing.T, api *feedtest.API) (out []string) {
	t.Helper()
	o := api.Get(t, gatewayV1, "HTTPRoute", "shop", "httpbin")
	parents, _, err := unstructured.NestedSlice(o.Object, "status", "parents")
	require.NoError(t, err)
	for _, p := range parents {
		raw, err := json.Marshal(p)
		require.NoError(t, err)
		var s ParentStatus
		require.NoError(t, json.Unmarshal(raw, &s))
		line := s.ControllerName
		for _, c := range s.Conditions {
			line += " " + c.Type + "=" + string(c.Status) + ":" + c.Reason
		}
		out = append(out, line)
	}
	return out
}

func (w *writing) becomes(t *testing.T, want ...string) {
	t.Helper()
	var last []string
	require.Eventually(t, func() bool {
		last = statusOf(t, w.api)
		return assert.ObjectsAreEqual(want, last)
	}, 20*time.Second, 2*time.Millisecond, "%v", &last)
}

const accepted = wellknown.ControllerName + " " + fine

// Conditions are written once, follow changes, and are removed when no parent of the route is enabled any
// more.
func TestStatusWriter(t *testing.T) {
	w := newWriting(t, gatewayAPI(t), tutorial)
	w.becomes(t, accepted)
	written := w.api.Patches()
	require.Len(t, written, 1)
	assert.Equal(t, routesPath[:len(routesPath)-len("httproutes")]+"namespaces/shop/httproutes/httpbin/status", written[0].Path)
	assert.Equal(t, "application/merge-patch+json", written[0].Type)

	w.api.Delete(t, "v1", "Service", "shop", "httpbin-v2")
	w.becomes(t, wellknown.ControllerName+" Accepted=True:Accepted ResolvedRefs=False:BackendNotFound")
	assert.Equal(t, accepted, wellknown.ControllerName+" "+fine)
	w.put(t, sliceOf("httpbin-v1-a", "httpbin-v1", "http:80", "10.1.0.9"), serviceOf("elsewhere/x", "", "80"))
	w.put(t, serviceOf("httpbin-v2", "", "http:80"))
	w.becomes(t, accepted)
	assert.Len(t, w.api.Patches(), 3, "no more than there was to say")

	w.put(t, serviceOf("httpbin", "", "http:8000->80"))
	w.becomes(t)
	assert.Contains(t, w.api.Patches()[3].Body, `"parents":[]`)
}

// A new leader writes the statuses that the one before it did not, and no others.
func TestStatusWriterTakesOver(t *testing.T) {
	api := gatewayAPI(t)
	w := newWriting(t, api, tutorial)
	w.becomes(t, accepted)
	w.stop()
	w.put(t, serviceOf("httpbin-v1", "", "http:81"))
	eventually(t, "seen", func() bool { return w.IsStale(routeName("httpbin")) })
	assert.Len(t, api.Patches(), 1, "it does not run")
	w.run(t)
	w.becomes(t, wellknown.ControllerName+" Accepted=True:Accepted ResolvedRefs=False:BackendNotFound")
	w.stop()
	second := newWriting(t, api)
	second.known(t)
	second.put(t, routeOf("other", parent, mirroring)) // of which one can wait
	eventually(t, "the other one", func() bool { return len(api.Patches()) == 3 })
	assert.Contains(t, api.Patches()[2].Path, "/other/")
}

// Entries of others stay, and a controller that removes mirrorgate's entries does not cause an endless series
// of writes.
func TestStatusWriterAmongOthers(t *testing.T) {
	w := newWriting(t, gatewayAPI(t), tutorial)
	w.becomes(t, accepted)
	other := ParentStatus{ControllerName: "else.where/x", ParentRef: json.RawMessage(`{"name":"httpbin","kind":"Service"}`), Conditions: []metav1.Condition{}}
	route := routeOf("httpbin", parent, mirroring)
	for range 3 * freeWrites { // they take turns
		w.api.Put(t, withStatus(t, route, other))
		last := len(w.api.Patches())
		if last >= freeWrites {
			break
		}
		w.becomes(t, "else.where/x", accepted)
	}
	assert.Never(t, func() bool { return len(w.api.Patches()) > freeWrites }, 500*time.Millisecond, 10*time.Millisecond)
	assert.Equal(t, []string{"else.where/x"}, statusOf(t, w.api))
}

// What somebody wrote between our look and our write is not lost: it is a conflict, and looked at again.
func TestStatusWriterConflict(t *testing.T) {
	api := gatewayAPI(t)
	w := newWriting(t, api, tutorial)
	w.becomes(t, accepted)
	live, err := w.writer.get(t.Context(), routeName("httpbin"))
	require.NoError(t, err)
	w.put(t, strings.Replace(routeOf("httpbin", parent, mirroring), "generation: 7", "generation: 8", 1))
	other := []ParentStatus{wantedFor("httpbin", "False")}
	assert.True(t, apierrors.IsConflict(w.writer.patch(t.Context(), routeName("httpbin"), live, other)))
	w.becomes(t, accepted)

	stopped := newWorld(t, tutorial) // an Index that does not know of generation 8
	late := &StatusWriter{index: stopped.Index, client: w.writer.client, clock: w.writer.clock}
	assert.True(t, apierrors.IsConflict(late.write(t.Context(), routeName("httpbin"))), "of a spec that is not known nothing is said")

	w.api.Delete(t, gatewayV1, "HTTPRoute", "shop", "httpbin")
	require.NoError(t, late.write(t.Context(), routeName("httpbin")), "gone")
	require.NoError(t, late.patch(t.Context(), routeName("httpbin"), live, nil), "gone meanwhile")
}

// A write that is refused is tried again, and said.
func TestStatusWriterRefused(t *testing.T) {
	api := gatewayAPI(t)
	path := "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/httpbin/status"
	api.Refuse(path, http.StatusForbidden)
	w := newWriting(t, api, tutorial)
	eventually(t, "said", func() bool { return len(w.log.with("Cannot write the status of a route", "shop", "httpbin")) > 0 })
	api.Refuse(path, 0)
	w.becomes(t, accepted)
}

// The pace of writes: a few at once, then less and less, then at once again.
func TestStatusWriterPace(t *testing.T) {
	clock := clocktesting.NewFakeClock(later.Time)
	w := &StatusWriter{clock: clock, pace: map[RouteName]pace{}}
	a, b := routeName("a"), routeName("b")
	for range freeWrites {
		require.Zero(t, w.wait(a))
		w.wrote(a)
	}
	assert.Zero(t, w.wait(b))
	for want := paceWindow / freeWrites; want < paceWindow; want += paceWindow / freeWrites {
		require.Equal(t, want, w.wait(a))
		clock.Step(want)
		require.Zero(t, w.wait(a))
		w.wrote(a)
	}
	for range 10 {
		require.LessOrEqual(t, w.wait(a), paceWindow)
		w.wrote(a)
	}
	clock.Step(paceWindow + time.Second)
	assert.Zero(t, w.wait(a))
	w.wrote(b)
	assert.Len(t, w.pace, 1, "old writes are forgotten")
}
