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
		"spec.rules":                         gatewayRoute(empty(maxList + 1)...),
		"spec.rules.0.filters":               gatewayRoute(fields{"filters": append([]any{mirrorTo(1)}, empty(maxList)...)}),
		"spec.rules.1.backendRefs":           gatewayRoute(fields{}, fields{"filters": []any{mirrorTo(1)}, "backendRefs": empty(maxList + 1)}),
		"spec.rules.0.matches":               gatewayRoute(fields{"matches": empty(maxList + 1), "filters": []any{mirrorTo(1)}}),
		"spec.rules.0.backendRefs.0.filters": gatewayRoute(fields{"backendRefs": []any{fields{"filters": empty(maxList + 1)}}}),
	} {
		_, err := Decode(encode(t, r), Options{})
		assert.EqualError(t, err, "decode route: "+path+" has more than 1024 elements")
	}
	r := gatewayRoute(fields{"filters": []any{mirrorTo(1)}, "backendRefs": empty(maxList)})
	objectOf(r["metadata"])["finalizers"] = times(2*maxList, func(int) any { return "a" })
	_, err := Decode(encode(t, r), Options{})
	require.NoError(t, err)
	_, err = Decode(encode(t, virtualService(empty(2*maxList)...)), Options{})
	require.NoError(t, err, "VirtualServices have no such limit")
}
