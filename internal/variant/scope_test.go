package variant

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

const (
	namespaceProd = `{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {env: prod}}}`
	routeWeb      = `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web, namespace: shop}, spec: {rules: [{
  name: checkout, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]}]}}`
	limitProd  = `{apiVersion: mirrorgate.dev/v1alpha1, kind: MirrorLimit, metadata: {name: prod}, spec: {namespaceSelector: {matchLabels: {env: prod}}, maxPercent: 10}}`
	policyRamp = `{apiVersion: mirrorgate.dev/v1alpha1, kind: MirrorPolicy, metadata: {name: %s, namespace: %s, creationTimestamp: "%s"}, spec: {
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}], ramp: {steps: [{percent: 1, for: 10m}, {percent: 5}]}}%s}`
)

// scopeOf returns the limits and policies of the route web.
func scopeOf(t *testing.T, i *Index) limits.Scope {
	t.Helper()
	rt := i.Route(route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: "web"})
	require.NotNil(t, rt)
	return i.Snapshot(rt).Scope
}

func load(t *testing.T, i *Index, manifests ...string) {
	t.Helper()
	for _, text := range manifests {
		raw, err := yaml.YAMLToJSON([]byte(text))
		require.NoError(t, err)
		require.NoError(t, i.Load(raw))
	}
}

func TestLimitsFollowTheLabelsOfTheNamespace(t *testing.T) {
	i := NewIndex(Options{})
	var notified []route.Key
	load(t, i, routeWeb, limitProd)
	i.Subscribe(func(keys []route.Key) { notified = append(notified, keys...) })
	changes := func(change func(), wantLimits int, why string) {
		t.Helper()
		notified = nil
		change()
		assert.Len(t, notified, 1, "the route is decided on again: %s", why)
		assert.Len(t, scopeOf(t, i).Limits, wantLimits, why)
	}
	assert.Empty(t, scopeOf(t, i).Limits, "nothing is known of the namespace's labels")
	changes(func() { load(t, i, namespaceProd) }, 1, "the label came")
	assert.InDelta(t, 10, *scopeOf(t, i).Limits[0].MaxPercent, 0)
	assert.Equal(t, limits.Lower, scopeOf(t, i).Limits[0].Action, "the default")
	changes(func() { load(t, i, `{apiVersion: v1, kind: Namespace, metadata: {name: shop}}`) }, 0, "the label went")
	changes(func() { load(t, i, namespaceProd) }, 1, "and came back")
	changes(func() {
		load(t, i, `{apiVersion: mirrorgate.dev/v1alpha1, kind: MirrorLimit, metadata: {name: prod}, spec: {namespaceSelector: {matchLabels: {env: test}}}}`)
	}, 0, "the limit selects others")
	changes(func() { load(t, i, limitProd) }, 1, "and this one again")
	changes(func() { i.Delete(KindMirrorLimit, "", "prod") }, 0, "the limit went")
	changes(func() {
		load(t, i, `{apiVersion: mirrorgate.dev/v1alpha1, kind: MirrorLimit, metadata: {name: by-name}, spec: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}, action: Deny}}`)
	}, 1, "by the label that every namespace has")

	notified = nil
	load(t, i, limitProd) // and written again without a change
	load(t, i, limitProd)
	assert.Len(t, notified, 1)
}

func TestTheOldestPolicyComesFirst(t *testing.T) {
	i := NewIndex(Options{})
	load(t, i, routeWeb)
	var notified []route.Key
	i.Subscribe(func(keys []route.Key) { notified = append(notified, keys...) })
	load(t, i, fmt.Sprintf(policyRamp, "young", "shop", "2026-11-02T00:00:00Z", ""), fmt.Sprintf(policyRamp, "b-old", "shop", "2026-11-01T00:00:00Z", ""),
		fmt.Sprintf(policyRamp, "a-old", "shop", "2026-11-01T00:00:00Z", ""), fmt.Sprintf(policyRamp, "stranger", "other", "2025-11-01T00:00:00Z", ""))
	names := func() (names []string) {
		for _, p := range scopeOf(t, i).Policies {
			names = append(names, p.Name)
		}
		return names
	}
	assert.Equal(t, []string{"a-old", "b-old", "young"}, names(), "a policy reaches no route of another namespace")
	assert.Len(t, slices.Compact(notified), 2, "the stranger's concerns a route of its own namespace: %v", notified)
	i.Delete(KindMirrorPolicy, "shop", "a-old")
	assert.Equal(t, []string{"b-old", "young"}, names())
}

func TestTheStatusOfAPolicySaysWhichStepItIs(t *testing.T) {
	target := `{targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}`
	for name, c := range map[string]struct {
		status  string
		step    int
		percent float64
		expired bool
	}{
		"no leader has seen it":      {"", 1, 1, false},
		"the second step":            {", status: {targets: [" + target + ", step: 1}]}", 2, 5, false},
		"more steps than there are":  {", status: {targets: [" + target + ", step: 7}]}", 2, 5, false},
		"expired":                    {", status: {targets: [" + target + `, step: 1, expired: "2026-11-01T00:00:00Z"}]}`, 2, 5, true},
		"the status of another rule": {`, status: {targets: [{targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: web, sectionName: cart}, step: 1}]}`, 1, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := NewIndex(Options{})
			load(t, i, routeWeb, fmt.Sprintf(policyRamp, "web", "shop", "2026-11-01T00:00:00Z", c.status))
			policies := scopeOf(t, i).Policies
			require.Len(t, policies, 1)
			want := limits.Policy{Name: "web", Percent: &c.percent, Step: c.step, Steps: 2, Expired: c.expired}
			if c.step == 1 {
				want.For, want.Next = 10*time.Minute, new(5.0)
			}
			assert.Equal(t, want, policies[0])
		})
	}
}
