package route

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPackedRoutesDifferWhereRoutesDo(t *testing.T) {
	pack := func(metadata, rest string) Packed {
		t.Helper()
		p, err := Pack([]byte(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"web",` + metadata + `},` + rest + `}`))
		require.NoError(t, err)
		return p
	}
	const spec = `"spec":{"rules":[{"name":"a"}]}`
	one := pack(`"uid":"1","resourceVersion":"1","annotations":{"a":"b"}`, spec)
	assert.Equal(t, one, pack(`"annotations":{"b":"a"},"resourceVersion":"2","managedFields":[{}],"uid":"1"`, `"status":{"parents":[]},`+spec))
	for name, other := range map[string]Packed{
		"a rule":                        pack(`"uid":"1","annotations":{"a":"b"}`, `"spec":{"rules":[{"name":"b"}]}`),
		"an annotation of mirrorgate's": pack(`"uid":"1","annotations":{"mirrorgate.dev/gate":"Present"}`, spec),
		"annotations' size":             pack(`"uid":"1","annotations":{"a":"bc"}`, spec),
		"annotations' count":            pack(`"uid":"1","annotations":{"a":"","b":""}`, spec),
		"the uid":                       pack(`"uid":"2","annotations":{"a":"b"}`, spec),
		"its deletion":                  pack(`"uid":"1","annotations":{"a":"b"},"deletionTimestamp":"2026-01-01T00:00:00Z"`, spec),
		"an owner":                      pack(`"uid":"1","annotations":{"a":"b"},"ownerReferences":[{"kind":"Canary"}]`, spec),
	} {
		assert.NotEqual(t, one, other, name)
	}
}

func TestOnlyRoutesCanBePacked(t *testing.T) {
	_, err := Pack([]byte(`{"metadata":{"name":7}}`))
	assert.EqualError(t, err, "pack route: metadata.name must not be of type number")
}
