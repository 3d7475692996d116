package variant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apilabels "k8s.io/apimachinery/pkg/labels"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// fakeReader answers live reads from an Index of its own, and fails for the kinds in fail.
type fakeReader struct {
	index *Index
	fail  map[Kind]error

	mu      sync.Mutex
	queries []Query
}

func (f *fakeReader) Read(_ context.Context, q Query) ([]any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queries = append(f.queries, q)
	if err := f.fail[q.Kind]; err != nil {
		return nil, err
	}
	selector, err := apilabels.Parse(q.Selector)
	if err != nil {
		return nil, err
	}
	var found []any
	for name, rec := range f.index.objects[q.Kind] {
		have := apilabels.Set{}
		switch r := rec.(type) {
		case *workload:
			for _, l := range r.labels {
				have[l.Value().key] = l.Value().value
			}
		case *slice:
			have[serviceLabel] = r.service
		}
		if (q.Namespace == "" || q.Namespace == name.Namespace) && (q.Name == "" || q.Name == name.Name) && selector.Matches(have) {
			if w, ok := rec.(*workload); ok {
				copied := *w
				rec = &copied
			}
			found = append(found, rec)
		}
	}
	return found, nil
}

// resolve resolves a route with one mirror while the caches and the API server have different objects. It
// returns the variant and the live reads.
func resolve(t *testing.T, rt *route.Route, caches, server []any, fail map[Kind]error) (policy.Variant, []Query) {
	t.Helper()
	c := newCluster(t, caches...)
	reader := &fakeReader{index: newCluster(t, server...).Index, fail: fail}
	snap, err := NewResolver(c.Index, reader, func() bool { return true }).Resolve(t.Context(), rt)
	require.NoError(t, err)
	for _, v := range snap.Variants {
		return v, reader.queries
	}
	return policy.Variant{}, reader.queries
}

func TestAbsenceIsConfirmed(t *testing.T) {
	ready := append(readyObjects(), istioRule)
	without := func(drop ...Kind) []any {
		var kept []any
		for _, obj := range ready {
			rec, err := NewIndex(Options{}).toRecord(obj)
			if text, ok := obj.(string); ok {
				var raw []byte
				raw, err = yamlToJSON(text)
				require.NoError(t, err)
				rec, err = NewIndex(Options{}).parse(raw)
			}
			require.NoError(t, err)
			if !slices.Contains(drop, rec.ident().kind) {
				kept = append(kept, obj)
			}
		}
		return kept
	}
	http, vs := httpRoute("shop/gw", "shop/a", "shop/b"), virtualService("shop/vs", "a", "b#v2")
	far := httpRoute("web/gw", "web/a", "shop/b")
	grant := grantOf("shop/g", route.GatewayGroup, "HTTPRoute", "web", `{group: "", kind: Service}`)
	port := serviceOf("shop/b", "app=b")
	port.Spec.Ports[0].Port = 80
	cases := map[string]struct {
		rt             *route.Route
		caches, server []any
		state          policy.State
		reason         policy.Reason
		reads          int
	}{
		"a hit is believed":             {http, ready, nil, policy.Ready, "", 0},
		"scaled to 0 is believed":       {http, append(without(KindDeployment), deployment("shop/b", "app=b", 0)), ready, policy.Absent, policy.ScaledToZero, 0},
		"service confirmed missing":     {http, nil, nil, policy.Absent, policy.ServiceNotFound, 1},
		"service found live":            {http, without(KindService), ready, policy.Ready, "", 1},
		"everything found live":         {http, nil, ready, policy.Ready, "", 3},
		"subset and everything":         {vs, nil, ready, policy.Ready, "", 6},
		"workload confirmed missing":    {http, without(KindDeployment, KindEndpointSlice), without(KindDeployment, KindPod), policy.Absent, policy.WorkloadNotFound, 2},
		"rule found live":               {vs, without(KindDestinationRule), ready, policy.Ready, "", 2},
		"rule confirmed missing":        {vs, without(KindDestinationRule), nil, policy.Absent, policy.DestinationRuleNotFound, 2},
		"subset found live":             {vs, append(without(KindDestinationRule), ruleOf("shop/b", "b", "", "v1", "")), ready, policy.Ready, "", 2},
		"subset confirmed missing":      {virtualService("shop/vs", "a", "b#v9"), ready, ready, policy.Absent, policy.SubsetNotFound, 2},
		"port found live":               {http, append(without(KindService), port), ready, policy.Ready, "", 1},
		"grant found live":              {far, ready, []any{grant}, policy.Ready, "", 1},
		"alias of a Service found live": {virtualService("shop/vs", "a", "e"), append(without(KindService), aliasOf("shop/e", hostOfB, 8000)), ready, policy.Ready, "", 2},
		"alias's workload found live":   {virtualService("shop/vs", "a", "e"), append(without(KindDeployment, KindPod), aliasOf("shop/e", hostOfB, 8000)), ready, policy.Ready, "", 2},
		"alias's subset found live":     {virtualService("web/vs", "a", "e.shop.svc.cluster.local#v2"), append(without(KindDestinationRule), aliasOf("shop/e", hostOfB, 8000)), ready, policy.Ready, "", 3},
		"alias of an entry found live":  {virtualService("shop/vs", "a", "e"), []any{aliasOf("shop/e", "x.io", 8000)}, []any{entryOf("shop/x", "x.io", "")}, policy.Ready, "", 1},
		"ports of an entry found live":  {virtualService("shop/vs", "x.io", "b"), append(without(KindService), serviceOf("shop/b", "app=b")), append(readyObjects(), entryOf("shop/x", "x.io", "")), policy.Ready, "", 2},
		"host found live":               {virtualService("shop/vs", "a", "api.x.io"), nil, []any{entryOf("shop/e", "api.x.io", "")}, policy.Ready, "", 1},
		"host confirmed missing":        {virtualService("shop/vs", "a", "api.x.io"), nil, nil, policy.Absent, policy.HostNotFound, 1},
		"short host found live":         {virtualService("shop/vs", "a", "x.io"), nil, []any{entryOf("shop/e", "x.io", "")}, policy.Ready, "", 1},
		"a rule's namespaces are read":  {virtualService("web/vs", "a", "b.shop.svc.cluster.local#v2"), without(KindDestinationRule), nil, policy.Absent, policy.DestinationRuleNotFound, 3},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, queries := resolve(t, tc.rt, tc.caches, tc.server, nil)
			assert.Equal(t, tc.state, got.State, got.Detail)
			assert.Equal(t, tc.reason, got.Reason)
			assert.False(t, got.Ungranted)
			assert.Len(t, queries, tc.reads, queries)
		})
	}
	got, _ := resolve(t, http, append(without(KindService), port), ready, nil)
	assert.Equal(t, int32(8000), got.Ports[0].Number, "the port that was read live counts")
	got, queries := resolve(t, far, ready, nil, nil)
	assert.True(t, got.Ungranted)
	assert.Len(t, queries, 1)
}

func TestAFailedReadIsUnknown(t *testing.T) {
	broken := map[Kind]error{}
	for kind := range kindCount {
		broken[kind] = errors.New("connection refused")
	}
	for name, tc := range map[string]struct {
		rt     *route.Route
		caches []any
	}{
		"service":  {httpRoute("shop/gw", "shop/a", "shop/b"), nil},
		"port":     {httpRoute("shop/gw", "shop/a", "shop/b"), func() []any { s := serviceOf("shop/b", ""); s.Spec.Ports = nil; return []any{s} }()},
		"rule":     {virtualService("shop/vs", "a", "b#v2"), readyObjects()},
		"workload": {httpRoute("shop/gw", "shop/a", "shop/b"), []any{serviceOf("shop/b", "app=b")}},
		"grant":    {httpRoute("web/gw", "web/a", "shop/b"), readyObjects()},
		"host":     {virtualService("shop/vs", "a", "api.x.io"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := resolve(t, tc.rt, tc.caches, nil, broken)
			assert.Equal(t, policy.Unknown, got.State)
			assert.Equal(t, policy.VariantUnknown, got.Reason)
			assert.Contains(t, got.Detail, "connection refused")
			assert.False(t, got.Exists || got.Ungranted || got.LacksSubset, "an unconfirmed fact must not deny")
		})
	}
}

func TestReadsAreBounded(t *testing.T) {
	var targets []string
	for n := range 100 {
		targets = append(targets, fmt.Sprintf("shop/b%d", n))
	}
	rt := httpRoute("shop/gw", "shop/a", targets...)
	reader := &fakeReader{index: NewIndex(Options{})}
	snap, err := NewResolver(NewIndex(Options{}), reader, func() bool { return true }).Resolve(t.Context(), rt)
	require.NoError(t, err)
	assert.Len(t, reader.queries, maxReads)
	states := map[policy.State]int{}
	for _, v := range snap.Variants {
		states[v.State]++
	}
	assert.Equal(t, map[policy.State]int{policy.Absent: maxReads, policy.Unknown: 100 - maxReads}, states)
}

// A decision on a route with too many mirrors parks some, and the next decision reads the objects of the
// others.
func TestEveryDecisionGetsFurther(t *testing.T) {
	var targets []string
	for n := range 2*maxReads + 1 {
		targets = append(targets, fmt.Sprintf("b%d", n))
	}
	object := manyRules(targets)
	r := NewResolver(NewIndex(Options{}), &fakeReader{index: NewIndex(Options{})}, func() bool { return true })
	var parked []int
	for range 3 {
		rt, err := route.Decode(object, route.Options{})
		require.NoError(t, err)
		snap, err := r.Resolve(t.Context(), rt)
		require.NoError(t, err)
		d, err := policy.Decide(rt, snap, policy.Config{})
		require.NoError(t, err)
		object, err = patch.Apply(object, d.Plan.Operations)
		require.NoError(t, err)
		parked = append(parked, len(d.Plan.Parked))
	}
	assert.Equal(t, []int{maxReads - 1, maxReads - 1, 3}, parked, "one read is of the ServiceEntries")
}

// manyRules returns a VirtualService with one rule for each host, which mirrors to it.
func manyRules(hosts []string) []byte {
	rules := make([]string, len(hosts))
	for i, host := range hosts {
		rules[i] = fmt.Sprintf(`{"route":[{"destination":{"host":"a"}}],"mirror":{"host":%q}}`, host)
	}
	return fmt.Appendf(nil, `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"namespace":"shop","name":"vs"},"spec":{"hosts":["a"],"http":[%s]}}`,
		strings.Join(rules, ","))
}

// Every fact that would deny a write is read live first, because the caches may lag.
func TestContradictionsAreConfirmed(t *testing.T) {
	other := serviceOf("shop/b", "app=b")
	other.Spec.Ports = []corev1.ServicePort{{Name: "x", Port: 9000}}
	entry := entryOf("shop/e", "api.x.io", "")
	for name, tc := range map[string]struct {
		rt             *route.Route
		caches, server []any
	}{
		"subset of a missing Service": {virtualService("shop/vs", "a", "b#v2"),
			[]any{ruleOf("shop/b", "b", "", "v1", "")}, []any{ruleOf("shop/b", "b", "", "v2", "")}},
		"subset of an external host": {virtualService("shop/vs", "a", "api.x.io#v2"),
			[]any{entry, ruleOf("shop/x", "api.x.io", "", "v1", "")}, []any{entry, ruleOf("shop/x", "api.x.io", "", "v2", "")}},
		"another port": {httpRoute("shop/gw", "shop/a", "shop/b"), []any{other}, []any{serviceOf("shop/b", "app=b")}},
	} {
		t.Run(name, func(t *testing.T) {
			findings := func(server []any) []policy.Finding {
				v, _ := resolve(t, tc.rt, tc.caches, server, nil)
				snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}}
				for m := range mirrors(tc.rt) {
					snap.Variants[m.Target] = v
				}
				d, err := policy.Decide(tc.rt, snap, policy.Config{})
				require.NoError(t, err)
				return d.Findings
			}
			assert.NotEmpty(t, findings(tc.caches), "the API server confirms it")
			assert.Empty(t, findings(tc.server), "the caches lag")
		})
	}
}

func TestNotSynced(t *testing.T) {
	_, err := NewResolver(NewIndex(Options{}), nil, func() bool { return false }).
		Resolve(t.Context(), httpRoute("shop/gw", "shop/a", "shop/b"))
	assert.ErrorIs(t, err, errNotSynced)
}
