package route

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/patch"
)

// benchmarked returns a usual route of each kind, and one of about a megabyte with as many mirrors as the
// annotation holds.
func benchmarked(b *testing.B) map[string][]byte {
	b.Helper()
	return map[string][]byte{
		"HTTPRoute":      fromYAML(b, web),
		"VirtualService": fromYAML(b, mesh),
		"1MB": encode(b, virtualService(times(12000, func(i int) any {
			rule := fields{"match": []any{fields{"uri": fields{"prefix": "/"}}}, "route": []any{fields{"destination": fields{"host": "v1"}}}}
			if i%3 == 0 {
				rule["mirror"] = fields{"host": "v2"}
			}
			return rule
		})...)),
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, raw := range benchmarked(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(raw, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPlan plans a route that is already decoded.
func BenchmarkPlan(b *testing.B) {
	for name, raw := range benchmarked(b) {
		rt := decode(b, raw, nil)
		a, err := rt.Plan(all)
		require.NoError(b, err)
		require.Empty(b, a.Misfits)
		stored, err := patch.Apply(raw, a.Operations)
		require.NoError(b, err)
		parked := decode(b, stored, nil)
		for what, bench := range map[string]struct {
			rt   *Route
			park func(*Mirror) bool
		}{"park": {rt, all}, "restore": {parked, none}, "no-op": {rt, none}} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := bench.rt.Plan(bench.park); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
