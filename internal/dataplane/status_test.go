package dataplane

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

var (
	earlier = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	later   = metav1.NewTime(time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC))
)

func wantedFor(name string, status metav1.ConditionStatus) ParentStatus {
	return ParentStatus{
		ParentRef: fmt.Appendf(nil, `{"kind": "Service", "name": %q}`, name), ControllerName: wellknown.ControllerName,
		Conditions: []metav1.Condition{{Type: "Accepted", Status: status, Reason: "R", Message: "m", ObservedGeneration: 3}},
	}
}

// stored is an entry as the API server has it.
func stored(t *testing.T, p ParentStatus, at metav1.Time) json.RawMessage {
	t.Helper()
	p.Conditions[0].LastTransitionTime = at
	raw, err := json.Marshal(p)
	require.NoError(t, err)
	return raw
}

// brief returns name, status and date of mirrorgate's entries, and the whole of other entries.
func brief(t *testing.T, parents []json.RawMessage) (out []string) {
	t.Helper()
	for _, raw := range parents {
		p, is := entry(raw)
		if !is {
			out = append(out, string(raw))
			continue
		}
		var ref struct{ Name string }
		require.NoError(t, json.Unmarshal(p.ParentRef, &ref))
		out = append(out, fmt.Sprint(ref.Name, " ", p.Conditions[0].Status, " ", p.Conditions[0].LastTransitionTime.Month()))
	}
	return out
}

// Entries of others stay unchanged and in their place. Those of mirrorgate are replaced in their place, and
// conditions that have not changed keep their date.
func TestMerge(t *testing.T) {
	const other = `{"controllerName":"else.where/x","parentRef":{"name":"a","kind":"Service"},"future":[1.0,{"b":null}]}`
	before := []json.RawMessage{
		stored(t, wantedFor("gone", metav1.ConditionTrue), earlier), json.RawMessage(other),
		stored(t, wantedFor("b", metav1.ConditionTrue), earlier), stored(t, wantedFor("a", metav1.ConditionTrue), earlier),
		stored(t, wantedFor("a", metav1.ConditionTrue), earlier), // twice
	}
	wanted := []ParentStatus{wantedFor("a", metav1.ConditionTrue), wantedFor("b", metav1.ConditionFalse), wantedFor("c", metav1.ConditionTrue)}
	parents, left, err := merge(KindHTTPRoute, before, wanted, later)
	require.NoError(t, err)
	assert.Zero(t, left)
	assert.Equal(t, []string{other, "b False February", "a True January", "c True February"}, brief(t, parents))
	again, _, err := merge(KindHTTPRoute, parents, wanted, metav1.Now())
	require.NoError(t, err)
	assert.Equal(t, parents, again, "nothing changes a second time")

	parents, _, err = merge(KindHTTPRoute, before, nil, later)
	require.NoError(t, err)
	assert.Equal(t, []string{other}, brief(t, parents))
	parents, _, err = merge(KindHTTPRoute, nil, nil, later)
	require.NoError(t, err)
	assert.NotNil(t, parents, "the API wants a list")
}

// The API allows 32 entries, and mirrorgate does not drop those of others.
func TestMergeFull(t *testing.T) {
	var before []json.RawMessage
	for i := range 30 {
		before = append(before, fmt.Appendf(nil, `{"controllerName":"else.where/%d"}`, i))
	}
	wanted := []ParentStatus{wantedFor("a", "True"), wantedFor("b", "True"), wantedFor("c", "True"), wantedFor("d", "True")}
	parents, left, err := merge(KindHTTPRoute, before, wanted, later)
	require.NoError(t, err)
	assert.Equal(t, 2, left)
	require.Len(t, parents, maxParents)
	assert.Equal(t, []string{"a True February", "b True February"}, brief(t, parents[30:]))
	parents, _, err = merge(KindHTTPRoute, append(before[:29:29], stored(t, wantedFor("c", "True"), earlier)), wanted, later)
	require.NoError(t, err)
	assert.Equal(t, []string{"c True January", "a True February", "b True February"}, brief(t, parents[29:]))
}

// withStatus is a route with entries in its status.
func withStatus(t *testing.T, route string, parents ...ParentStatus) map[string]any {
	t.Helper()
	o := map[string]any{}
	require.NoError(t, json.Unmarshal(object(t, route).([]byte), &o))
	raw, err := json.Marshal(map[string]any{"parents": parents})
	require.NoError(t, err)
	o["status"] = json.RawMessage(raw)
	return o
}

// A route is stale while its object has other entries than Status returns. Order and dates do not matter, nor
// who wrote last.
func TestStale(t *testing.T) {
	route := routeOf("httpbin", parent+", "+`{group: "", kind: Service, name: second}`, mirroring)
	w := newWorld(t, tutorial, serviceOf("second", wellknown.Enabled, "80"), route)
	put := func(parents ...ParentStatus) {
		w.changes = nil
		raw, err := json.Marshal(withStatus(t, route, parents...))
		require.NoError(t, err)
		require.NoError(t, w.Upsert(raw))
	}
	stale := func() bool {
		is := w.IsStale(routeName("httpbin"))
		assert.Equal(t, is, len(w.Stale()) == 1)
		return is
	}
	assert.True(t, stale(), "nothing is written")
	right, _ := w.Status(routeName("httpbin"))
	require.Len(t, right, 2)
	written := []ParentStatus{right[1], right[0]}
	for i := range written {
		written[i].Conditions = since(written[i].Conditions, nil, earlier)
	}
	other := ParentStatus{ControllerName: "else.where/x", ParentRef: right[0].ParentRef}
	put(other, written[0], written[1])
	assert.False(t, stale())
	assert.Empty(t, w.changes, "our own write, and others'")

	wrong := ParentStatus{ControllerName: wellknown.ControllerName, ParentRef: right[0].ParentRef, Conditions: right[0].Conditions[:1]}
	for what, parents := range map[string][]ParentStatus{
		"one is missing": {written[0]}, "one is wrong": {written[0], wrong}, "one is there twice": {written[0], written[1], written[0]}, "nothing": nil,
	} {
		put(parents...)
		assert.True(t, stale(), what)
		require.Len(t, w.changes, 1, what)
		assert.Equal(t, &Change{Routes: []RouteName{routeName("httpbin")}}, w.changes[0], what)
	}
	put(written...)
	w.Delete(KindService, "shop", "second")
	assert.True(t, stale())
	assert.False(t, w.IsStale(routeName("nowhere")))
}

// Entries of a route without an enabled parent make it stale, whether the Index saw the parent change or not.
func TestStaleLeftBehind(t *testing.T) {
	route := routeOf("httpbin", `{name: gateway}`, mirroring)
	w := newWorld(t)
	w.Subscribe(func(c *Change) { assert.Equal(t, []RouteName{routeName("httpbin")}, c.Routes) })
	raw, err := json.Marshal(withStatus(t, route, wantedFor("httpbin", "True")))
	require.NoError(t, err)
	require.NoError(t, w.Upsert(raw))
	assert.Equal(t, []RouteName{routeName("httpbin")}, w.Stale())
	require.Len(t, w.changes, 1)
}

// Fields of a rule without an effect are named in the message of Accepted.
func TestIgnoredFields(t *testing.T) {
	w := newWorld(t, tutorial, routeOf("httpbin", parent, `{retry: {attempts: 3}, sessionPersistence: {sessionName: x}, backendRefs: [{name: httpbin-v1, port: 80}]},
    {matches: [{path: {value: /x}}], retry: null, backendRefs: [{name: httpbin-v1, port: 80}]}`))
	assert.Equal(t, fine, w.conditions("httpbin"))
	assert.Equal(t, "the proxies of Service httpbin take it; they know nothing of rules[0].retry; rules[0].sessionPersistence, which changes nothing", w.message("httpbin", "Accepted"))
	w.apply(routeOf("httpbin", parent, mirroring))
	assert.Equal(t, "the proxies of Service httpbin take it", w.message("httpbin", "Accepted"))
}

// sessionAffinity of a parent is its proxies' business.
func TestAffinity(t *testing.T) {
	w := newWorld(t, tutorial)
	assert.False(t, w.compiled("httpbin").Listeners[0].Affinity)
	w.apply(serviceOf("httpbin", wellknown.Enabled, "http:8000->80", "sessionAffinity: ClientIP"))
	assert.Equal(t, []Name{name("httpbin")}, w.changes[0].Tables)
	assert.True(t, w.compiled("httpbin").Listeners[0].Affinity)
	w.apply(serviceOf("httpbin", wellknown.Enabled, "http:8000->80", "sessionAffinity: None"), serviceOf("httpbin-v1", "", "http:80", "sessionAffinity: ClientIP"))
	assert.False(t, w.compiled("httpbin").Listeners[0].Affinity, "a backend's is not")
}
