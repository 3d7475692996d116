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

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// anyCluster returns a cluster in which every target has a state that depends on bits.
func anyCluster(bits uint64, routes ...*route.Route) Snapshot {
	snap := Snapshot{Variants: map[route.Target]Variant{}}
	for _, rt := range routes {
		for _, m := range rt.Every {
			target := m.Target
			if _, known := snap.Variants[target]; known {
				continue
			}
			n := bits >> (len(snap.Variants) * 7 % 57)
			v := Variant{State: State(n & 3), Exists: n&4 != 0, Reason: ServiceNotFound, Detail: "a detail"}
			if v.State == Ready {
				v.Reason, v.Exists = "", true
			}
			switch n >> 3 & 15 {
			case 0:
				v.External = true
			case 1:
				v.Gateway = true
			case 2:
				v.Ungranted = true
			case 3:
				v.LacksSubset, v.Subsets = true, []string{"x"}
			case 4:
				v.Loop = "Gateway"
			case 5:
				continue // the target is missing from the snapshot
			}
			if n&64 != 0 {
				v.Ports = []Port{{"http", 80}, {"", 81}}[:1+n&1]
			}
			snap.Variants[target] = v
		}
	}
	return snap
}

// For any two routes in any cluster Decide returns a decision, its patch applies, and the decision about the
// patched route changes nothing.
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
		rt, err := route.Decode(raw, opts)
		if err != nil || !utf8.Valid(raw) {
			return
		}
		snap := anyCluster(bits, rt)
		snap.Scope = anyScope(bits)
		five, one := 5.0, 1
		cfg := []Config{{}, {Strict: true}, {Limits: Limits{MaxPercent: &five, MaxMirrors: &one}}}[bits%3]
		d := decide(t, rt, snap, cfg)
		VariantsValue(rt, snap, d)

		stored, err := patch.Apply(raw, d.Plan.Operations)
		require.NoError(t, err)
		result, err := route.Decode(stored, route.Options{Namespace: "shop"})
		require.NoError(t, err)
		again := decide(t, result, snap, cfg)
		require.Empty(t, again.Plan.Operations, "before: %s\nafter: %s", raw, stored)

		introduced, known := Introduced(d, d)
		assert.Empty(t, introduced)
		assert.Len(t, known, len(d.Findings))
		introduced, known = Introduced(d, Decision{})
		assert.Len(t, introduced, len(d.Findings))
		assert.Empty(t, known)
		if old != nil {
			earlier := anyCluster(bits, old)
			earlier.Scope = snap.Scope
			before, err := Decide(old, earlier, cfg)
			require.NoError(t, err)
			introduced, known = Introduced(d, before)
			assert.ElementsMatch(t, texts(d.Findings), texts(slices.Concat(introduced, known)))
		}
	})
}

// anyScope returns limits of which none, one or two lower shares.
func anyScope(bits uint64) (scope limits.Scope) {
	action := []limits.Action{limits.Lower, limits.Deny, limits.Warn}[bits>>7%3]
	percent, mirrors := float64(bits>>9%50)/7, int(bits>>13%4)
	if bits>>3&1 == 1 {
		scope.Limits = append(scope.Limits, limits.Limit{Name: "percent", MaxPercent: &percent, Action: action})
	}
	if bits>>5&1 == 1 {
		scope.Limits = append(scope.Limits, limits.Limit{Name: "mirrors", MaxMirrors: &mirrors, Action: limits.Lower})
	}
	if bits>>6&1 == 1 {
		scope.Policies = append(scope.Policies, limits.Policy{Name: "web", Percent: &percent, Step: 1, Steps: 2, Expired: bits>>15&1 == 1})
	}
	return scope
}
