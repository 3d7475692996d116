package route

// What the tests of this package share: a checker of what an arrangement may
// and may not do that reads plain JSON and knows nothing of the code it checks.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
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
	d, err := Decode(raw, opts)
	require.NoError(t, err, "%s", raw)
	return d
}

// arrange applies Plan and checks what must hold for every route.
func arrange(t testing.TB, raw []byte, park func(*Mirror) bool) ([]byte, Plan) {
	t.Helper()
	return arrangeAfter(t, raw, nil, park)
}

// arrangeAfter is arrange for a write on top of a previous version.
func arrangeAfter(t testing.TB, raw []byte, previous *Route, park func(*Mirror) bool) ([]byte, Plan) {
	t.Helper()
	doc := decode(t, raw, previous)
	a, err := doc.Plan(park)
	require.NoError(t, err)
	repeat, err := doc.Plan(park)
	require.NoError(t, err)
	require.Equal(t, a, repeat, "the same document must give the same arrangement")

	out, err := patch.Apply(raw, a.Operations)
	require.NoError(t, err, "operations must apply to %s", raw)
	settled, err := decode(t, out, nil).Plan(park)
	require.NoError(t, err)
	require.Empty(t, settled.Operations, "a second decision must be empty\nfirst:  %v\nbefore: %s\nafter:  %s", a.Operations, raw, out)

	same(t, stripped(tree(t, raw)), stripped(tree(t, out)), "only mirrors and our annotation may change")
	wantOracle(t, raw, out, a.Operations)
	return out, a
}

// places are the parts of a route that hold mirrors and what stands for parked
// ones. Nothing else is mirrorgate's to change.
var places = regexp.MustCompile(`^(/metadata/annotations(/mirrorgate\.dev~1parked|$)` +
	`|/spec/rules/\d+(/backendRefs/\d+)?/filters` +
	`|/spec/http/\d+/(mirrors?|mirrorPercentage|mirrorPercent|mirror_percent|headers))(/|$)`)

// touchedBy are the places that operations touch.
func touchedBy(t testing.TB, ops []patch.Operation) map[string]bool {
	t.Helper()
	touched := map[string]bool{}
	for _, op := range ops {
		place := places.FindStringSubmatch(op.Path)
		require.NotNil(t, place, "%s %s touches what is not ours", op.Operation, op.Path)
		touched[place[1]] = true
	}
	return touched
}

// wantOracle compares a route before and after with another library: there is a
// difference in exactly those places that the operations name, and all of them
// are ours. What stands beside mirrors in one place is for stripped to compare.
func wantOracle(t testing.TB, before, after []byte, ops []patch.Operation) {
	t.Helper()
	differences, err := jsonpatch.CreatePatch(before, after)
	require.NoError(t, err)
	same(t, touchedBy(t, differences), touchedBy(t, ops), "operations touch other places than those that differ")
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

// at walks down a tree; nil when the way is missing.
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

func isMark(v any) bool {
	name, _ := v.(string)
	return strings.HasPrefix(name, "x-mirrorgate-parked-")
}

func isMirrorFilter(v any) bool {
	return at(v, "type") == "RequestMirror" && objectOf(at(v, "requestMirror")) != nil
}

// stripped returns a copy of a route without what mirrorgate may change:
// mirrors, placeholders, the levels that only hold them, and our annotation.
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
		request := objectOf(at(rule, "headers", "request"))
		stripMarks(request)
		dropEmpty(objectOf(rule["headers"]), "request")
		dropEmpty(rule, "headers")
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
			stripMarks(modifier)
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

func stripMarks(holder map[string]any) {
	if rest := slices.DeleteFunc(slices.Clone(list(holder["remove"])), isMark); len(rest) > 0 {
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

// declared lists, rule by rule, the texts of all mirrors, those in the spec and
// those behind placeholders, sorted: what must never be lost.
func declared(t testing.TB, route map[string]any) [][]string {
	t.Helper()
	text, _ := at(route, "metadata", "annotations", ParkedAnnotation).(string)
	entries, _ := parse([]byte(text)) // what is no JSON object has none
	rules, _ := rulesOf(route)
	out := make([][]string, len(rules))
	for i, r := range rules {
		rule := objectOf(r)
		var texts []string
		add := func(v any) { texts = append(texts, string(encode(t, v))) }
		stanza := map[string]any{}
		for _, key := range []string{"mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"} {
			if v, ok := rule[key]; ok {
				stanza[key] = v
			}
		}
		if len(stanza) > 0 {
			add(stanza)
		}
		for _, m := range list(rule["mirrors"]) {
			add(m)
		}
		marks := list(at(rule, "headers", "request", "remove"))
		holders := append([]any{rule}, list(rule["backendRefs"])...)
		for _, h := range holders {
			for _, f := range list(at(h, "filters")) {
				if isMirrorFilter(f) {
					add(f)
				}
			}
		}
		for _, f := range list(rule["filters"]) {
			marks = append(marks, list(at(f, "requestHeaderModifier", "remove"))...)
		}
		for _, mark := range marks {
			name, _ := mark.(string)
			id, _ := strings.CutPrefix(name, "x-mirrorgate-parked-")
			if e := objectOf(entries[id]); isMark(mark) && e != nil {
				add(cmp.Or(e["filter"], e["stanza"], e["element"]))
			}
		}
		slices.Sort(texts)
		out[i] = texts
	}
	return out
}

// withDefaults fills in what the API server adds to a stored Gateway API route.
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

// ownManifest is what an author's next server-side apply stores: the author's
// fields, and what is ours on the stored object.
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
