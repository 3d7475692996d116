package route

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/patch"
)

// The golden routes of package policy, from every state to every other, and as writes on top of their old
// versions.
func TestGoldenRoutesInEveryState(t *testing.T) {
	files, err := filepath.Glob("../policy/testdata/*/route.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	onTop := 0
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			raw := fromYAML(t, string(text))
			if _, err := Decode(raw, Options{Namespace: "default"}); err != nil {
				return // the case is about its error
			}
			everyState(t, raw)
			if text, err = os.ReadFile(filepath.Join(filepath.Dir(file), "old.yaml")); err == nil {
				onTop++
				for _, park := range []func(*Mirror) bool{all, none, not("v2"), not("v3")} {
					applyPlanAfter(t, raw, decode(t, fromYAML(t, string(text)), nil), park)
				}
			}
		})
	}
	require.Positive(t, onTop)
}

// everyState plans from every choice of parked targets to every other.
func everyState(t *testing.T, raw []byte) {
	t.Helper()
	raw, _ = applyPlan(t, raw, none)
	var targets []Target
	for _, m := range decode(t, raw, nil).Every {
		if !slices.Contains(targets, m.Target) {
			targets = append(targets, m.Target)
		}
	}
	n := min(1<<len(targets), 8)
	choice := func(bits int) func(*Mirror) bool {
		return func(m *Mirror) bool { return bits>>slices.Index(targets, m.Target)&1 == 1 }
	}
	state := make([][]byte, n)
	misfits := false
	for bits := range n {
		var a Plan
		state[bits], a = applyPlan(t, raw, choice(bits))
		misfits = misfits || len(a.Misfits) > 0
	}
	for from := range n {
		for to := range n {
			out, a := applyPlan(t, state[from], choice(to))
			same(t, declared(t, tree(t, state[from])), declared(t, tree(t, out)), "no mirror may be lost")
			if !misfits && len(a.Misfits) == 0 {
				same(t, clone(tree(t, state[to])), clone(tree(t, out)), fmt.Sprintf("from %b to %b", from, to))
			}
		}
	}
}

const web = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  rules:
  - name: a
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 10}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, fraction: {numerator: 1, denominator: 3}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}}}
    backendRefs: [{name: v1, port: 80}]
  - name: b
    backendRefs:
    - name: v1
      port: 80
      filters:
      - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 30}}
`

const mesh = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - name: a
    route: [{destination: {host: v1}}]
    mirror: {host: v2, subset: x}
    mirrorPercentage: {value: 12.5}
  - name: b
    route: [{destination: {host: v1}}]
    mirrors:
    - {destination: {host: v2}, percentage: {value: 1.0}}
    - {destination: {host: v3}}
`

// The ids are part of the stored route: a new release must find them again.
func TestIDsAreStable(t *testing.T) {
	ids := func(text string) (ids []string) {
		for _, m := range decode(t, fromYAML(t, text), nil).Every {
			ids = append(ids, m.ID)
		}
		return ids
	}
	assert.Equal(t, []string{"1e24fc1979", "a9663a981e", "1544f38658", "38d90b9365"}, ids(web))
	assert.Equal(t, []string{"21082a599c", "b83b390ea7", "868f67da82"}, ids(mesh))
	spelled := strings.ReplaceAll(web, "{name: v2, port: 80}", `{group: "", kind: Service, namespace: shop, name: v2, port: 80}`)
	assert.Equal(t, ids(web), ids(spelled), "ids depend on the meaning, not on the spelling")
	assert.Equal(t, ids(mesh), ids(strings.ReplaceAll(mesh, "host: v2", "host: v2.shop.svc.cluster.local")))
}

// A mirror that its author deletes while it is parked stays deleted, although the annotation still has its
// entry.
func TestADeletedMirrorStaysDeleted(t *testing.T) {
	for name, text := range map[string]string{"gateway": web, "istio": mesh} {
		t.Run(name, func(t *testing.T) {
			raw := fromYAML(t, text)
			stored, _ := applyPlan(t, raw, all)
			author := tree(t, raw)
			rules, _ := rulesOf(author)
			bare := stripped(author)
			require.NotEmpty(t, rules)

			// Server-side apply of a manifest without mirrors.
			applied := encode(t, ownManifest(bare, tree(t, stored)))
			for _, previous := range []*Route{nil, decode(t, stored, nil)} {
				out, a := applyPlanAfter(t, applied, previous, none)
				require.Empty(t, a.Restored)
				same(t, bare, tree(t, out), "nothing may come back")
			}

			// An edit that takes one placeholder out.
			edited := tree(t, stored)
			rules, _ = rulesOf(edited)
			first := objectOf(rules[0])
			if name == "istio" {
				delete(first, "headers")
			} else {
				modifier := objectOf(at(list(first["filters"])[0], "requestHeaderModifier"))
				modifier["remove"] = list(modifier["remove"])[1:]
			}
			out, a := applyPlanAfter(t, encode(t, edited), decode(t, stored, nil), none)
			assert.Len(t, a.Restored, map[string]int{"gateway": 3, "istio": 2}[name])
			assert.NotContains(t, string(out), map[string]string{"gateway": `"percent":10`, "istio": "12.5"}[name])
		})
	}
}

// The inline mirror wins over a placeholder for the same target in its place.
func TestTheInlineMirrorWins(t *testing.T) {
	for name, text := range map[string]string{"gateway": web, "istio": mesh} {
		t.Run(name, func(t *testing.T) {
			raw := fromYAML(t, text)
			stored, _ := applyPlan(t, raw, all)
			both := tree(t, stored)
			rules, _ := rulesOf(both)
			rule := objectOf(rules[0])
			if name == "istio" {
				rule["mirror"] = fields{"host": "v2", "subset": "x"}
				rule["mirrorPercentage"] = fields{"value": json.Number("99")}
			} else {
				rule["filters"] = append(list(rule["filters"]), tree(t, fromYAML(t,
					`{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 99}}`)))
			}
			for _, park := range []func(*Mirror) bool{all, none} {
				out, _ := applyPlan(t, encode(t, both), park)
				assert.Contains(t, string(out), "99")
				assert.NotContains(t, string(out), map[string]string{"gateway": `percent":10`, "istio": "12.5"}[name])
				assert.NotContains(t, string(out), `percent\":10`)
			}
		})
	}
}

// A placeholder without an entry keeps its id: another mirror with that id would appear where the placeholder
// stands.
func TestAnOrphanKeepsItsID(t *testing.T) {
	raw := fromYAML(t, mesh)
	stored, a := applyPlan(t, raw, func(m *Mirror) bool { return m.Target.Subset == "x" })
	orphaned := tree(t, stored)
	delete(objectOf(orphaned["metadata"]), "annotations")
	rules, _ := rulesOf(orphaned)
	objectOf(rules[1])["mirrors"] = append(list(objectOf(rules[1])["mirrors"]), tree(t, fromYAML(t, `destination: {host: v2, subset: x}`)))

	before := encode(t, orphaned)
	out, b := applyPlan(t, before, all)
	assert.Len(t, b.Parked, 3)
	assert.NotContains(t, b.Parked, a.Parked[0])
	rt := decode(t, out, nil)
	assert.Empty(t, rt.Rules[0].Mirrors)
	assert.Equal(t, a.Parked, rt.Rules[0].Orphans)
	back, _ := applyPlan(t, out, none)
	sameJSON(t, before, back, "the orphan stays, and nothing else")
}

func TestARepeatedPlaceholderIsOneMirror(t *testing.T) {
	stored, a := applyPlan(t, fromYAML(t, mesh), func(m *Mirror) bool { return m.Target.Subset == "x" })
	doubled := strings.Replace(string(stored), `["`+PlaceholderPrefix+a.Parked[0]+`"]`,
		`["`+PlaceholderPrefix+a.Parked[0]+`","x-a","`+PlaceholderPrefix+a.Parked[0]+`"]`, 1)
	require.NotEqual(t, string(stored), doubled)
	out, _ := applyPlan(t, []byte(doubled), not("v2", "v3"))
	assert.Equal(t, 1, strings.Count(string(out), PlaceholderPrefix))
	back, b := applyPlan(t, []byte(doubled), none)
	assert.Len(t, b.Restored, 1)
	assert.Contains(t, string(back), `["x-a"]`)
}

// A list of headers that cannot be read is not edited. Where it holds placeholders the whole route is left
// alone, because an edit of another rule could change the ids of their mirrors.
func TestAnUnreadableListIsLeftAlone(t *testing.T) {
	for name, text := range map[string]string{"gateway": web, "istio": mesh} {
		t.Run(name, func(t *testing.T) {
			stored, a := applyPlan(t, fromYAML(t, text), all)
			first := `"` + PlaceholderPrefix + a.Parked[0] + `"`
			broken := []byte(strings.Replace(string(stored), "["+first, "[5,"+first, 1))
			require.NotEqual(t, stored, broken)
			out, b := applyPlan(t, broken, none)
			assert.Equal(t, string(broken), string(out))
			assert.Len(t, b.Misfits, len(a.Parked))
			assert.Equal(t, misfitBroken, b.Misfits[a.Parked[0]])
			mended, c := applyPlan(t, stored, none)
			assert.Len(t, c.Restored, len(a.Parked))
			sameJSON(t, fromYAML(t, text), mended, "nothing was lost")
		})
	}
	raw := fromYAML(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - {mirror: {host: v2}, headers: {request: {remove: text}}}
  - {mirror: {host: v3}}
`)
	_, a := applyPlan(t, raw, all)
	assert.Len(t, a.Parked, 1, "the other rule is still planned")
	assert.Equal(t, []string{misfitBroken}, valuesOf(a.Misfits))
}

func valuesOf(m map[string]string) (values []string) {
	for _, v := range m {
		values = append(values, v)
	}
	return values
}

// The API server limits the keys and values of all annotations together.
func TestAnnotationsUpToTheLastByte(t *testing.T) {
	raw := fromYAML(t, web)
	stored, _ := applyPlan(t, raw, all)
	text := at(tree(t, stored), "metadata", "annotations", ParkedAnnotation).(string)
	const key = "example.com/notes"
	room := 256<<10 - len(ParkedAnnotation) - len(text) - len(key)

	with := func(route []byte, n int) []byte {
		r := tree(t, route)
		annotations := objectOf(at(r, "metadata", "annotations"))
		if annotations == nil {
			annotations = fields{}
		}
		annotations[key] = strings.Repeat("x", n)
		objectOf(r["metadata"])["annotations"] = annotations
		return encode(t, r)
	}
	_, a := applyPlan(t, with(raw, room), all)
	assert.Len(t, a.Parked, 4)
	over, b := applyPlan(t, with(raw, room+1), all)
	assert.Equal(t, a.Parked[:3], b.Parked, "the last mirror stays active")
	assert.Equal(t, map[string]string{a.Parked[3]: misfitSize}, b.Misfits)
	applied := encode(t, ownManifest(tree(t, with(raw, room+1)), tree(t, over)))
	again, _ := applyPlanAfter(t, applied, decode(t, over, nil), all)
	sameJSON(t, over, again, "applying again must change nothing")
	full, c := applyPlan(t, with(raw, room+len(text)), all)
	assert.Empty(t, c.Parked)
	sameJSON(t, with(raw, room+len(text)), full, "nothing may change")

	// A stored parked annotation is counted once.
	partly, _ := applyPlan(t, raw, not("v3"))
	_, e := applyPlan(t, with(partly, room), all)
	assert.Len(t, e.Parked, 1)
	_, d := applyPlan(t, with(partly, room+1), all)
	assert.Equal(t, []string{misfitSize}, valuesOf(d.Misfits))
	back, f := applyPlan(t, with(stored, room+9), none)
	assert.Len(t, f.Restored, 4, "parked mirrors can always be restored")
	sameJSON(t, with(raw, room+9), back, "the author's route must come back")
}

// Where a mirror cannot be parked because the annotation has no room, the mirror that would have taken its
// place cannot come back either.
func TestNoRoomToParkIsNoRoomToRestore(t *testing.T) {
	filters := []any{mirrorTo(2), fields{"type": "RequestHeaderModifier", "requestHeaderModifier": fields{"set": []any{}}}}
	for range 14 {
		filters = append(filters, fields{"type": "ExtensionRef"})
	}
	stored, a := applyPlan(t, encode(t, gatewayRoute(fields{"filters": filters})), all)
	require.Len(t, a.Parked, 1)
	// The author swaps the mirror of v2, which is parked, for one of v3.
	edited := tree(t, stored)
	rules, _ := rulesOf(edited)
	rule := objectOf(rules[0])
	rule["filters"] = append(list(rule["filters"]), mirrorTo(3))
	text := at(edited, "metadata", "annotations", ParkedAnnotation).(string)
	objectOf(at(edited, "metadata", "annotations"))["example.com/notes"] = strings.Repeat("x", 256<<10-len(text)-len(ParkedAnnotation)-20)
	out, b := applyPlan(t, encode(t, edited), not("v2"))
	assert.Empty(t, b.Parked)
	assert.Empty(t, b.Restored)
	assert.Len(t, b.Misfits, 2)
	rules, _ = rulesOf(tree(t, out))
	assert.Len(t, list(at(rules[0], "filters")), 16)
}

// Where a copied rule needs an entry of its own and the annotation has no room for it, the mirrors of both
// copies stay parked. The write that made the copy must pass.
func TestACopyWithoutRoomStaysParked(t *testing.T) {
	raw := fromYAML(t, mesh)
	stored, _ := applyPlan(t, raw, all)
	copied, author := tree(t, stored), tree(t, raw)
	for _, r := range []fields{copied, author} {
		rules, _ := rulesOf(r)
		objectOf(r["spec"])["http"] = append(rules, clone(rules[0]))
	}
	annotations := objectOf(at(copied, "metadata", "annotations"))
	annotations["a"] = strings.Repeat("x", 256<<10-len(annotations[ParkedAnnotation].(string))-len(ParkedAnnotation)-1)
	objectOf(author["metadata"])["annotations"] = fields{"a": annotations["a"]}

	full := encode(t, copied)
	out, a := applyPlan(t, full, all)
	sameJSON(t, full, out, "nothing may change")
	assert.Empty(t, a.Misfits, "every mirror is where it should be")
	back, _ := applyPlan(t, out, none)
	sameJSON(t, encode(t, author), back, "both copies come back")
}

// With any text in the annotation, the plan is either the same patch or none.
func TestForgedAnnotations(t *testing.T) {
	stored, a := applyPlan(t, fromYAML(t, mesh), all)
	id := a.Parked[0]
	forge := func(text string) []byte {
		r := tree(t, stored)
		objectOf(at(r, "metadata", "annotations"))[ParkedAnnotation] = text
		return encode(t, r)
	}
	for name, text := range map[string]string{
		"not JSON": `{"`, "a list": `[]`, "text": `"x"`, "a number": `5`, "an entry twice": `{"` + id + `":{},"` + id + `":{}}`,
		"very deep": strings.Repeat("[", 200000),
	} {
		t.Run(name, func(t *testing.T) {
			for _, park := range []func(*Mirror) bool{all, none} {
				out, _ := applyPlan(t, forge(text), park)
				sameJSON(t, forge(text), out, "nothing may change")
			}
			rt := decode(t, forge(text), nil)
			require.Error(t, rt.ParkedError)
			healed, b := applyPlanAfter(t, forge(text), decode(t, stored, nil), all)
			assert.Empty(t, b.Misfits)
			sameJSON(t, stored, healed, "the old version still has the entries")
		})
	}
	for name, text := range map[string]string{
		"a number": `5`, "null": `null`, "empty": `{}`,
		"two forms":       `{"element":{"destination":{"host":"v2"}},"stanza":{"mirror":{"host":"v2"}}}`,
		"another kind's":  `{"filter":{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2"}}}}`,
		"unknown field":   `{"stanza":{"mirror":{"host":"v2"},"route":[]}}`,
		"no mirror":       `{"stanza":{"mirrorPercentage":{"value":1}}}`,
		"null mirror":     `{"stanza":{"mirror":null}}`,
		"bad mirror":      `{"stanza":{"mirror":"v2"}}`,
		"no destination":  `{"element":{"percentage":{"value":1}}}`,
		"before the list": `{"element":{"destination":{"host":"v2"}},"at":-1}`,
		"kept too much":   `{"element":{"destination":{"host":"v2"}},"keep":4}`,
		"no index":        `{"element":{"destination":{"host":"v2"}},"backend":{"nth":-1}}`,
		"not a position":  `{"element":{"destination":{"host":"v2"}},"at":1e99}`,
	} {
		t.Run("entry: "+name, func(t *testing.T) {
			entries := tree(t, []byte(at(tree(t, stored), "metadata", "annotations", ParkedAnnotation).(string)))
			entries[id] = json.RawMessage(text)
			raw := forge(string(encode(t, entries)))
			rt := decode(t, raw, nil)
			require.NoError(t, rt.ParkedError)
			require.Error(t, rt.EntryError(id))
			assert.Equal(t, []string{id}, rt.Rules[0].Orphans)
			out, b := applyPlan(t, raw, none)
			assert.Len(t, b.Restored, 2, "the other mirrors are restored")
			after := tree(t, []byte(at(tree(t, out), "metadata", "annotations", ParkedAnnotation).(string)))
			assert.Equal(t, []any{tree(t, encode(t, entries))[id]}, []any{after[id]}, "an unusable entry must be kept")
		})
	}
}

func TestAForgedPositionDoesNoHarm(t *testing.T) {
	stored, a := applyPlan(t, fromYAML(t, web), all)
	for _, text := range []string{
		`{"filter":{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v9"}}},"at":9223372036854775807}`,
		`{"filter":{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v9"}}},"backend":{"nth":9223372036854775807,"name":"v1","kind":"Service","namespace":"shop","port":80}}`,
		`{"filter":{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v9"}}},"backend":{"name":"gone"}}`,
		`{"filter":{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v9"}}},"keep":3}`,
		`{"filter":{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v9"}}},"keep":1,"unknown":{}}`,
	} {
		r := tree(t, stored)
		entries := tree(t, []byte(at(r, "metadata", "annotations", ParkedAnnotation).(string)))
		entries[a.Parked[0]] = json.RawMessage(text)
		objectOf(at(r, "metadata", "annotations"))[ParkedAnnotation] = string(encode(t, entries))
		for _, park := range []func(*Mirror) bool{all, none, not("v9"), not("v2")} {
			out, _ := applyPlan(t, encode(t, r), park)
			assert.Equal(t, declared(t, r), declared(t, tree(t, out)), "no mirror may be lost")
		}
	}
}

// A mirror under a backendRef finds it again by its target.
func TestBackendsThatMove(t *testing.T) {
	raw := fromYAML(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  rules:
  - backendRefs:
    - {name: a, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 1}}]}
    - {name: b, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 2}}]}
    - {name: b, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 3}}]}
`)
	stored, _ := applyPlan(t, raw, all)
	reorder := func(from []byte, order ...int) []byte {
		r := tree(t, from)
		rules, _ := rulesOf(r)
		rule := objectOf(rules[0])
		var refs []any
		for _, i := range order {
			refs = append(refs, list(rule["backendRefs"])[i])
		}
		rule["backendRefs"] = refs
		return encode(t, r)
	}
	for _, order := range [][]int{{1, 2, 0}, {0, 2, 1}, {2, 1, 0}} {
		out, a := applyPlan(t, reorder(stored, order...), none)
		assert.Empty(t, a.Misfits)
		assert.Len(t, a.Restored, 3)
		rt := decode(t, out, nil)
		for _, m := range rt.Rules[0].Mirrors {
			backend := rt.Rules[0].Backends[m.position.backend].Name
			assert.Equal(t, m.Percentage.Percent() == 1, backend == "a")
		}
	}
	out, a := applyPlan(t, reorder(stored, 1, 2), none)
	assert.Equal(t, []string{misfitBackend}, valuesOf(a.Misfits))
	for _, m := range decode(t, out, nil).Rules[0].Mirrors {
		assert.NotEmpty(t, m.Path)
	}
	r := tree(t, out)
	rules, _ := rulesOf(r)
	objectOf(rules[0])["backendRefs"] = append(list(at(rules[0], "backendRefs")), fields{"name": "a", "port": 80})
	again, b := applyPlan(t, encode(t, r), none)
	assert.Len(t, b.Restored, 1)
	sameJSON(t, reorder(raw, 1, 2, 0), again, "the backend is back, and so is its mirror")
}

// A rule has either mirror or mirrors: a parked mirror of one form stays parked until the other form is gone.
func TestTheOtherFormAppeared(t *testing.T) {
	raw := fromYAML(t, mesh)
	stored, _ := applyPlan(t, raw, all)
	edited := tree(t, stored)
	rules, _ := rulesOf(edited)
	objectOf(rules[0])["mirrors"] = []any{elementTo(4)}
	objectOf(rules[1])["mirror"] = fields{"host": "v5"}
	out, a := applyPlan(t, encode(t, edited), none)
	assert.Equal(t, slices.Repeat([]string{misfitForms}, 3), valuesOf(a.Misfits))
	assert.Empty(t, a.Restored)
	parked, _ := applyPlan(t, out, all)
	again, _ := applyPlan(t, parked, none)
	assert.Equal(t, declared(t, tree(t, out)), declared(t, tree(t, again)))

	r := tree(t, out)
	rules, _ = rulesOf(r)
	delete(objectOf(rules[0]), "mirrors")
	delete(objectOf(rules[1]), "mirror")
	back, _ := applyPlan(t, encode(t, r), none)
	sameJSON(t, raw, back, "both come back when they can")

	rules, _ = rulesOf(edited)
	delete(objectOf(rules[0]), "mirrors")
	delete(objectOf(rules[1]), "mirror")
	objectOf(rules[0])["mirrorPercentage"] = fields{"value": 5}
	_, b := applyPlan(t, encode(t, edited), none)
	assert.Equal(t, []string{misfitOccupied}, valuesOf(b.Misfits))
}

// Empty levels above the list of headers belong to the user and come back; null levels count as missing.
func TestEmptyLevelsComeBack(t *testing.T) {
	for _, headers := range []string{
		`{}`, `{"request":{}}`, `{"request":{"remove":[]}}`, `{"request":{"remove":["x-a"]}}`, `{"response":{}}`,
		`{"request":{"remove":[],"set":{}}}`, `{"request":{"set":{}},"response":{}}`, `{"unknown":1}`,
	} {
		raw := []byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"a"},"spec":{"hosts":["a"],"http":[{"headers":` + headers + `,"mirrors":[{"destination":{"host":"v2"}},{"destination":{"host":"v3"}}]}]}}`)
		everyState(t, raw)
	}
	for _, null := range []string{`null`, `{"request":null}`, `{"request":{"remove":null}}`, `{"request":{"set":null}}`, `{"response":null}`} {
		raw := []byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"a"},"spec":{"hosts":["a"],"http":[{"headers":` + null + `,"mirror":{"host":"v2"},"mirrors":null,"mirrorPercent":null}]}}`)
		stored, a := applyPlan(t, raw, all)
		require.Len(t, a.Parked, 1, null)
		back, _ := applyPlan(t, stored, none)
		same(t, clone(tree(t, raw)), clone(tree(t, back)), "the same apart from nulls: "+null)
	}
	for _, filters := range []string{
		`null`, `[]`, `[{"type":"RequestHeaderModifier","requestHeaderModifier":{}}]`,
		`[{"type":"RequestHeaderModifier","requestHeaderModifier":{"remove":null}}]`,
		`[{"type":"RequestHeaderModifier","requestHeaderModifier":{"remove":[]}}]`,
		`[{"type":"RequestHeaderModifier","requestHeaderModifier":{"unknown":null},"unknown":null}]`,
		`[{"type":"RequestHeaderModifier","requestHeaderModifier":{"remove":[],"set":[]},"unknown":1}]`,
	} {
		raw := []byte(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GRPCRoute","metadata":{"name":"a"},"spec":{"rules":[{"filters":` + filters +
			`,"backendRefs":[{"name":"v1","filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}}]}]}]}}`)
		stored, a := applyPlan(t, raw, all)
		require.Len(t, a.Parked, 1, filters)
		back, _ := applyPlan(t, stored, none)
		same(t, clone(tree(t, raw)), clone(tree(t, back)), "the same apart from nulls: "+filters)
	}
}

// The text of a mirror comes back to the letter.
func TestTextComesBackVerbatim(t *testing.T) {
	const filter = `{"type":"RequestMirror","x":[1e2,100.0,-0,123456789012345678901234567890,0.1e-7,"<&>\u003c\u2028é\ud800\/~1",{},[],null],"requestMirror":{"percent":1e1,"backendRef":{"name":"v2","port":80}}}`
	raw := []byte(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"a","annotations":{"a/b~c":"~1<"}},"spec":{"rules":[{"filters":[{"type":"ExtensionRef"},` + filter + `]}]}}`)
	stored, _ := applyPlan(t, raw, all)
	text := at(tree(t, stored), "metadata", "annotations", ParkedAnnotation).(string)
	assert.Contains(t, text, filter)
	back, _ := applyPlan(t, stored, none)
	sameJSON(t, raw, back, "the author's route must come back")
}

// A Route shares no memory with the bytes that it was decoded from.
func TestARouteKeepsNoReference(t *testing.T) {
	for _, text := range []string{web, mesh} {
		stored, _ := applyPlan(t, fromYAML(t, text), not("v3"))
		want := decode(t, stored, nil)
		raw := slices.Clone(stored)
		got := decode(t, raw, nil)
		for i := range raw {
			raw[i] = 'x'
		}
		assert.Equal(t, want, got)
		a, err := got.Plan(none)
		require.NoError(t, err)
		out, err := patch.Apply(stored, a.Operations)
		require.NoError(t, err)
		sameJSON(t, fromYAML(t, text), out, "the mirrors can still be restored")
		assert.Equal(t, want, got, "Plan changes nothing")
	}
}

// Routes nested as deep as the JSON reader allows are planned, deeper ones refused.
func TestDeepNesting(t *testing.T) {
	route := func(depth int) []byte {
		return []byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"a"},"spec":{"hosts":["a"],"http":[{"mirrors":[{"destination":{"host":"v2"},"x":` +
			strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth) + `}]}]}}`)
	}
	raw := route(9990)
	stored, a := applyPlan(t, raw, all)
	require.Len(t, a.Parked, 1)
	back, _ := applyPlan(t, stored, none)
	sameJSON(t, raw, back, "the author's route must come back")
	_, err := Decode(route(20_000), Options{})
	require.ErrorContains(t, err, "exceeded max depth")
}
