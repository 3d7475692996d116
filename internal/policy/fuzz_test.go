package policy

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// anyCluster is a cluster in which every target is in some state.
func anyCluster(bits uint64, docs ...*route.Route) Snapshot {
	snap := Snapshot{Variants: map[route.Target]Variant{}, Loops: map[route.Target]string{}}
	for _, doc := range docs {
		for _, m := range doc.Every {
			target := m.Target.WithoutPort()
			if _, known := snap.Variants[target]; known {
				continue
			}
			n := bits >> (len(snap.Variants) * 7 % 57)
			v := Variant{State: State(n & 3), Exists: n&4 != 0, Reason: ServiceNotFound, Detail: "so it is"}
			if v.State == Ready {
				v.Reason, v.Exists = "", true
			}
			switch n >> 3 & 15 {
			case 0:
				v.External = true
			case 1:
				v.ExternalName = true
			case 2:
				v.Ungranted = true
			case 3:
				v.HasRules, v.Subsets = true, []string{"x"}
			case 4:
				snap.Loops[target] = "a -> b"
			case 5:
				continue // not known at all
			}
			if n&64 != 0 {
				v.Ports = []Port{{"http", 80}, {"", 81}}[:1+n&1]
			}
			snap.Variants[target] = v
		}
	}
	return snap
}

// Any two routes in any cluster: Decide answers, its patch applies, and the
// answer to what comes out is to do nothing.
func FuzzDecide(f *testing.F) {
	files, err := filepath.Glob("testdata/*/route.yaml")
	require.NoError(f, err)
	for i, file := range files {
		if i%4 != 0 {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		raw, err := yaml.YAMLToJSON(text)
		require.NoError(f, err)
		f.Add(raw, raw, uint64(i)*0x9e3779b97f4a7c15)
	}
	f.Fuzz(func(t *testing.T, raw, oldRaw []byte, bits uint64) {
		opts := route.Options{Namespace: "shop"}
		old, err := route.Decode(oldRaw, opts)
		if err == nil {
			opts.Previous = func() *route.Route { return old }
		}
		doc, err := route.Decode(raw, opts)
		if err != nil || !utf8.Valid(raw) {
			return
		}
		snap := anyCluster(bits, doc)
		five, one := 5.0, 1
		cfg := []Config{{}, {Strict: true}, {Limits: Limits{MaxPercent: &five, MaxMirrors: &one}}}[bits%3]
		d := decide(t, doc, snap, cfg)
		VariantsValue(doc, snap)

		stored, err := patch.Apply(raw, d.Plan.Operations)
		require.NoError(t, err)
		result, err := route.Decode(stored, route.Options{Namespace: "shop"})
		require.NoError(t, err)
		again := decide(t, result, snap, cfg)
		require.Empty(t, again.Plan.Operations, "before: %s\nafter: %s", raw, stored)

		made, known := Made(d.Findings, d.Findings)
		assert.Empty(t, made)
		assert.Len(t, known, len(d.Findings))
		made, known = Made(d.Findings, nil)
		assert.Len(t, made, len(d.Findings))
		assert.Empty(t, known)
		if old != nil {
			before, err := Decide(old, anyCluster(bits, old), cfg)
			require.NoError(t, err)
			made, known = Made(d.Findings, before.Findings)
			assert.ElementsMatch(t, texts(d.Findings), texts(slices.Concat(made, known)))
		}
	})
}
