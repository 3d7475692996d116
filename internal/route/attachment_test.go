package route

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A VirtualService sends all requests to an only destination, whatever its weight is; any other backend of
// weight 0 gets none.
func TestBackendsThatReceive(t *testing.T) {
	istio := func(rule string) []byte {
		return []byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","namespace":"shop"},"spec":{"hosts":["a"],"http":[` + rule + `]}}`)
	}
	gateway := func(refs string) []byte {
		return []byte(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"web","namespace":"shop"},"spec":{"rules":[{"backendRefs":[` + refs + `]}]}}`)
	}
	for name, tc := range map[string]struct {
		raw  []byte
		want []bool
	}{
		"an only destination":          {istio(`{"mirror":{"host":"m"},"route":[{"destination":{"host":"a"}}]}`), []bool{true}},
		"an only destination, 0":       {istio(`{"mirror":{"host":"m"},"route":[{"destination":{"host":"a"},"weight":0}]}`), []bool{true}},
		"several":                      {istio(`{"mirror":{"host":"m"},"route":[{"destination":{"host":"a"},"weight":100},{"destination":{"host":"b"},"weight":0},{"destination":{"host":"c"}}]}`), []bool{true, false, false}},
		"a backendRef":                 {gateway(`{"name":"a"},{"name":"b","weight":0},{"name":"c","weight":1}`), []bool{true, false, true}},
		"an only backendRef, 0":        {gateway(`{"name":"a","weight":0}`), []bool{false}},
		"a weight that is no number":   {gateway(`{"name":"a","weight":"many"}`), []bool{true}},
		"a weight that is null":        {gateway(`{"name":"a","weight":null}`), []bool{true}},
		"no weight at all, as in CRDs": {istio(`{"mirror":{"host":"m"},"route":[{"destination":{"host":"a"},"weight":null},{"destination":{"host":"b"},"weight":1}]}`), []bool{false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []bool
			for _, b := range decode(t, tc.raw, nil).Rules[0].Backends {
				got = append(got, b.Receives)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// A route tells copies apart if it names a host that ends in -shadow, as Envoy may mark a copy.
func TestTellsCopies(t *testing.T) {
	for name, spec := range map[string]string{
		"a host":      `{"hosts":["web-shadow.example.com"]}`,
		"an exact":    `{"hosts":["web"],"http":[{"match":[{"authority":{"exact":"web-shadow"}}]}]}`,
		"with a port": `{"hosts":["web"],"http":[{"match":[{"authority":{"prefix":"web-shadow:80"}}]}]}`,
	} {
		raw := `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","namespace":"shop"},"spec":` + spec + `}`
		assert.True(t, decode(t, []byte(raw), nil).TellsCopies, name)
	}
}
