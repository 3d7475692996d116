package route

// Routes that an attacker would write.

import (
	"encoding/json"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/patch"
)

func gatewayRoute(rules ...any) fields {
	return fields{
		"apiVersion": GatewayGroup + "/v1", "kind": string(HTTPRoute),
		"metadata": fields{"name": "web", "namespace": "shop"}, "spec": fields{"rules": rules},
	}
}

func virtualService(http ...any) fields {
	return fields{
		"apiVersion": IstioGroup + "/v1", "kind": string(VirtualService),
		"metadata": fields{"name": "web", "namespace": "shop"}, "spec": fields{"hosts": []any{"web"}, "http": http},
	}
}

func times(n int, one func(i int) any) []any {
	var out []any
	for i := range n {
		out = append(out, one(i))
	}
	return out
}

func mirrorTo(i int) any {
	return fields{"type": "RequestMirror", "requestMirror": fields{"backendRef": fields{"name": fmt.Sprint("v", i), "port": 80}}}
}

func elementTo(i int) any { return fields{"destination": fields{"host": fmt.Sprint("v", i)}} }

// large returns routes with n elements in one of their lists; 12,000 make about a megabyte, the most that a
// client can write.
func large(n int) map[string]fields {
	placed := func(entry func(i int) any) (names []any, parked fields) {
		parked = fields{}
		for i := range n {
			id := fmt.Sprintf("%010x", i)
			names, parked[id] = append(names, PlaceholderPrefix+id), entry(i)
		}
		return names, parked
	}
	with := func(r fields, parked any) fields {
		text, _ := json.Marshal(parked)
		objectOf(r["metadata"])["annotations"] = fields{ParkedAnnotation: string(text)}
		return r
	}
	modifier := func(names []any) any {
		return fields{"type": "RequestHeaderModifier", "requestHeaderModifier": fields{"remove": names}}
	}
	removal := func(names []any) any { return fields{"headers": fields{"request": fields{"remove": names}}} }
	names, filters := placed(func(i int) any { return fields{"filter": mirrorTo(i), "at": i} })
	_, elements := placed(func(i int) any { return fields{"element": elementTo(i), "at": n - i} })
	_, stanzas := placed(func(i int) any { return fields{"stanza": fields{"mirror": fields{"host": fmt.Sprint("v", i)}}} })
	_, backends := placed(func(i int) any {
		return fields{"filter": mirrorTo(i), "backend": fields{"nth": i, "kind": "Service", "name": "b", "namespace": "shop"}}
	})
	_, unusable := placed(func(int) any { return 1 })
	return map[string]fields{
		"rules of a VirtualService": virtualService(times(n, func(int) any {
			return fields{"mirror": fields{"host": "v2"}, "mirrorPercentage": fields{"value": 1.5}}
		})...),
		"rules of an HTTPRoute": gatewayRoute(times(n, func(int) any { return fields{"filters": []any{mirrorTo(2)}} })...),
		"mirrors of a rule":     virtualService(fields{"mirrors": times(n, elementTo)}),
		"mirrors to one target": virtualService(fields{"mirrors": times(n, func(int) any { return elementTo(2) })}),
		"filters":               gatewayRoute(fields{"filters": times(n, mirrorTo)}),
		"filters and backends": gatewayRoute(fields{
			"filters":     times(n/2, mirrorTo),
			"backendRefs": times(n/2, func(i int) any { return fields{"name": "b", "filters": []any{mirrorTo(i)}} }),
		}),
		"parked filters":  with(gatewayRoute(fields{"filters": []any{modifier(names)}}), filters),
		"parked elements": with(virtualService(removal(names)), elements),
		"parked stanzas":  with(virtualService(removal(names)), stanzas),
		"parked under backends": with(gatewayRoute(fields{
			"filters":     []any{modifier(names)},
			"backendRefs": times(n, func(int) any { return fields{"name": "b"} }),
		}), backends),
		"parked under backends that are gone": with(gatewayRoute(fields{"filters": []any{modifier(names)}}), backends),
		"orphans":                             virtualService(removal(names)),
		"unusable":                            with(virtualService(removal(names)), unusable),
		"one placeholder often":               with(virtualService(removal(times(n, func(int) any { return names[0] }))), elements),
		"orphans in every rule, not JSON": with(virtualService(times(n, func(i int) any {
			return removal(names[i : i+1])
		})...), "not JSON"),
		"parked stanzas that elements give way to": with(virtualService(times(n, func(i int) any {
			rule := removal(names[i : i+1]).(fields)
			rule["mirrors"] = []any{elementTo(i*10 + 1)}
			return rule
		})...), stanzas),
		"parked beside as many inline": with(virtualService(func() any {
			rule := removal(names).(fields)
			rule["mirrors"] = times(n, func(i int) any { return elementTo(n + i) })
			return rule
		}()), elements),
	}
}

// A route of any size takes no more than a few times the time that reading it as plain JSON takes: nothing
// may grow with the square of its size.
func TestTimeIsLinearInTheSizeOfARoute(t *testing.T) {
	odd := func(m *Mirror) bool { return len(m.Target.Name)%2 == 1 }
	for name, r := range large(1000) {
		t.Run(name, func(t *testing.T) {
			raw := encode(t, r)
			yardstick := cpu(t, func() { tree(t, raw) })
			for _, park := range []func(*Mirror) bool{all, odd} {
				var a Plan
				var out []byte
				work := func() {
					var err error
					a, err = decode(t, raw, nil).Plan(park)
					require.NoError(t, err)
					out, err = patch.Apply(raw, a.Operations)
					require.NoError(t, err)
				}
				limit := 100 * max(yardstick, time.Millisecond)
				took := cpu(t, work)
				for range 2 { // a loaded machine adds to some runs, and time that grows with the square to all
					if took >= limit {
						took = min(took, cpu(t, work))
					}
				}
				require.Less(t, took, limit)
				second, err := decode(t, out, nil).Plan(park)
				require.NoError(t, err)
				if n := len(second.Operations); n > 0 {
					t.Fatalf("a second decision must be empty, not %d operations", n)
				}
			}
		})
	}
}

// cpu returns the CPU time that the process uses while do runs: the least of three runs, since a loaded
// machine adds to all but the luckiest.
func cpu(t *testing.T, do func()) time.Duration {
	t.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.GC()
	before := used()
	do()
	return used() - before
}
