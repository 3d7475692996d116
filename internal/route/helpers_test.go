package route

// Helpers of this package's tests, and a checker of plans that reads plain JSON and shares no code with the
// package.

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"gomodules.xyz/jsonpatch/v2"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/patch"
)

func all(*Mirror) bool  { return true }
func none(*Mirror) bool { return false }

// not parks the mirrors to every target but the named ones.
func not(ready ...string) func(*Mirror) bool {
	return func(m *Mirror) bool { return !slices.Contains(ready, m.Target.Name+m.Target.Subset) }
}

func fromYAML(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	return raw
}

func decode(t testing.TB, raw []byte, previous *Route) *Route {
	t.Helper()
	var opts Options
	if previous != nil {
		opts.Previous = func() *Route { return previous }
	}
	rt, err := Decode(raw, opts)
	require.NoError(t, err, "%s", raw)
	return rt
}

// applyPlan applies Plan and checks what must hold for every route.
func applyPlan(t testing.TB, raw []byte, park func(*Mirror) bool) ([]byte, Plan) {
	t.Helper()
	return applyPlanAfter(t, raw, nil, park)
}

// applyPlanAfter is applyPlan for a write on top of a previous version.
func applyPlanAfter(t testing.TB, raw []byte, previous *Route, park func(*Mirror) bool) ([]byte, Plan) {
	t.Helper()
	return applyPlaced(t, raw, previous, func(m *Mirror) Placement { return Placement{Parked: park(m)} })
}

// applyPlaced is applyPlanAfter for mirrors that may be limited.
func applyPlaced(t testing.TB, raw []byte, previous *Route, place func(*Mirror) Placement) ([]byte, Plan) {
	t.Helper()
	rt := decode(t, raw, previous)
	a, err := rt.PlanShares(place)
	require.NoError(t, err)
	repeat, err := rt.PlanShares(place)
	require.NoError(t, err)
	require.Equal(t, a, repeat, "the same route must give the same plan")

	out, err := patch.Apply(raw, a.Operations)
	require.NoError(t, err, "operations must apply to %s", raw)
	second, err := decode(t, out, nil).PlanShares(place)
	require.NoError(t, err)
	require.Empty(t, second.Operations, "a second plan must be empty\nfirst:  %v\nbefore: %s\nafter:  %s", a.Operations, raw, out)

	same(t, stripped(tree(t, raw)), stripped(tree(t, out)), "only mirrors and the parked annotation may change")
	wantOracle(t, raw, out, a.Operations)
	return out, a
}

// places are the parts of a route that hold mirrors, placeholders and parked entries. mirrorgate may change
// no other part.
var places = regexp.MustCompile(`^(/metadata/annotations(/mirrorgate\.dev~1parked|$)` +
	`|/spec/rules/\d+(/backendRefs/\d+)?/filters` +
	`|/spec/http/\d+/(mirrors?|mirrorPercentage|mirrorPercent|mirror_percent|headers|route/\d+/headers))(/|$)`)

// changedBy returns the places that operations change.
func changedBy(t testing.TB, ops []patch.Operation) map[string]bool {
	t.Helper()
	changed := map[string]bool{}
	for _, op := range ops {
		place := places.FindStringSubmatch(op.Path)
		require.NotNil(t, place, "%s %s is outside the places that mirrorgate may change", op.Operation, op.Path)
		changed[place[1]] = true
	}
	return changed
}

// wantOracle compares a route before and after with another library: the places that differ are exactly those
// that the operations name, and mirrorgate may change all of them. stripped compares the other elements of
// such a place.
func wantOracle(t testing.TB, before, after []byte, ops []patch.Operation) {
	t.Helper()
	differences, err := jsonpatch.CreatePatch(before, after)
	require.NoError(t, err)
	same(t, changedBy(t, differences), changedBy(t, ops), "operations must name exactly the places that differ")
}

// parse reads a JSON object with numbers as they are written.
func parse(raw []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v map[string]any
	err := dec.Decode(&v)
	return v, err
}

func tree(t testing.TB, raw []byte) map[string]any {
	t.Helper()
	v, err := parse(raw)
	require.NoError(t, err, "%s", raw)
	return v
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return raw
}

// same fails with a diff where two trees differ.
func same(t testing.TB, want, got any, why string) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("%s (-want +got):\n%s", why, gocmp.Diff(want, got))
	}
}

func sameJSON(t testing.TB, want, got []byte, why string) {
	t.Helper()
	if !bytes.Equal(want, got) {
		same(t, tree(t, want), tree(t, got), why)
	}
}

// at walks down a tree; it returns nil when a member on the way is missing.
func at(v any, way ...string) any {
	for _, key := range way {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func list(v any) []any { l, _ := v.([]any); return l }

func objectOf(v any) map[string]any { m, _ := v.(map[string]any); return m }

// rulesOf returns the rules of a route's tree and the name of their list.
func rulesOf(route map[string]any) ([]any, string) {
	if route["kind"] == "VirtualService" {
		return list(at(route, "spec", "http")), "http"
	}
	return list(at(route, "spec", "rules")), "rules"
}

func isPlaceholder(v any) bool {
	name, _ := v.(string)
	return strings.HasPrefix(name, "x-mirrorgate-parked-") || strings.HasPrefix(name, "x-mirrorgate-limited-")
}

func isMirrorFilter(v any) bool {
	return at(v, "type") == "RequestMirror" && objectOf(at(v, "requestMirror")) != nil
}

// stripped returns a copy of a route without the parts that mirrorgate may change: mirrors, placeholders, the
// levels that hold nothing else, and the parked annotation.
func stripped(route map[string]any) map[string]any {
	route = clone(route).(map[string]any)
	annotations := objectOf(at(route, "metadata", "annotations"))
	delete(annotations, ParkedAnnotation)
	dropEmpty(objectOf(route["metadata"]), "annotations")
	rules, _ := rulesOf(route)
	for _, r := range rules {
		rule := objectOf(r)
		for _, key := range []string{"mirror", "mirrors", "mirrorPercentage", "mirrorPercent", "mirror_percent"} {
			delete(rule, key)
		}
		for _, holder := range append([]any{rule}, list(rule["route"])...) {
			stripPlaceholders(objectOf(at(holder, "headers", "request")))
			dropEmpty(objectOf(at(holder, "headers")), "request")
			dropEmpty(objectOf(holder), "headers")
		}
		stripFilters(rule)
		for _, b := range list(rule["backendRefs"]) {
			stripFilters(objectOf(b))
		}
	}
	return route
}

func stripFilters(holder map[string]any) {
	if _, ok := holder["filters"]; !ok {
		return
	}
	var rest []any
	for _, f := range list(holder["filters"]) {
		filter := objectOf(f)
		if isMirrorFilter(f) {
			continue
		}
		if filter["type"] == "RequestHeaderModifier" {
			modifier := objectOf(filter["requestHeaderModifier"])
			stripPlaceholders(modifier)
			if len(modifier) == 0 && len(filter) == 2 {
				continue
			}
		}
		rest = append(rest, f)
	}
	holder["filters"] = rest
	if len(rest) == 0 {
		delete(holder, "filters")
	}
}

func stripPlaceholders(holder map[string]any) {
	if rest := slices.DeleteFunc(slices.Clone(list(holder["remove"])), isPlaceholder); len(rest) > 0 {
		holder["remove"] = rest
	} else {
		delete(holder, "remove")
	}
}

func dropEmpty(holder map[string]any, key string) {
	if v, ok := holder[key]; ok && len(objectOf(v)) == 0 {
		delete(holder, key)
	}
}

// clone copies a tree; null members count as absent.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if e != nil {
				out[k] = clone(e)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	default:
		return v
	}
}

// declared lists, rule by rule, the sorted texts of all mirrors, those in the spec and those behind
// placeholders. None of them may ever be lost. The percentages of a VirtualService's mirrors are listed by
// themselves, because those of a delegate's parked mirrors stand in placeholders.
func declared(t testing.TB, route map[string]any) [][]string {
	t.Helper()
	text, _ := at(route, "metadata", "annotations", ParkedAnnotation).(string)
	entries, _ := parse([]byte(text)) // a text that is not a JSON object has none
	rules, _ := rulesOf(route)
	out := make([][]string, len(rules))
	for i, r := range rules {
		rule := objectOf(r)
		var texts []string
		add := func(v any) { texts = append(texts, string(encode(t, v))) }
		shares := declaredShares(rule)
		apart := func(mirror any, key string) {
			if share := objectOf(mirror)[key]; share != nil {
				shares[string(encode(t, share))]++
			}
			mirror = maps.Clone(objectOf(mirror))
			delete(objectOf(mirror), key)
			if len(objectOf(mirror)) > 0 {
				add(mirror)
			}
		}
		stanza := map[string]any{}
		for _, key := range []string{"mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"} {
			if v, ok := rule[key]; ok {
				stanza[key] = v
			}
		}
		if rule["delegate"] != nil { // its percentages stay
			for _, key := range []string{"mirrorPercent", "mirror_percent"} {
				if v, ok := stanza[key]; ok {
					add(v)
					delete(stanza, key)
				}
			}
		}
		apart(stanza, "mirrorPercentage")
		for _, m := range list(rule["mirrors"]) {
			apart(m, "percentage")
		}
		placeholders := list(at(rule, "headers", "request", "remove"))
		holders := append([]any{rule}, list(rule["backendRefs"])...)
		for _, h := range holders {
			for _, f := range list(at(h, "filters")) {
				if isMirrorFilter(f) {
					add(f)
				}
			}
		}
		for _, f := range list(rule["filters"]) {
			placeholders = append(placeholders, list(at(f, "requestHeaderModifier", "remove"))...)
		}
		for _, ph := range placeholders {
			name, _ := ph.(string)
			id, _ := strings.CutPrefix(name, "x-mirrorgate-parked-")
			e := objectOf(entries[id])
			if !isPlaceholder(ph) || e == nil {
				continue
			}
			apart(e["stanza"], "mirrorPercentage")
			apart(e["element"], "percentage")
			if e["filter"] != nil {
				add(e["filter"])
			}
		}
		for share, n := range shares {
			for range n {
				add("share " + share)
			}
		}
		slices.Sort(texts)
		out[i] = texts
	}
	return out
}

var markOf = regexp.MustCompile(`^(x-mirrorgate-parked-[0-9a-f]{10}-(n|v[a-z0-9]*)-v0(-k\d+)?)(-e\d)?$`)

// declaredShares counts the percentages in the placeholders of a delegate's rule. Each of them stands for a
// mirror in the rule with percentage 0, which is counted off.
func declaredShares(rule map[string]any) map[string]int {
	shares, seen := map[string]int{}, map[string]bool{}
	for _, r := range list(rule["route"]) {
		for _, name := range list(at(r, "headers", "request", "remove")) {
			text, _ := name.(string)
			mark := markOf.FindStringSubmatch(text)
			if mark == nil || seen[mark[1]] {
				continue
			}
			seen[mark[1]] = true
			number := strings.NewReplacer("d", ".", "m", "-", "p", "+", "x", "E").Replace(mark[2][1:])
			if value, err := strconv.ParseFloat(number, 64); mark[2] == "v" || err == nil && value == 0 {
				continue // declared off, and left as it is
			}
			shares[`{"value":0}`]--
			if mark[2] != "n" {
				shares[`{"value":`+number+`}`]++
			}
		}
	}
	return shares
}

// withDefaults fills in the defaults that the API server adds to a stored Gateway API route.
func withDefaults(route map[string]any) map[string]any {
	route = clone(route).(map[string]any)
	if route["kind"] == "VirtualService" {
		return route
	}
	put := func(holder map[string]any, key string, value any) {
		if _, ok := holder[key]; !ok && holder != nil {
			holder[key] = value
		}
	}
	rules, _ := rulesOf(route)
	for _, r := range rules {
		holders := append([]any{r}, list(at(r, "backendRefs"))...)
		for i, h := range holders {
			if i > 0 {
				put(objectOf(h), "group", "")
				put(objectOf(h), "kind", "Service")
				put(objectOf(h), "weight", json.Number("1"))
			}
			for _, f := range list(at(h, "filters")) {
				mirror := objectOf(at(f, "requestMirror"))
				put(objectOf(mirror["backendRef"]), "group", "")
				put(objectOf(mirror["backendRef"]), "kind", "Service")
				put(objectOf(mirror["fraction"]), "denominator", json.Number("100"))
			}
		}
	}
	return route
}

// ownManifest returns the object that an author's next server-side apply sends to admission: the author's
// fields, and the stored parked annotation.
func ownManifest(author, stored map[string]any) map[string]any {
	out := clone(author).(map[string]any)
	parked, ok := at(stored, "metadata", "annotations", ParkedAnnotation).(string)
	if !ok {
		return out
	}
	metadata := objectOf(out["metadata"])
	annotations := maps.Clone(objectOf(metadata["annotations"]))
	if annotations == nil {
		annotations = map[string]any{}
	}
	annotations[ParkedAnnotation] = parked
	metadata["annotations"] = annotations
	return out
}
