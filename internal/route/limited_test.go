package route

// Limited mirrors: what is stored for them, whose word counts when somebody writes the rule, and that the declared share
// survives every history.

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// upTo limits every mirror to a percentage.
func upTo(percent float64) func(*Mirror) Placement {
	return func(*Mirror) Placement { return Placement{Share: ShareOf(percent)} }
}

func httpRule(filters string) string {
	return `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web, namespace: shop},
  spec: {rules: [{filters: [` + filters + `], backendRefs: [{name: v1, port: 80}]}]}}`
}

func toV2(share string) string {
	return "{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}" + share + "}}"
}

func removing(names ...string) string {
	return "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [" + strings.Join(names, ", ") + "]}}"
}

func meshRule(rule string) string {
	return `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web, namespace: shop},
  spec: {hosts: [web], http: [{route: [{destination: {host: v1}}], ` + rule + `}]}}`
}

func delegateRule(routes, rule string) string {
	return `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web, namespace: shop},
  spec: {http: [{route: [` + routes + `], ` + rule + `}]}}`
}

const (
	v2Filter = "1e24fc1979" // ids of targets: they are part of the stored route
	v2Host   = "b83b390ea7"
)

func nameOf(id, shares string) string { return LimitedPrefix + id + "-" + shares }

// ids returns the ids of the targets in these tests as the package makes them.
func TestIDsInMarksAreStable(t *testing.T) {
	assert.Equal(t, v2Filter, mirrorID(Target{Kind: TargetService, Namespace: "shop", Name: "v2", Port: 80}, 0))
	assert.Equal(t, v2Host, mirrorID(Target{Kind: TargetService, Namespace: "shop", Name: "v2"}, 0))
}

func TestWhatIsStoredForALimitedMirror(t *testing.T) {
	const stored = ", fraction: {numerator: 50000, denominator: 1000000}"
	own := func(declared string) string { return removing(nameOf(v2Filter, declared+"-f50000")) }
	for name, c := range map[string]struct{ author, stored string }{
		"no percentage": {httpRule(toV2("")), httpRule(toV2(stored) + ", " + own("n"))},
		"percent":       {httpRule(toV2(", percent: 25")), httpRule(toV2(stored) + ", " + own("p25"))},
		"fraction":      {httpRule(toV2(", fraction: {numerator: 1, denominator: 3}")), httpRule(toV2(stored) + ", " + own("f1o3"))},
		"fraction of a hundred": {
			httpRule(toV2(", fraction: {numerator: 7, denominator: 100}")), httpRule(toV2(stored) + ", " + own("f7"))},
		"at the end, so that no index moves": {
			httpRule(toV2("") + ", {type: ExtensionRef}"), httpRule(toV2(stored) + ", {type: ExtensionRef}, " + own("n"))},
		"into the author's modifier": {
			httpRule(removing("x-a") + ", " + toV2("")),
			httpRule(removing("x-a", nameOf(v2Filter, "n-f50000")) + ", " + toV2(stored))},
		"two equal mirrors": {
			httpRule(toV2("") + ", " + toV2("")),
			httpRule(toV2(stored) + ", " + toV2(stored) + ", " + removing(nameOf(v2Filter, "n-f50000"), nameOf(v2Filter, "n-f50000-2")))},
		"two mirrors of one target": {
			httpRule(toV2("") + ", " + toV2(", percent: 50")),
			httpRule(toV2(stored) + ", " + toV2(stored) + ", " + removing(nameOf(v2Filter, "n-f50000"), nameOf(v2Filter, "p50-f50000")))},
		"below the limit":     {httpRule(toV2(", percent: 5")), httpRule(toV2(", percent: 5"))},
		"off":                 {httpRule(toV2(", percent: 0")), httpRule(toV2(", percent: 0"))},
		"an empty modifier":   {httpRule(removing() + ", " + toV2("")), httpRule(removing(nameOf(v2Filter, "n-f50000-e3")) + ", " + toV2(stored))},
		"mirror":              {meshRule("mirror: {host: v2}"), meshRule("mirror: {host: v2}, mirrorPercentage: {value: 5}, headers: {request: {remove: [" + nameOf(v2Host, "n-v5") + "]}}")},
		"mirrorPercentage":    {meshRule("mirror: {host: v2}, mirrorPercentage: {value: 12.5}"), meshRule("mirror: {host: v2}, mirrorPercentage: {value: 5}, headers: {request: {remove: [" + nameOf(v2Host, "v12d5-v5") + "]}}")},
		"mirrorPercent":       {meshRule("mirror: {host: v2}, mirrorPercent: 50"), meshRule("mirror: {host: v2}, mirrorPercentage: {value: 5}, headers: {request: {remove: [" + nameOf(v2Host, "w50-v5") + "]}}")},
		"mirror_percent":      {meshRule("mirror: {host: v2}, mirror_percent: 50"), meshRule("mirror: {host: v2}, mirrorPercentage: {value: 5}, headers: {request: {remove: [" + nameOf(v2Host, "u50-v5") + "]}}")},
		"mirrors":             {meshRule("mirrors: [{destination: {host: v2}}]"), meshRule("mirrors: [{destination: {host: v2}, percentage: {value: 5}}], headers: {request: {remove: [" + nameOf(v2Host, "n-v5") + "]}}")},
		"a share in mirrors":  {meshRule("mirrors: [{destination: {host: v2}, percentage: {value: 50}}]"), meshRule("mirrors: [{destination: {host: v2}, percentage: {value: 5}}], headers: {request: {remove: [" + nameOf(v2Host, "v50-v5") + "]}}")},
		"headers of the rule": {meshRule("mirror: {host: v2}, headers: {request: {set: {a: b}}}"), meshRule("mirror: {host: v2}, mirrorPercentage: {value: 5}, headers: {request: {set: {a: b}, remove: [" + nameOf(v2Host, "n-v5") + "]}}")},
		"a delegate, everywhere": {
			delegateRule("{destination: {host: v1}}, {destination: {host: v3}}", "mirror: {host: v2}"),
			delegateRule("{destination: {host: v1}, headers: {request: {remove: ["+nameOf(v2Host, "n-v5")+"]}}}, {destination: {host: v3}, headers: {request: {remove: ["+nameOf(v2Host, "n-v5")+"]}}}",
				"mirror: {host: v2}, mirrorPercentage: {value: 5}")},
	} {
		t.Run(name, func(t *testing.T) {
			author, want := fromYAML(t, c.author), fromYAML(t, c.stored)
			have, plan := applyPlaced(t, author, nil, upTo(5))
			sameJSON(t, want, have, "stored")
			assert.Empty(t, plan.Misfits)
			assert.Empty(t, plan.Instead)
			back, _ := applyPlan(t, have, none)
			sameJSON(t, author, back, "what the author declared comes back")
			for _, m := range decode(t, have, nil).Every {
				assert.InDelta(t, decode(t, author, nil).Rules[0].Mirrors[0].Percentage.Percent(), firstOf(t, have).Percentage.Percent(), 0)
				assert.LessOrEqual(t, m.Copies(), 5.0)
			}
		})
	}
}

func firstOf(t *testing.T, raw []byte) *Mirror {
	t.Helper()
	return &decode(t, raw, nil).Rules[0].Mirrors[0]
}

// Whose word counts when a rule with a limited mirror is written: each of these is stored while the limit is 5 %, and the
// last column is what is declared then.
func TestWhoseWordCounts(t *testing.T) {
	const (
		five  = ", fraction: {numerator: 50000, denominator: 1000000}"
		seven = ", fraction: {numerator: 70000, denominator: 1000000}"
	)
	p25, p50 := nameOf(v2Filter, "p25-f50000"), nameOf(v2Filter, "p50-f50000")
	limitedMesh := func(fields string) string {
		return meshRule("mirror: {host: v2}, " + fields + ", headers: {request: {remove: [" + nameOf(v2Host, "v25-v5") + "]}}")
	}
	for name, c := range map[string]struct{ written, declared string }{
		"nothing was edited":               {httpRule(toV2(five) + ", " + removing(p25)), httpRule(toV2(", percent: 25"))},
		"applied again from Git":           {httpRule(toV2(", percent: 25")), httpRule(toV2(", percent: 25"))},
		"the share was edited in place":    {httpRule(toV2(seven) + ", " + removing(p25)), httpRule(toV2(seven))},
		"a percent was added beside it":    {httpRule(toV2(five+", percent: 80") + ", " + removing(p25)), httpRule(toV2(", percent: 80"))},
		"the share was taken out":          {httpRule(toV2("") + ", " + removing(p25)), httpRule(toV2(""))},
		"the mirror was deleted":           {httpRule(removing(p25)), httpRule("")},
		"the mark was deleted":             {httpRule(toV2(five)), httpRule(toV2(five))},
		"another target in place":          {httpRule(strings.Replace(toV2(five), "v2", "v9", 1) + ", " + removing(p25)), httpRule(strings.Replace(toV2(five), "v2", "v9", 1))},
		"another port in place":            {httpRule(strings.Replace(toV2(five), "80", "81", 1) + ", " + removing(p25)), httpRule(strings.Replace(toV2(five), "80", "81", 1))},
		"one of two mirrors was deleted":   {httpRule(toV2(five) + ", " + removing(p50, p25)), httpRule(toV2(", percent: 25"))},
		"a copy of the mirror":             {httpRule(toV2(five) + ", " + toV2(five) + ", " + removing(p25)), httpRule(toV2(", percent: 25") + ", " + toV2(five))},
		"a forged mark below what stands":  {httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "p4-f50000"))), httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "p4-f50000")))},
		"a forged mark of 200 %":           {httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "p200-f50000"))), httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "p200-f50000")))},
		"a mark of both forms":             {httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "v25-f50000"))), httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "v25-f50000")))},
		"a mark that is spelled otherwise": {httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "p25-f050000"))), httpRule(toV2(five) + ", " + removing(nameOf(v2Filter, "p25-f050000")))},
		"the modifier went elsewhere":      {httpRule(removing(p25) + ", " + toV2(five)), httpRule(toV2(", percent: 25"))},
		"a mesh's share in place":          {limitedMesh("mirrorPercentage: {value: 7}"), meshRule("mirror: {host: v2}, mirrorPercentage: {value: 7}")},
		"a mesh's other form beside it":    {limitedMesh("mirrorPercentage: {value: 5}, mirrorPercent: 80"), meshRule("mirror: {host: v2}, mirrorPercent: 80")},
		"a mesh's mirror was deleted":      {limitedMesh("mirrorPercentage: {value: 5}"), meshRule("mirror: {host: v2}, mirrorPercentage: {value: 25}")},
		"a delegate lost one of its marks": {
			delegateRule("{destination: {host: v1}}, {destination: {host: v3}, headers: {request: {remove: ["+nameOf(v2Host, "v25-v5")+"]}}}", "mirror: {host: v2}, mirrorPercentage: {value: 5}"),
			delegateRule("{destination: {host: v1}}, {destination: {host: v3}}", "mirror: {host: v2}, mirrorPercentage: {value: 25}"),
		},
		"a delegate lost all of them": {
			delegateRule("{destination: {host: v1}}", "mirror: {host: v2}, mirrorPercentage: {value: 5}"),
			delegateRule("{destination: {host: v1}}", "mirror: {host: v2}, mirrorPercentage: {value: 5}"),
		},
		"hosts were added to a delegate": {
			strings.Replace(delegateRule("{destination: {host: v1}, headers: {request: {remove: ["+nameOf(v2Host, "v25-v5")+"]}}}", "mirror: {host: v2}, mirrorPercentage: {value: 5}"), "spec: {", "spec: {hosts: [web], ", 1),
			meshRule("mirror: {host: v2}, mirrorPercentage: {value: 25}"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			written := fromYAML(t, c.written)
			stored, _ := applyPlaced(t, written, nil, upTo(5))
			declared, _ := applyPlan(t, stored, none)
			want := clone(tree(t, fromYAML(t, c.declared))).(map[string]any)
			have := clone(tree(t, declared)).(map[string]any)
			for _, rt := range []map[string]any{want, have} {
				rules, _ := rulesOf(rt)
				for _, rule := range rules {
					if filters, ok := objectOf(rule)["filters"]; ok && len(list(filters)) == 0 {
						delete(objectOf(rule), "filters")
					}
				}
			}
			same(t, want, have, "declared")
			direct, _ := applyPlan(t, written, none)
			sameJSON(t, declared, direct, "the limit does not decide about what is declared")
		})
	}
}

// Where a limited mirror has no room, it is parked, and comes back as it was declared; where nothing has, it stays.
func TestALimitedMirrorWithoutRoom(t *testing.T) {
	others := strings.Repeat("{type: ExtensionRef}, ", 15)
	full := fromYAML(t, httpRule(others+toV2("")))
	stored, plan := applyPlaced(t, full, nil, upTo(5))
	assert.Equal(t, map[string]string{firstOf(t, full).ID: misfitFilters}, plan.Instead)
	assert.Empty(t, plan.Misfits)
	assert.True(t, firstOf(t, stored).Parked)
	back, _ := applyPlan(t, stored, none)
	sameJSON(t, full, back, "back")

	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprint("x-", i))
	}
	crowded := fromYAML(t, httpRule(removing(names...)+", "+toV2("")))
	stored, plan = applyPlaced(t, crowded, nil, upTo(5))
	assert.Equal(t, map[string]string{firstOf(t, crowded).ID: misfitRemove}, plan.Misfits)
	assert.Empty(t, plan.Instead)
	sameJSON(t, crowded, stored, "nothing fits")

	strange := fromYAML(t, httpRule(toV2(", fraction: {numerator: 1, denominator: 2, later: true}")))
	stored, plan = applyPlaced(t, strange, nil, upTo(5))
	assert.Len(t, plan.Instead, 1)
	back, _ = applyPlan(t, stored, none)
	sameJSON(t, strange, back, "back")

	root := fromYAML(t, strings.Replace(meshRule("mirror: {host: v2}, mirrorPercentage: {value: 50}"), "route: [{destination: {host: v1}}]", "delegate: {name: shop}", 1))
	stored, plan = applyPlaced(t, root, nil, upTo(5))
	assert.Equal(t, map[string]string{firstOf(t, root).ID: misfitInherited}, plan.Instead)
	rules, _ := rulesOf(tree(t, stored))
	assert.Equal(t, map[string]any{"value": json.Number("50")}, objectOf(rules[0])["mirrorPercentage"], "delegates inherit it")
}

// someShares returns a choice of mirrors to park and to limit.
func (m *maker) someShares() func(*Mirror) Placement {
	park, salt := m.some(), m.IntN(100)
	return func(mirror *Mirror) Placement {
		shares := []Share{0, 1, 5, 50_000, 70_000, 333_333, 999_999, All}
		at := (salt + len(mirror.Target.Name) + int(mirror.Target.Port) + mirror.position.backend) % len(shares)
		return Placement{Parked: park(mirror), Share: shares[max(at, 0)]}
	}
}

// The stored route depends on what is declared and on where mirrors belong alone, whatever happened before: limits come
// and go, variants do, Git applies again, and an export is applied. What is declared comes back, and no mirror has a
// share above it.
func TestNoHistoryLosesADeclaredShare(t *testing.T) {
	limited, parked, instead := 0, 0, 0
	eachSeed(t, 400, func(t *testing.T, m *maker, raw []byte) {
		author := withDefaults(tree(t, raw))
		stored := encode(t, author)
		place := func(*Mirror) Placement { return Placement{} }
		for range 5 {
			before := place
			place = m.someShares()
			written := stored
			var previous *Route
			switch m.IntN(5) {
			case 0: // Git applies again, perhaps without the defaults that the API server added
				place = before
				written, previous = encode(t, ownManifest(tree(t, raw), tree(t, stored))), decode(t, stored, nil)
			case 1: // somebody inserts, swaps, copies or deletes rules of the stored route
				edited := tree(t, stored)
				m.edit(author, edited)
				raw, written = encode(t, author), encode(t, edited)
			case 2: // the author declares other shares
				m.redeclare(author)
				raw = encode(t, author)
				written, previous = encode(t, ownManifest(author, tree(t, stored))), decode(t, stored, nil)
			}
			out, plan := applyPlaced(t, written, previous, place)
			direct, _ := applyPlaced(t, encode(t, author), nil, place)
			stored = encode(t, withDefaults(tree(t, out)))
			same(t, withDefaults(tree(t, direct)), withDefaults(tree(t, stored)), "the history must not matter")
			again, plan2 := applyPlaced(t, stored, nil, place) // reinvocation, dry run, an export
			require.Empty(t, plan2.Operations, "%s", again)
			require.Empty(t, plan.Misfits)
			limited, parked, instead = limited+len(plan.Limited), parked+len(plan.Parked), instead+len(plan.Instead)
			wantWithin(t, author, stored, place)
			back, _ := applyPlan(t, stored, none)
			same(t, author, withDefaults(tree(t, back)), "the author's route must come back")
		}
	})
	require.Greater(t, limited, 200)
	require.Greater(t, parked, 200)
	require.Positive(t, instead)
}

// wantWithin fails if a mirror has a larger share in the spec than it declares, or than it may have. It reads the stored
// JSON alone.
func wantWithin(t *testing.T, author map[string]any, stored []byte, place func(*Mirror) Placement) {
	t.Helper()
	declaredRules := decode(t, encode(t, author), nil)
	plain := tree(t, stored)
	forget(plain)
	now := map[int]Rule{} // without marks and entries, what stands is declared
	for _, r := range decode(t, encode(t, plain), nil).Rules {
		now[r.index] = r
	}
	for i := range declaredRules.Rules {
		for j := range declaredRules.Rules[i].Mirrors {
			d := &declaredRules.Rules[i].Mirrors[j]
			if place(d).Parked {
				continue
			}
			most := 0.0
			for _, s := range now[declaredRules.Rules[i].index].Mirrors {
				if s.Target == d.Target && s.position.backend == d.position.backend {
					most = max(most, s.Percentage.Percent())
				}
			}
			require.LessOrEqual(t, most, largestOf(declaredRules.Rules[i].Mirrors, d, place), "%s of %s", d.Target.Name, stored)
		}
	}
}

// largestOf returns the largest share that a mirror of a rule may have with the target and the list of another.
func largestOf(mirrors []Mirror, of *Mirror, place func(*Mirror) Placement) float64 {
	most := 0.0
	for i := range mirrors {
		m := &mirrors[i]
		if m.Target != of.Target || m.position.backend != of.position.backend {
			continue
		}
		percent := m.Percentage.Percent()
		if at := place(m); at.Share > 0 && m.fault == "" {
			percent = min(percent, at.Share.Percent())
		}
		most = max(most, percent)
	}
	return most
}

// forget takes placeholders, marks and entries out of a route.
func forget(route map[string]any) {
	delete(objectOf(at(route, "metadata", "annotations")), ParkedAnnotation)
	rules, _ := rulesOf(route)
	for _, r := range rules {
		for _, holder := range append([]any{r}, list(objectOf(r)["route"])...) {
			stripPlaceholders(objectOf(at(holder, "headers", "request")))
		}
		for _, f := range list(at(r, "filters")) {
			stripPlaceholders(objectOf(at(f, "requestHeaderModifier")))
		}
	}
}

// redeclare gives a random mirror of the author's another share.
func (m *maker) redeclare(author map[string]any) {
	rules, _ := rulesOf(author)
	for _, r := range rules {
		for _, h := range append([]any{r}, list(at(r, "backendRefs"))...) {
			for _, f := range list(at(h, "filters")) {
				if mirror := objectOf(at(f, "requestMirror")); isMirrorFilter(f) && m.oneIn(2) {
					delete(mirror, "fraction")
					mirror["percent"] = json.Number(pick(m, "0", "1", "30", "100"))
				}
			}
		}
		for _, e := range list(at(r, "mirrors")) {
			if m.oneIn(2) {
				objectOf(e)["percentage"] = fields{"value": json.Number(pick(m, "0", "0.5", "30", "1e-05"))}
			}
		}
	}
}

// Lists at and above their limits: no list grows over its limit, and what is declared comes back.
func TestFullListsOfLimitedMirrors(t *testing.T) {
	instead, misfits := 0, 0
	eachSeed(t, 100, func(t *testing.T, m *maker, _ []byte) {
		m.size = 16
		author := withDefaults(tree(t, encode(t, m.crowd(m.route()))))
		stored := encode(t, author)
		for range 4 {
			before := stored
			var plan Plan
			stored, plan = applyPlaced(t, stored, nil, m.someShares())
			instead, misfits = instead+len(plan.Instead), misfits+len(plan.Misfits)
			if m.kind == VirtualService {
				continue
			}
			was := lengths(tree(t, before))
			for way, n := range lengths(tree(t, stored)) {
				require.LessOrEqual(t, n, max(16, was[way]), "%s must not grow\nbefore: %s\nafter:  %s", way, before, stored)
			}
		}
		back, plan := applyPlan(t, stored, none)
		require.Empty(t, plan.Misfits)
		same(t, author, withDefaults(tree(t, back)), "the author's route must come back")
	})
	require.Positive(t, instead)
	require.Positive(t, misfits)
}

// A list of forged marks as long as a route may have costs no more than a list of as many names.
func TestForgedMarksCostLinearTime(t *testing.T) {
	var names, mirrors []string
	for i := range 7_000 {
		names = append(names, nameOf(fmt.Sprintf("%010x", i%1000), fmt.Sprintf("v%d-v5-%d", 6+i%90, 2+i%90_000)))
	}
	for i := range 1000 {
		mirrors = append(mirrors, fmt.Sprintf("{destination: {host: v%d}, percentage: {value: 5}}", i))
	}
	raw := fromYAML(t, meshRule("mirrors: ["+strings.Join(mirrors, ", ")+"], headers: {request: {remove: ["+strings.Join(names, ", ")+"]}}"))
	rt := decode(t, raw, nil)
	allocations := testing.AllocsPerRun(1, func() { _, err := rt.PlanShares(upTo(1)); require.NoError(t, err) })
	assert.Less(t, allocations, 50.0*7_000)
	assert.Len(t, rt.Rules[0].Mirrors, 1000)
}
