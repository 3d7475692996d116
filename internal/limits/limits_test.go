package limits

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func decode(t *testing.T, rules string) *route.Route {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(rules))
	require.NoError(t, err)
	rt, err := route.Decode(raw, route.Options{Namespace: "shop"})
	require.NoError(t, err, "%s", raw)
	return rt
}

// http returns an HTTPRoute with one rule of these mirrors: "v2=25" is a mirror to v2 of 25 %.
func http(t *testing.T, matches string, mirrors ...string) *route.Route {
	t.Helper()
	var filters []string
	for _, m := range mirrors {
		name, percent, shared := strings.Cut(m, "=")
		name, namespace, _ := strings.Cut(name, ".")
		ref := "name: " + name + ", port: 80"
		if namespace != "" {
			ref += ", namespace: " + namespace
		}
		if shared {
			percent = ", percent: " + percent
		}
		filters = append(filters, "{type: RequestMirror, requestMirror: {backendRef: {"+ref+"}"+percent+"}}")
	}
	return decode(t, fmt.Sprintf(`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web},
  spec: {rules: [{name: checkout, matches: [%s], filters: [%s], backendRefs: [{name: v1, port: 80}]}]}}`, matches, strings.Join(filters, ", ")))
}

func percents(verdicts []Verdict) (shares []string) {
	for _, v := range verdicts {
		text := v.Share.String()
		if v.Lowered {
			text += " " + string(v.Reason)
		}
		shares = append(shares, text)
	}
	return shares
}

func upTo(percent float64) Limit {
	return Limit{Name: "production", MaxPercent: &percent, Action: Lower}
}

func TestShares(t *testing.T) {
	ramp := func(percent float64) Policy { return Policy{Name: "web", Percent: &percent, Step: 1, Steps: 3} }
	for name, c := range map[string]struct {
		matches string
		mirrors []string
		scope   Scope
		want    []string
		detail  string
	}{
		"nothing limits":                 {mirrors: []string{"v2=25", "v3"}, want: []string{"25", "100"}},
		"a limit":                        {mirrors: []string{"v2=25"}, scope: Scope{Limits: []Limit{upTo(10)}}, want: []string{"10 OverLimit"}, detail: `MirrorLimit "production" allows 10 % of a rule's requests`},
		"no percentage is all":           {mirrors: []string{"v2"}, scope: Scope{Limits: []Limit{upTo(0.5)}}, want: []string{"0.5 OverLimit"}},
		"within the limit":               {mirrors: []string{"v2=10"}, scope: Scope{Limits: []Limit{upTo(10)}}, want: []string{"10"}},
		"a limit of 0":                   {mirrors: []string{"v2=10"}, scope: Scope{Limits: []Limit{upTo(0)}}, want: []string{"0 OverLimit"}},
		"several mirrors in proportion":  {mirrors: []string{"v2=10", "v3=30", "v4=0"}, scope: Scope{Limits: []Limit{upTo(10)}}, want: []string{"2.5 OverLimit", "7.5 OverLimit", "0"}, detail: `MirrorLimit "production" allows 10 % of a rule's requests, and its 3 mirrors declare more together`},
		"thirds are rounded down":        {mirrors: []string{"v2=10", "v3=10", "v4=10"}, scope: Scope{Limits: []Limit{upTo(10)}}, want: []string{"3.3333 OverLimit", "3.3333 OverLimit", "3.3333 OverLimit"}},
		"a binary fraction is no less":   {mirrors: []string{"v2=3"}, scope: Scope{Limits: []Limit{upTo(0.7)}}, want: []string{"0.7 OverLimit"}},
		"the strictest of several":       {mirrors: []string{"v2"}, scope: Scope{Limits: []Limit{upTo(10), {Name: "a", MaxPercent: new(5.0), Action: Lower}}}, want: []string{"5 OverLimit"}, detail: `MirrorLimit "a" allows 5 % of a rule's requests`},
		"a limit that only denies":       {mirrors: []string{"v2"}, scope: Scope{Limits: []Limit{{Name: "a", MaxPercent: new(5.0), Action: Deny}}}, want: []string{"100"}},
		"a step":                         {mirrors: []string{"v2=25"}, scope: Scope{Policies: []Policy{ramp(1)}}, want: []string{"1 RampStep"}, detail: `step 1 of 3 of MirrorPolicy "web" copies 1 %`},
		"a step above the declared":      {mirrors: []string{"v2=25"}, scope: Scope{Policies: []Policy{ramp(50)}}, want: []string{"25"}},
		"a step below the limit":         {mirrors: []string{"v2=25"}, scope: Scope{Policies: []Policy{ramp(1)}, Limits: []Limit{upTo(10)}}, want: []string{"1 RampStep"}},
		"a limit below the step":         {mirrors: []string{"v2=25"}, scope: Scope{Policies: []Policy{ramp(20)}, Limits: []Limit{upTo(10)}}, want: []string{"10 OverLimit"}},
		"expired":                        {mirrors: []string{"v2=25", "v3=0"}, scope: Scope{Policies: []Policy{{Name: "web", Expired: true}}}, want: []string{"0 Expired", "0"}, detail: `MirrorPolicy "web" has expired`},
		"the rule's policy":              {mirrors: []string{"v2"}, scope: Scope{Policies: []Policy{ramp(1), {Section: "checkout", Percent: new(7.0)}}}, want: []string{"7 RampStep"}},
		"another rule's policy":          {mirrors: []string{"v2"}, scope: Scope{Policies: []Policy{{Section: "cart", Percent: new(7.0)}}}, want: []string{"100"}},
		"the first of two policies":      {mirrors: []string{"v2"}, scope: Scope{Policies: []Policy{ramp(3), ramp(1)}}, want: []string{"3 RampStep"}},
		"too many mirrors":               {mirrors: []string{"v2=1", "v3=0", "v4=1", "v5=1"}, scope: Scope{Limits: []Limit{{Name: "a", MaxMirrors: new(2), Action: Lower}}}, want: []string{"1", "0", "1", "0 OverLimit"}},
		"a parked one gives its share":   {mirrors: []string{"v2=10", "v3=10"}, scope: Scope{Limits: []Limit{upTo(10), {Name: "a", MaxMirrors: new(1), Action: Lower}}}, want: []string{"10", "0 OverLimit"}},
		"the route's own namespace":      {mirrors: []string{"v2", "v3.other"}, scope: Scope{Limits: []Limit{{Name: "a", Namespaces: []string{"same"}, Action: Lower}}}, want: []string{"100", "0 OverLimit"}},
		"a namespace for targets":        {mirrors: []string{"v2", "v3.shadow"}, scope: Scope{Limits: []Limit{{Name: "a", Namespaces: []string{"shadow"}, Action: Lower}}}, want: []string{"0 OverLimit", "100"}},
		"methods that are allowed":       {matches: "{method: GET}, {method: HEAD}", mirrors: []string{"v2"}, scope: Scope{Limits: []Limit{{Name: "a", Methods: []string{"GET", "HEAD"}, Action: Lower}}}, want: []string{"100"}},
		"a method that is not":           {matches: "{method: GET}, {method: POST}", mirrors: []string{"v2"}, scope: Scope{Limits: []Limit{{Name: "a", Methods: []string{"GET"}, Action: Lower}}}, want: []string{"0 OverLimit"}, detail: `MirrorLimit "a" allows to copy GET, and the rule matches POST`},
		"a match of every method":        {matches: "{method: GET}, {path: {value: /}}", mirrors: []string{"v2"}, scope: Scope{Limits: []Limit{{Name: "a", Methods: []string{"GET"}, Action: Lower}}}, want: []string{"0 OverLimit"}},
		"a rule that matches everything": {mirrors: []string{"v2"}, scope: Scope{Limits: []Limit{{Name: "a", Methods: []string{"GET"}, Action: Lower}}}, want: []string{"0 OverLimit"}},
	} {
		t.Run(name, func(t *testing.T) {
			rt := http(t, c.matches, c.mirrors...)
			verdicts, _ := Of(rt, &rt.Rules[0], c.scope)
			assert.Equal(t, c.want, percents(verdicts))
			if c.detail != "" {
				assert.Equal(t, c.detail, verdicts[0].Detail)
			}
		})
	}
}

func TestBreaches(t *testing.T) {
	rt := http(t, "", "v2=30", "v3.other", "v4=0")
	deny := Limit{Name: "a", MaxPercent: new(10.0), MaxMirrors: new(1), Namespaces: []string{"same"}, Methods: []string{"GET"}, Action: Deny}
	_, breaches := Of(rt, &rt.Rules[0], Scope{Limits: []Limit{deny}})
	var have []string
	for _, b := range breaches {
		have = append(have, fmt.Sprint(b.Mirror, " ", b.Action, ": ", b.Message))
	}
	assert.Equal(t, []string{
		`0 Deny: MirrorLimit "a" allows to copy GET, and the rule matches every method`,
		`1 Deny: MirrorLimit "a" allows targets in these namespaces alone: same`,
		`1 Deny: MirrorLimit "a" allows to copy GET, and the rule matches every method`,
		`1 Deny: MirrorLimit "a" allows 1 mirrors in a rule, and this is number 2`,
		`2 Deny: MirrorLimit "a" allows 10 % of a rule's requests, and its mirrors together copy 130 %`,
	}, have)
	deny.Action = Lower
	_, breaches = Of(rt, &rt.Rules[0], Scope{Limits: []Limit{deny}})
	assert.Empty(t, breaches, "a limit that lowers leaves nothing to deny")
}

// Requests go to one of the backendRefs, and a mirror below one copies those alone.
func TestMirrorsOfBackendRefsAreNotAdded(t *testing.T) {
	rt := decode(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web}, spec: {rules: [{
  filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 4}}],
  backendRefs: [
  {name: a, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}, percent: 6}}]},
  {name: b, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v4, port: 80}, percent: 6}}]}]}]}}`)
	verdicts, _ := Of(rt, &rt.Rules[0], Scope{Limits: []Limit{upTo(10)}})
	assert.Equal(t, []string{"4", "6", "6"}, percents(verdicts))
	verdicts, _ = Of(rt, &rt.Rules[0], Scope{Limits: []Limit{upTo(5)}})
	assert.Equal(t, []string{"2 OverLimit", "3 OverLimit", "3 OverLimit"}, percents(verdicts))
}

// Whatever limits and policies there are, in whichever order: no mirror copies more than it declares, than its step or
// than a limit allows, and those that nothing bounds are left alone.
func TestNoShareIsAboveAnyBound(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 7))
		percent := func() float64 { return []float64{0, 0.0001, 0.3, 1, 100.0 / 3, 33.3, 50, 99.9999, 100}[r.IntN(9)] }
		var mirrors []string
		for i := range 1 + r.IntN(5) {
			mirrors = append(mirrors, []string{fmt.Sprintf("v%d=%d", i, r.IntN(101)), fmt.Sprintf("v%d", i)}[r.IntN(2)])
		}
		rt := http(t, "", mirrors...)
		var scope Scope
		for i := range r.IntN(4) {
			l := Limit{Name: fmt.Sprint("limit-", i), Action: []Action{Lower, Deny, Warn}[r.IntN(3)]}
			if r.IntN(2) == 0 {
				l.MaxPercent = new(percent())
			}
			if r.IntN(3) == 0 {
				l.MaxMirrors = new(r.IntN(4))
			}
			scope.Limits = append(scope.Limits, l)
		}
		if r.IntN(2) == 0 {
			scope.Policies = append(scope.Policies, Policy{Name: "p", Percent: new(percent()), Expired: r.IntN(5) == 0})
		}
		verdicts, breaches := Of(rt, &rt.Rules[0], scope)
		checkBounds(t, fmt.Sprint("seed ", seed), rt, scope, verdicts)
		slices.Reverse(scope.Limits)
		again, breachesAgain := Of(rt, &rt.Rules[0], scope)
		require.Equal(t, verdicts, again, "the order of limits must not matter")
		require.Equal(t, breaches, breachesAgain)
	}
}

func checkBounds(t *testing.T, what string, rt *route.Route, scope Scope, verdicts []Verdict) {
	t.Helper()
	sum, on, bounded := 0.0, 0, len(scope.Policies) > 0
	for i, v := range verdicts {
		declared := rt.Rules[0].Mirrors[i].Percentage.Percent()
		require.LessOrEqual(t, v.Share.Percent(), declared, what)
		require.Equal(t, v.Lowered, v.Share.Percent() < declared, what)
		require.Equal(t, v.Lowered, v.Reason != "" && v.Detail != "", what)
		for _, p := range scope.Policies {
			require.LessOrEqual(t, v.Share.Percent(), *p.Percent, what)
			require.False(t, p.Expired && v.Share > 0, what)
		}
		sum += v.Share.Percent()
		if v.Share > 0 {
			on++
		}
	}
	for _, l := range scope.Limits {
		if l.Action != Lower {
			continue
		}
		bounded = true
		if l.MaxPercent != nil {
			require.LessOrEqual(t, sum, *l.MaxPercent+1e-9, what)
		}
		if l.MaxMirrors != nil {
			require.LessOrEqual(t, on, *l.MaxMirrors, what)
		}
	}
	for _, v := range verdicts {
		require.True(t, bounded || !v.Lowered, what)
	}
}
