package route

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A route that is larger than any that a cluster holds is not read, and costs no memory: a million empty backends took
// two gigabytes.
func TestRoutesThatAreTooLargeAreNotRead(t *testing.T) {
	empty := func(n int) []any { return times(n, func(int) any { return fields{} }) }
	filters := func(n int) fields { return fields{"filters": times(n, mirrorTo)} }
	beside := func(name string, n int) fields {
		r := virtualService(fields{"mirror": fields{"host": "v2"}})
		objectOf(r["spec"])[name] = times(n, func(i int) any { return "a" })
		return r
	}
	for name, bound := range map[string]struct {
		field, of string
		max       int
		route     func(n int) fields
	}{
		"rules":    {"spec.rules", "elements", maxList, func(n int) fields { return gatewayRoute(empty(n)...) }},
		"filters":  {"spec.rules", "filters", maxMirrors, func(n int) fields { return gatewayRoute(filters(n/2), filters(n-n/2)) }},
		"backends": {"spec.rules", "backendRefs and matches", maxElements, func(n int) fields { return gatewayRoute(fields{"backendRefs": empty(n)}, filters(1)) }},
		"mirrors":  {"spec.http", "mirrors", maxMirrors, func(n int) fields { return virtualService(fields{"mirrors": times(n, elementTo)}) }},
		"rules of it": {"spec.http", "rules that may hold a mirror", maxMirrors, func(n int) fields {
			return virtualService(times(n, func(int) any { return fields{"mirror": fields{"host": "v2"}} })...)
		}},
		"destinations": {"spec.http", "destinations and matches in rules that may hold a mirror", maxElements, func(n int) fields { return virtualService(fields{"mirror": fields{"host": "v2"}, "route": empty(n)}) }},
		"headers": {"spec.http", "members and elements of headers in rules that may hold a mirror", maxInside, func(n int) fields {
			return virtualService(fields{"mirror": fields{"host": "v2"}, "route": []any{fields{"headers": removeList(n/2 + 1)}}, "headers": removeList(n - n/2 + 1)})
		}},
		"modifiers": {"spec.rules", "members and elements of headers", maxInside, func(n int) fields {
			return gatewayRoute(fields{"filters": []any{fields{"type": "RequestHeaderModifier", "requestHeaderModifier": objectOf(removeList(n)["request"])}}})
		}},
		"hosts":    {"spec.hosts", "elements", maxList, func(n int) fields { return beside("hosts", n) }},
		"gateways": {"spec.gateways", "elements", maxList, func(n int) fields { return beside("gateways", n) }},
		"exportTo": {"spec.exportTo", "elements", maxList, func(n int) fields { return beside("exportTo", n) }},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(encode(t, bound.route(bound.max)), Options{})
			require.NoError(t, err)
			_, err = Decode(encode(t, bound.route(bound.max+1)), Options{})
			assert.Equal(t, &TooLongError{bound.field, bound.max, bound.of}, err)
		})
	}
	for _, inner := range []any{empty(maxValues), fields{"a": times(2*maxValues, func(int) any { return 0 })}} {
		r := gatewayRoute(filters(1))
		objectOf(r["metadata"])["x"] = inner
		_, err := Decode(encode(t, r), Options{})
		require.EqualError(t, err, "decode route: the route has more than 65536 values")
	}
	many := virtualService(append(empty(20_000), fields{"mirror": fields{"host": "v2"}})...)
	objectOf(many["metadata"])["annotations"] = fields{"text": strings.Repeat(`,[{\",`, 100_000)}
	_, err := Decode(encode(t, many), Options{})
	require.NoError(t, err, "rules without a mirror and the signs in strings do not count")
}

// removeList returns headers of which n are removed.
func removeList(n int) fields {
	return fields{"request": fields{"remove": times(n, func(int) any { return "a" })}}
}

// A rule of a VirtualService without a mirror takes no memory, and the others keep their places.
func TestRulesWithoutAMirrorAreNotKept(t *testing.T) {
	r := virtualService(fields{}, fields{"mirror": fields{"host": "v2"}}, nil, fields{"route": []any{}}, fields{"mirrors": []any{elementTo(3)}})
	rt := decode(t, encode(t, r), nil)
	require.Len(t, rt.Rules, 2)
	assert.Equal(t, "spec.http[1]", rt.Rules[0].Path)
	assert.Equal(t, "spec.http[4]", rt.Rules[1].Path)
	out, _ := applyPlan(t, encode(t, r), all)
	back, _ := applyPlan(t, out, none)
	same(t, clone(r), clone(tree(t, back)), "the author's route must come back")
}
