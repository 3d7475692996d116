package route

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A list that no CRD allows is not read, and costs no memory: a million empty backends took two gigabytes.
func TestListsThatNoCRDAllowsAreNotRead(t *testing.T) {
	empty := func(n int) []any { return times(n, func(int) any { return fields{} }) }
	for path, r := range map[string]fields{
		"spec.rules":                           gatewayRoute(empty(maxList + 1)...),
		"spec.rules[0].filters":                gatewayRoute(fields{"filters": append([]any{mirrorTo(1)}, empty(maxList)...)}),
		"spec.rules[1].backendRefs":            gatewayRoute(fields{}, fields{"filters": []any{mirrorTo(1)}, "backendRefs": empty(maxList + 1)}),
		"spec.rules[0].matches":                gatewayRoute(fields{"matches": empty(maxList + 1), "filters": []any{mirrorTo(1)}}),
		"spec.rules[0].backendRefs[0].filters": gatewayRoute(fields{"backendRefs": []any{fields{"filters": empty(maxList + 1)}}}),
	} {
		_, err := Decode(encode(t, r), Options{})
		require.EqualError(t, err, "decode route: "+path+" has more than 1024 elements")
	}
	r := gatewayRoute(fields{"filters": []any{mirrorTo(1)}, "backendRefs": empty(maxList)})
	objectOf(r["metadata"])["finalizers"] = times(2*maxList, func(int) any { return "a" })
	_, err := Decode(encode(t, r), Options{})
	require.NoError(t, err)
	_, err = Decode(encode(t, virtualService(empty(2*maxList)...)), Options{})
	require.NoError(t, err, "a VirtualService may have any number of rules")
}

// Istio takes mirrors and backends of any number; they are told apart from what no API takes.
func TestMirrorsWithoutEndAreNotRead(t *testing.T) {
	for path, rule := range map[string]fields{
		"spec.http[1].mirrors": {"mirrors": times(maxList+1, elementTo)},
		"spec.http[1].route":   {"mirror": fields{"host": "v2"}, "route": times(maxList+1, func(int) any { return fields{} })},
	} {
		_, err := Decode(encode(t, virtualService(fields{}, rule)), Options{})
		var long *TooLongError
		require.ErrorAs(t, err, &long)
		assert.Equal(t, &TooLongError{Field: path, Max: maxList}, long)
	}
	_, err := Decode(encode(t, virtualService(fields{"mirrors": times(maxList, elementTo)})), Options{})
	require.NoError(t, err)
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
