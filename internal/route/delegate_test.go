package route

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const delegate = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  http:
  - name: a
    route: [{destination: {host: v1}, weight: 50}, {destination: {host: v4}, weight: 50, headers: {request: {remove: [x-a]}}}]
    mirror: {host: v2, subset: x}
    mirrorPercentage: {value: 12.5}
  - name: b
    route: [{destination: {host: v1}, headers: {}}]
    mirrors:
    - {destination: {host: v2}, percentage: {value: 1E-05}}
    - {destination: {host: v3}}
  - name: c
    redirect: {uri: /}
    mirror: {host: v3}
`

// A delegate inherits its root's headers, mirror and percentage where it has none: parked mirrors stay in
// place with percentage 0, and their placeholders stand where nothing is merged.
func TestADelegatesMirrorsAreSilencedInPlace(t *testing.T) {
	raw := fromYAML(t, delegate)
	stored, a := applyPlan(t, raw, all)
	same(t, clone(tree(t, fromYAML(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  http:
  - name: a
    route:
    - {destination: {host: v1}, weight: 50, headers: {request: {remove: [x-mirrorgate-parked-21082a599c-v12d5-v0]}}}
    - {destination: {host: v4}, weight: 50, headers: {request: {remove: [x-a, x-mirrorgate-parked-21082a599c-v12d5-v0]}}}
    mirror: {host: v2, subset: x}
    mirrorPercentage: {value: 0}
  - name: b
    route:
    - destination: {host: v1}
      headers: {request: {remove: [x-mirrorgate-parked-b83b390ea7-v0d00001-v0-k0-e1, x-mirrorgate-parked-868f67da82-n-v0-k1-e1]}}
    mirrors:
    - {destination: {host: v2}, percentage: {value: 0}}
    - {destination: {host: v3}, percentage: {value: 0}}
  - name: c
    redirect: {uri: /}
    mirror: {host: v3}
`))), clone(tree(t, stored)), "the stored form")
	assert.Equal(t, []string{misfitBare}, valuesOf(a.Misfits))

	rt := decode(t, stored, nil)
	shares := map[string]float64{}
	for _, m := range rt.Every {
		shares[m.Target.Name+m.Target.Subset] = m.Percentage.Percent()
	}
	assert.Equal(t, map[string]float64{"v2x": 12.5, "v2": 1e-05, "v3": 100}, shares, "the declared percentages")
	everyState(t, raw)
}

// A mirror that its author writes again, edits or takes out while it is silenced is as he wrote it.
func TestEditsOfASilencedMirror(t *testing.T) {
	stored, _ := applyPlan(t, fromYAML(t, delegate), all)
	for name, edit := range map[string]struct {
		edit func(first fields)
		want any
	}{
		"percentage": {func(r fields) { r["mirrorPercentage"] = fields{"value": json.Number("3")} }, fields{"value": json.Number("3")}},
		"target":     {func(r fields) { r["mirror"] = fields{"host": "v5"} }, fields{"value": json.Number("0")}},
		"no mirror":  {func(r fields) { delete(r, "mirror"); delete(r, "mirrorPercentage") }, nil},
		"no placeholder": {func(r fields) {
			r["route"] = []any{fields{"destination": fields{"host": "v1"}}}
		}, fields{"value": json.Number("0")}},
	} {
		t.Run(name, func(t *testing.T) {
			edited := tree(t, stored)
			rules, _ := rulesOf(edited)
			edit.edit(objectOf(rules[0]))
			replaced := decode(t, encode(t, edited), nil).Rules[0].Replaced
			require.Len(t, replaced, map[bool]int{true: 1}[name == "percentage"])
			for _, m := range replaced {
				assert.InDelta(t, 12.5, m.Percentage.Percent(), 0)
			}
			back, _ := applyPlan(t, encode(t, edited), none)
			rules, _ = rulesOf(tree(t, back))
			assert.Equal(t, edit.want, objectOf(rules[0])["mirrorPercentage"])
			assert.NotContains(t, string(back), PlaceholderPrefix)
		})
	}
}

// A VirtualService that gets hosts, or loses them, while mirrors are parked keeps them in the other form.
func TestAParkedMirrorChangesItsFormWithTheHosts(t *testing.T) {
	for name, text := range map[string]string{"delegate": delegate, "root": mesh} {
		t.Run(name, func(t *testing.T) {
			raw := fromYAML(t, text)
			out, _ := applyPlan(t, raw, all)
			stored := tree(t, out)
			other := tree(t, raw)
			for _, r := range []fields{stored, other} {
				spec := objectOf(r["spec"])
				if _, ok := spec["hosts"]; ok {
					delete(spec, "hosts")
				} else {
					spec["hosts"] = []any{"web"}
				}
			}
			got, _ := applyPlan(t, encode(t, stored), all)
			want, _ := applyPlan(t, encode(t, other), all)
			sameJSON(t, want, got, "the form depends on the hosts")
			back, _ := applyPlan(t, got, none)
			same(t, clone(other), clone(tree(t, back)), "nothing is lost")
		})
	}
}

// A single mirror has no place beside another one, whichever form it is parked in.
func TestAParkedMirrorWithoutAPlaceStaysInTheAnnotation(t *testing.T) {
	stored, _ := applyPlan(t, fromYAML(t, mesh), all)
	edited := tree(t, stored)
	delete(objectOf(edited["spec"]), "hosts")
	rules, _ := rulesOf(edited)
	objectOf(rules[0])["mirrors"] = []any{elementTo(7)}
	out, _ := applyPlan(t, encode(t, edited), not("v7"))
	assert.Contains(t, at(tree(t, out), "metadata", "annotations", ParkedAnnotation), `"stanza"`)
	assert.NotContains(t, string(out), `"mirror":`)
}

// Delegates inherit the percentages of a root's rule, also without a mirror: only its mirror is taken out.
func TestARootsPercentagesStay(t *testing.T) {
	raw := fromYAML(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - {delegate: {name: shop}, mirror: {host: v2}, mirrorPercentage: {value: 5}, mirrorPercent: 7}
`)
	stored, _ := applyPlan(t, raw, all)
	rules, _ := rulesOf(tree(t, stored))
	rule := objectOf(rules[0])
	assert.Equal(t, fields{"value": json.Number("5")}, rule["mirrorPercentage"])
	assert.Equal(t, json.Number("7"), rule["mirrorPercent"])
	assert.NotContains(t, rule, "mirror")
	rt := decode(t, stored, nil)
	assert.InDelta(t, 5, rt.Rules[0].Mirrors[0].Percentage.Percent(), 0)
	assert.Nil(t, rt.Rules[0].LoosePercent)

	edited := []byte(strings.Replace(string(stored), `{"value":5}`, `{"value":6}`, 1))
	back, _ := applyPlan(t, edited, none)
	sameJSON(t, []byte(strings.Replace(string(raw), `{"value":5}`, `{"value":6}`, 1)), back, "an edit of the percentage holds")
	everyState(t, raw)
}

// Names that mirrorgate does not write are the user's.
func TestForgedPlaceholdersOfADelegate(t *testing.T) {
	for _, name := range []string{
		"v1-v0", "21082a599c-v12d5", "21082a599c-v12d5-v1", "21082a599c-v12d5-v0-k01", "21082a599c-v12d5-v0-e0", "21082a599c-v1e-v0",
		"21082a599c-vm-v0", "21082a599c-v012-v0", "21082a599c-v" + strings.Repeat("1", 25) + "-v0", "21082A599C-n-v0", "21082a599c-n-v0-k9999999",
	} {
		_, ok := readMark(PlaceholderPrefix + name)
		assert.False(t, ok, name)
	}
	for _, name := range []string{"21082a599c-n-v0", "21082a599c-v-v0-k0", "21082a599c-v1d50-v0-k12-e3", "21082a599c-v1xp5-v0"} {
		m, ok := readMark(PlaceholderPrefix + name)
		require.True(t, ok, name)
		assert.Equal(t, PlaceholderPrefix+name, m.name())
	}
}

// Mirrors and entries of route multiply: a rule with many of both is left alone.
func TestADelegatesPlaceholdersAreBounded(t *testing.T) {
	routes := func(n int) []any {
		return times(n, func(int) any { return fields{"destination": fields{"host": "v1"}} })
	}
	r := virtualService(fields{"mirrors": times(100, elementTo), "route": routes(50)})
	delete(objectOf(r["spec"]), "hosts")
	raw := encode(t, r)
	out, a := applyPlan(t, raw, all)
	sameJSON(t, raw, out, "it must stay")
	assert.Len(t, a.Misfits, 100)

	rule := fields{"mirrors": times(100, elementTo), "route": routes(40)}
	objectOf(r["spec"])["http"] = []any{rule}
	stored, a := applyPlan(t, encode(t, r), all)
	require.Empty(t, a.Misfits)
	edited := tree(t, stored)
	rules, _ := rulesOf(edited)
	objectOf(rules[0])["route"] = append(list(objectOf(rules[0])["route"]), routes(10)...)
	out, _ = applyPlan(t, encode(t, edited), all)
	sameJSON(t, encode(t, edited), out, "its placeholders stay as they are")
	_, a = applyPlan(t, encode(t, edited), none)
	assert.Empty(t, a.Misfits)
}

// What a placeholder cannot hold is not parked.
func TestAPercentageThatDoesNotFitAPlaceholder(t *testing.T) {
	for _, percentage := range []string{`{"value":5,"unknown":1}`, `{"unknown":1}`, `{"value":0.` + strings.Repeat("1", 30) + `}`} {
		raw := strings.Replace(string(fromYAML(t, delegate)), `{"value":12.5}`, percentage, 1)
		require.Contains(t, raw, percentage)
		_, a := applyPlan(t, []byte(raw), not("v2", "v3"))
		assert.Equal(t, []string{misfitShare}, valuesOf(a.Misfits), percentage)
	}
}

func TestWithMember(t *testing.T) {
	for _, c := range []struct{ object, value, want string }{
		{`{}`, `1`, `{"a":1}`}, {`{}`, ``, `{}`},
		{`{"b":2}`, `1`, `{"b":2,"a":1}`}, {`{"a":0}`, `1`, `{"a":1}`}, {`{"a":0}`, ``, `{}`},
		{`{"a":0,"b":2}`, ``, `{"b":2}`}, {`{"b":2,"a":0,"c":{"a":3}}`, ``, `{"b":2,"c":{"a":3}}`},
		{`{ "a" : {} , "b" : 2 }`, ``, `{ "b" : 2 }`}, {`{ "b" : 2 }`, `1`, `{ "b" : 2 ,"a":1}`},
	} {
		var value json.RawMessage
		if c.value != "" {
			value = json.RawMessage(c.value)
		}
		assert.Equal(t, c.want, string(withMember(json.RawMessage(c.object), "a", value)), "%+v", c)
	}
}
