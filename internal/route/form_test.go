package route

// Mirrors that the CRDs of the Gateway API or Istio's validator refuse stay where they are.

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gatewayForms are mirrors of an HTTPRoute or a GRPCRoute, and whether the CRD accepts them.
var gatewayForms = map[bool][]string{
	true: {
		`{backendRef: {name: v2, port: 80}}`,
		`{backendRef: {name: v2, port: 1}, percent: 0}`,
		`{backendRef: {name: v2, port: 65535}, percent: 100}`,
		`{backendRef: {name: v2, port: 80}, fraction: {numerator: 0}}`,
		`{backendRef: {name: v2, port: 80}, fraction: {numerator: 3, denominator: 3}}`,
		`{backendRef: {name: v2, port: 80, namespace: other, group: "", kind: Service}}`,
		`{backendRef: {name: v2, port: 80, namespace: null, group: null, kind: null}}`,
		`{backendRef: {name: "No_Service's name", port: 80}}`,
		`{backendRef: {name: ` + strings.Repeat("é", 253) + `, port: 80}}`,
		`{backendRef: {name: v2, group: example.com, kind: Backend}}`,
	},
	false: {
		`{}`,
		`{percent: 5}`,
		`{backendRef: null}`,
		`{backendRef: {}}`,
		`{backendRef: {port: 80}}`,
		`{backendRef: {name: "", port: 80}}`,
		`{backendRef: {name: ` + strings.Repeat("v", 254) + `, port: 80}}`,
		`{backendRef: {name: v2}}`,
		`{backendRef: {name: v2, port: null}}`,
		`{backendRef: {name: v2, port: 0}}`,
		`{backendRef: {name: v2, port: -1}}`,
		`{backendRef: {name: v2, port: 70000}}`,
		`{backendRef: {name: v2, port: 80, namespace: ""}}`,
		`{backendRef: {name: v2, port: 80, namespace: Shop}}`,
		`{backendRef: {name: v2, port: 80, namespace: a.b}}`,
		`{backendRef: {name: v2, port: 80, kind: ""}}`,
		`{backendRef: {name: v2, port: 80, kind: a/b}}`,
		`{backendRef: {name: v2, port: 80, group: "a b"}}`,
		`{backendRef: {name: v2, group: example.com, kind: Backend, port: 0}}`,
		`{backendRef: {name: v2, port: 80}, percent: 101}`,
		`{backendRef: {name: v2, port: 80}, percent: -1}`,
		`{backendRef: {name: v2, port: 80}, percent: 1.5}`,
		`{backendRef: {name: v2, port: 80}, percent: "5"}`,
		`{backendRef: {name: v2, port: 80}, percent: 5, fraction: {numerator: 5}}`,
		`{backendRef: {name: v2, port: 80}, fraction: {}}`,
		`{backendRef: {name: v2, port: 80}, fraction: {numerator: 2, denominator: 1}}`,
		`{backendRef: {name: v2, port: 80}, fraction: {numerator: 0, denominator: 0}}`,
	},
}

// istioForms are destinations of a VirtualService, and whether Istio's validator accepts them.
var istioForms = map[bool][]string{
	true: {
		`{host: v2}`,
		`{host: V2.shop, subset: V2}`,
		`{host: v2.shop.svc.cluster.local., port: {number: 65535}}`,
		`{host: example.com, port: null}`,
		`{host: "5"}`,
		`{host: ` + strings.Repeat("v", 63) + `}`,
		`{host: a` + strings.Repeat(".b", 127) + `}`,
	},
	false: {
		`{}`,
		`{host: ""}`,
		`{host: "*"}`,
		`{host: "${VAR}"}`,
		`{host: v2_x}`,
		`{host: "v2:80"}`,
		`{host: -v2}`,
		`{host: v2..shop}`,
		`{host: .shop}`,
		`{host: v2.*}`,
		`{host: 10.0.0.1}`,
		`{host: ` + strings.Repeat("v", 64) + `}`,
		`{host: a` + strings.Repeat(".b", 128) + `}`,
		`{host: v2, subset: a.b}`,
		`{host: v2, subset: ` + strings.Repeat("v", 64) + `}`,
		`{host: v2, port: {}}`,
		`{host: v2, port: {number: 0}}`,
		`{host: v2, port: {number: 70000}}`,
		`{host: v2, port: {number: "80"}}`,
		`{host: v2, port: {number: 99999999999}}`,
		`5`,
		`v2`,
	},
}

// istioPercentages are the members of a rule with a mirror, and whether Istio's CRD and validator accept them.
var istioPercentages = map[bool][]string{
	true: {
		`{mirror: {host: v2}, mirrorPercentage: {}}`,
		`{mirror: {host: v2}, mirrorPercentage: {value: 0.00001}}`,
		`{mirror: {host: v2}, mirrorPercent: 100}`,
		`{mirrors: [{destination: {host: v2}, percentage: {value: 100}}]}`,
	},
	false: {
		`{mirror: {host: v2}, mirrorPercentage: {value: 100.1}}`,
		`{mirror: {host: v2}, mirrorPercentage: {value: "5"}}`,
		`{mirror: {host: v2}, mirrorPercentage: 5}`,
		`{mirror: {host: v2}, mirrorPercent: 101}`,
		`{mirror: {host: v2}, mirror_percent: -1}`,
		`{mirrors: [{destination: {host: v2}, percentage: {value: -1}}]}`,
		`{mirrors: [{destination: {host: v2}, percentage: 5}]}`,
		`{mirrors: [{percentage: {value: 1}}]}`,
		`{mirrors: [{destination: null}]}`,
		`{mirrors: [null]}`,
		`{mirrors: [5]}`,
	},
}

// formed calls check with a route for each form, in every place where it can stand.
func formed(t *testing.T, check func(t *testing.T, accepted bool, form string, r fields)) {
	t.Helper()
	read := func(text string) any { return tree(t, fromYAML(t, "v: "+text))["v"] }
	for accepted, forms := range gatewayForms {
		for _, form := range forms {
			filter := fields{"type": "RequestMirror", "requestMirror": read(form)}
			for _, kind := range []Kind{HTTPRoute, GRPCRoute} {
				for _, rule := range []fields{{"filters": []any{filter}}, {"backendRefs": []any{fields{"name": "v1", "port": 80, "filters": []any{filter}}}}} {
					r := gatewayRoute(rule)
					r["kind"] = string(kind)
					check(t, accepted, form, r)
				}
			}
		}
	}
	for accepted, forms := range istioForms {
		for _, form := range forms {
			check(t, accepted, form, virtualService(fields{"mirror": read(form)}))
			check(t, accepted, form, virtualService(fields{"mirrors": []any{fields{"destination": read(form)}}}))
		}
	}
	for accepted, forms := range istioPercentages {
		for _, form := range forms {
			check(t, accepted, form, virtualService(read(form)))
		}
	}
}

// A mirror that the API refuses is left to it, whichever way it would move; any other one is parked.
func TestMirrorsThatTheAPIRefusesAreLeftToIt(t *testing.T) {
	formed(t, func(t *testing.T, accepted bool, form string, r fields) {
		t.Helper()
		raw := encode(t, r)
		out, a := applyPlan(t, raw, all)
		if accepted {
			assert.Empty(t, a.Misfits, form)
			assert.NotEmpty(t, a.Operations, form)
			return
		}
		sameJSON(t, raw, out, form+" must stay")
		for _, m := range decode(t, raw, nil).Every {
			assert.Equal(t, m.Fault(), a.Misfits[m.ID], form)
		}
	})
}

// A filter that cannot be read as a mirror is none.
func TestFiltersThatAreNoMirrors(t *testing.T) {
	for name, text := range map[string]string{
		"port": `{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: "80"}}}]}`,
		"ref":  `{filters: [{type: RequestMirror, requestMirror: {backendRef: v2}}]}`,
		"null": `{filters: [{type: RequestMirror, requestMirror: null}, null]}`,
		"none": `{filters: [{type: RequestMirror}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			raw := encode(t, gatewayRoute(tree(t, fromYAML(t, text))))
			out, _ := applyPlan(t, raw, all)
			sameJSON(t, raw, out, "it must stay")
		})
	}
}

// A mirror stays in a rule that the API refuses for its filters: without the mirror it would be accepted.
func TestRulesThatTheAPIRefusesAreLeftToIt(t *testing.T) {
	modifier := fields{"type": "RequestHeaderModifier", "requestHeaderModifier": fields{"set": []any{fields{"name": "a", "value": "b"}}}}
	names := func(n int) []any { return times(n, func(int) any { return "x-a" }) }
	for name, rule := range map[string]fields{
		"17 filters":               {"filters": times(17, mirrorTo)},
		"17 filters under backend": {"backendRefs": []any{fields{"name": "v1", "port": 80, "filters": times(17, mirrorTo)}}},
		"two modifiers":            {"filters": []any{modifier, modifier, mirrorTo(2)}},
		"another type's member": {"filters": []any{fields{
			"type": "RequestMirror", "requestMirror": mirrorTo(2).(fields)["requestMirror"], "urlRewrite": fields{"hostname": "a"},
		}}},
		"names that repeat": {"filters": []any{
			fields{"type": "RequestHeaderModifier", "requestHeaderModifier": fields{"remove": names(2)}}, mirrorTo(2),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := encode(t, gatewayRoute(rule))
			out, a := applyPlan(t, raw, all)
			sameJSON(t, raw, out, "it must stay")
			require.NotEmpty(t, a.Misfits)
		})
	}
}
