package route

import (
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// seed adds routes in several states to a fuzz target's corpus.
func seed(f *testing.F, add func(raw []byte)) {
	f.Helper()
	for _, text := range []string{web, mesh, delegate} {
		raw := fromYAML(f, text)
		add(raw)
		for _, park := range []func(*Mirror) bool{all, not("v3")} {
			stored, _ := applyPlan(f, raw, park)
			add(stored)
		}
	}
	for n := range uint64(20) {
		m := seeded(n)
		raw := encode(f, m.route())
		add(raw)
		stored, _ := applyPlan(f, raw, m.some())
		add(stored)
	}
}

// readable reports whether an API server could have sent the object: it writes UTF-8, and no empty
// annotations.
func readable(raw []byte) bool {
	if !utf8.Valid(raw) {
		return false
	}
	o, err := parse(raw)
	if err != nil {
		return false
	}
	annotations, ok := at(o, "metadata", "annotations").(map[string]any)
	return !ok || len(annotations) > 0
}

// withoutPrevious returns the route without its function, because functions cannot be compared.
func withoutPrevious(rt *Route) Route {
	plain := *rt
	plain.previous = nil
	return plain
}

// samePacked checks that a packed route is unpacked unchanged, apart from white space.
func samePacked(t *testing.T, raw []byte, opts Options) {
	t.Helper()
	packed, err := Pack(raw)
	require.NoError(t, err)
	got, err := packed.Route(opts)
	require.NoError(t, err)
	compact := jsontext.Value(slices.Clone(raw))
	require.NoError(t, compact.Compact(lenient))
	want, err := Decode(compact, opts)
	require.NoError(t, err)
	want.ResourceVersion = ""
	require.Equal(t, withoutPrevious(want), withoutPrevious(got))
}

// Every route that can be decoded can be planned, and its bytes are not kept.
func FuzzDecode(f *testing.F) {
	seed(f, func(raw []byte) { f.Add(raw, raw) })
	f.Fuzz(func(t *testing.T, raw, old []byte) {
		previous, _ := Decode(old, Options{})
		opts := Options{Namespace: "shop", Previous: func() *Route { return previous }}
		scratch := slices.Clone(raw)
		rt, err := Decode(scratch, opts)
		again, err2 := Decode(raw, opts)
		for i := range scratch {
			scratch[i] = '7'
		}
		require.Equal(t, err2, err)
		if err != nil {
			return
		}
		require.Equal(t, withoutPrevious(again), withoutPrevious(rt))
		if !readable(raw) {
			return
		}
		samePacked(t, raw, opts)
		ids := map[string]bool{}
		for _, m := range rt.Every {
			require.False(t, ids[m.ID], "ids are unique")
			require.NotEmpty(t, m.Path)
			ids[m.ID] = true
		}
		for _, park := range []func(*Mirror) bool{all, none} {
			applyPlanAfter(t, raw, previous, park)
		}
	})
}

// A script makes a route, its edits, and the choice of mirrors to park in each step: no mirror is lost, and
// the original comes back.
func FuzzParkRestore(f *testing.F) {
	for n := range uint64(16) {
		r, bytes := seeded(n), make([]byte, 400)
		for i := range bytes {
			bytes[i] = byte(r.Uint32())
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		m := newMaker(newScript(bytes))
		full := m.oneIn(8)
		if full {
			m.size = 16
		}
		author := m.route()
		if full {
			author = m.crowd(author)
		}
		raw := encode(t, author)
		stored := raw
		for range m.IntN(4) {
			if m.oneIn(3) {
				author, edited := tree(t, raw), tree(t, stored)
				m.edit(author, edited)
				raw, stored = encode(t, author), encode(t, edited)
			}
			park := m.some()
			var a Plan
			stored, a = applyPlan(t, stored, park)
			same(t, declared(t, tree(t, raw)), declared(t, tree(t, stored)), "no mirror may be lost")
			if m.oneIn(4) && len(a.Misfits) == 0 {
				applied := encode(t, ownManifest(tree(t, raw), tree(t, stored)))
				if again, b := applyPlanAfter(t, applied, decode(t, stored, nil), park); len(b.Misfits) == 0 {
					sameJSON(t, stored, again, "applying again must change nothing")
				}
			}
			if direct, b := applyPlan(t, raw, park); len(a.Misfits)+len(b.Misfits) == 0 {
				sameJSON(t, direct, stored, "the order of steps must not matter")
			}
		}
		back, a := applyPlan(t, stored, none)
		require.Empty(t, a.Misfits)
		sameJSON(t, raw, back, "the original must come back")
	})
}
