package status

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// ramped is a cluster whose route web of 25 % is at the second step of a ramp, below one limit, and above no other.
func ramped(t *testing.T) cluster {
	t.Helper()
	rt, err := route.Decode([]byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
		"spec": {"rules": [{"name": "checkout", "filters": [
		{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "fraction": {"numerator": 50000, "denominator": 1000000}}},
		{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-mirrorgate-limited-1e24fc1979-p25-f50000"]}}]}]}}`), route.Options{})
	require.NoError(t, err)
	return cluster{
		routes:  []*route.Route{rt},
		variant: policy.Variant{State: policy.Ready, Exists: true, Ports: []policy.Port{{Number: 80}}},
		scope: limits.Scope{
			Limits: []limits.Limit{
				{Name: "strict", MaxPercent: new(10.0), Action: limits.Lower}, {Name: "wide", MaxPercent: new(50.0), Action: limits.Lower},
				{Name: "watched", MaxPercent: new(20.0), Action: limits.Deny},
			},
			Policies: []limits.Policy{{
				Name: "web", Percent: new(5.0), Step: 2, Steps: 3, Since: new(noon.Add(-10 * time.Minute)), For: time.Hour, Next: new(50.0),
				ExpiresAt: new(noon.Add(48 * time.Hour)), After: 72 * time.Hour,
			}},
		},
	}
}

func at(noon time.Time) func() time.Time { return func() time.Time { return noon } }

func TestTableOfPolicies(t *testing.T) {
	c := ramped(t)
	assert.Equal(t, `
ROUTE           TARGET   SHARE       STATE     REASON     SYNCED   STEP   NEXT         EXPIRES
httproute/web   v2:80    5% of 25%   limited   RampStep   yes      2/3    25% in 50m   in 2d
`, "\n"+tableOf(t, c, nil, Query{}, Format{Now: at(noon)}), "the next step, as far as the route declares it")
	authors := map[route.Key]Author{c.routes[0].Key: {Manager: "git", Since: new(noon.Add(-10 * time.Minute))}}
	assert.Equal(t, "httproute/web   v2:80   5% of 25%   limited   RampStep   yes   2/3   25% due   in 47h   70m   git   Ready   spec.rules[0].filters[0].requestMirror   step 2 of 3 of MirrorPolicy \"web\" copies 5 %\n",
		tableOf(t, c, nil, Query{Authors: authors}, Format{Output: "wide", NoHeaders: true, Now: at(noon.Add(time.Hour))}))
	assert.Contains(t, tableOf(t, c, nil, Query{Authors: authors}, Format{Output: "json"}), `"nextAt": "2026-11-01T12:50:00Z"`)
	c.scope.Policies[0].Since = nil
	assert.Contains(t, tableOf(t, c, nil, Query{}, Format{Now: at(noon)}), "25% once active")
	c.scope.Policies[0].Expired = true
	assert.Contains(t, tableOf(t, c, nil, Query{}, Format{Now: at(noon)}), "Expired   no       2/3    -      expired")
	assert.Nil(t, policyState(nil, 5))
}

// Colours stand around the state alone, so that columns keep their places.
func TestColours(t *testing.T) {
	c := ramped(t)
	plain := tableOf(t, c, nil, Query{}, Format{Now: at(noon), AllNamespaces: true})
	coloured := tableOf(t, c, nil, Query{}, Format{Now: at(noon), AllNamespaces: true, Colour: true})
	assert.Contains(t, coloured, "   \x1b[33mlimited\x1b[0m   ")
	assert.Equal(t, plain, strings.NewReplacer("\x1b[33m", "", "\x1b[0m", "").Replace(coloured))
	c.scope = limits.Scope{}
	assert.Contains(t, tableOf(t, c, nil, Query{}, Format{Colour: true}), "\x1b[31mlimited\x1b[0m", "it should not be")
	c.routes = []*route.Route{mirrored(t, "web", "")}
	assert.Contains(t, tableOf(t, c, nil, Query{}, Format{Colour: true, NoHeaders: true}), "\x1b[32mactive\x1b[0m")
}

func explained(t *testing.T, c cluster, now time.Time) string {
	t.Helper()
	routes, err := Of(t.Context(), c, c, nil, Query{Authors: map[route.Key]Author{c.routes[0].Key: {Manager: "git", Since: new(now.Add(-time.Minute))}}})
	require.NoError(t, err)
	require.Len(t, routes, 1)
	var b strings.Builder
	require.NoError(t, Explain(t.Context(), &b, c, c.routes[0], routes[0], policy.Config{}, now))
	return b.String()
}

func TestExplain(t *testing.T) {
	c := ramped(t)
	assert.Equal(t, `
HTTPRoute shop/web
  its rules were written by "git", and its stored form has been as it is for 60s
spec.rules[0] "checkout"
  mirror to v2:80 (spec.rules[0].filters[0].requestMirror)
    declared  25% of the rule's requests
    variant   Ready
    rule      OverLimit: MirrorLimit "watched" allows 20 % of a rule's requests, and its mirrors together copy 25 % (spec.rules[0]); a write that makes this so is denied
    policy    step 2 of 3 of MirrorPolicy "web" copies 5 %, since 2026-11-01T11:50:00Z (10m ago); next 25% in 50m; ends at 2026-11-03T12:00:00Z (in 2d)
    limit     MirrorLimit "strict" (Limit) holds
    limit     MirrorLimit "wide" (Limit) holds
    limit     MirrorLimit "watched" (Deny) is broken: MirrorLimit "watched" allows 20 % of a rule's requests, and its mirrors together copy 25 %; a write that makes it worse is denied
    decided   limited to 5 %: step 2 of 3 of MirrorPolicy "web" copies 5 % (RampStep)
    stored    limited to 5%, with a mark in the rule
    to change Nothing, or edit the steps of the MirrorPolicy; without the policy the declared percentage is back at once.
`, "\n"+explained(t, c, noon))

	c.scope.Policies = nil
	text := explained(t, c, noon)
	assert.Contains(t, text, "policy    no MirrorPolicy is about it")
	assert.Contains(t, text, `limit     MirrorLimit "strict" (Limit) lowers it to 10 %: MirrorLimit "strict" allows 10 % of a rule's requests`)
	assert.Contains(t, text, `decided   limited to 10 %: MirrorLimit "strict" allows 10 % of a rule's requests (OverLimit)`)
	assert.Contains(t, text, "stored    limited to 5%, with a mark in the rule; the next touch moves it")

	c.scope, c.variant = limits.Scope{}, policy.Variant{State: policy.Absent, Reason: policy.ServiceNotFound, Detail: "Service \"shop/v2\" not found\x1b[31m"}
	text = explained(t, c, noon)
	assert.Contains(t, text, "limits    no MirrorLimit selects the namespace")
	assert.Contains(t, text, `variant   Absent: Service "shop/v2" not found`)
	assert.Contains(t, text, "rules     none is broken")
	assert.Contains(t, text, "(ServiceNotFound)")
	assert.NotContains(t, text, "\x1b", "no control character reaches a terminal")
}

func TestWhoWroteARoute(t *testing.T) {
	entry := func(manager, fields string, minutes int, subresource string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{
			Manager: manager, Subresource: subresource, FieldsV1: metav1.NewFieldsV1(fields), Time: &metav1.Time{Time: noon.Add(time.Duration(minutes) * time.Minute)},
		}
	}
	a := authorOf([]metav1.ManagedFieldsEntry{
		entry("git", `{"f:spec": {"f:rules": {}}}`, 1, ""), entry("label", `{"f:metadata": {"f:labels": {}}}`, 7, ""),
		entry("mirrorgate", `{"f:metadata": {"f:annotations": {}}}`, 5, ""), entry("istio", `{"f:status": {}}`, 9, "status"), {Manager: "old"},
	})
	assert.Equal(t, Author{"git", new(noon.Add(5 * time.Minute))}, a)
	a = authorOf([]metav1.ManagedFieldsEntry{entry("first", `{"f:spec": {"f:http": {}}}`, 1, ""), entry("second", `{"f:spec": {"f:http": {}}}`, 2, "")})
	assert.Equal(t, Author{"second", new(noon.Add(2 * time.Minute))}, a)
	assert.Zero(t, authorOf(nil))
}
