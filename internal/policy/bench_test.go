package policy

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// BenchmarkDecide measures one admission: decode the route, decide, and apply the patch.
func BenchmarkDecide(b *testing.B) {
	small, err := yaml.YAMLToJSON([]byte(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 10}}
    backendRefs: [{name: v1, port: 80}]
`))
	require.NoError(b, err)
	var rules []any
	for i := range 12000 {
		rule := map[string]any{
			"match": []any{map[string]any{"uri": map[string]any{"prefix": "/"}}},
			"route": []any{map[string]any{"destination": map[string]any{"host": "v1"}}},
		}
		if i%3 == 0 { // as many as the annotation holds
			rule["mirror"] = map[string]any{"host": "v2"}
		}
		rules = append(rules, rule)
	}
	large, err := json.Marshal(map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"name": "web", "namespace": "shop"}, "spec": map[string]any{"http": rules},
	})
	require.NoError(b, err)

	variant := func(state State) Snapshot {
		v := Variant{State: state, Exists: true, Ports: []Port{{Number: 80}}, Reason: ScaledToZero, Detail: `Deployment "v2" is scaled to 0`}
		return Snapshot{Variants: map[route.Target]Variant{{Kind: route.TargetService, Namespace: "shop", Name: "v2"}: v}}
	}
	admit := func(b *testing.B, raw []byte, snap Snapshot) []byte {
		rt, err := route.Decode(raw, route.Options{})
		require.NoError(b, err)
		d, err := Decide(rt, snap, Config{})
		require.NoError(b, err)
		out, err := patch.Apply(raw, d.Plan.Operations)
		require.NoError(b, err)
		return out
	}
	for name, raw := range map[string][]byte{"HTTPRoute": small, "1MB": large} {
		parked := admit(b, raw, variant(Absent))
		for what, bench := range map[string]struct {
			raw   []byte
			state State
		}{"park": {raw, Absent}, "restore": {parked, Ready}, "no-op": {raw, Ready}} {
			b.Run(name+"/"+what, func(b *testing.B) {
				snap := variant(bench.state)
				b.SetBytes(int64(len(bench.raw)))
				b.ReportAllocs()
				for b.Loop() {
					admit(b, bench.raw, snap)
				}
			})
		}
	}
}
