package webhook

// Routes that are too large to be read: their mirrors would escape every limit.

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

// mirrorsOf returns a VirtualService with a rule of n mirrors.
func mirrorsOf(n int, label string) []byte {
	return []byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","namespace":"shop","labels":{"a":"` + label + `"}},` +
		`"spec":{"hosts":["web"],"http":[{"mirrors":[` + strings.TrimSuffix(strings.Repeat(`{"destination":{"host":"v2"}},`, n), ",") + `]}]}}`)
}

func TestMirrorsThatAreTooManyToBeReadAreDenied(t *testing.T) {
	gate := New(fakeResolver{state: policy.Ready}, Options{})
	many := updated(t, mirrorsOf(2049, "a"), mirrorsOf(1, "a"))
	resp := gate.Validator().Handle(t.Context(), many)
	require.False(t, resp.Allowed)
	assert.Contains(t, resp.Result.Message, "spec.http: Invalid value: […]: PolicyExceeded: spec.http has more than 2048 mirrors, and mirrorgate judges no more; split the route")
	assert.True(t, gate.Mutator().Handle(t.Context(), many).Allowed)

	created := request(t, admissionv1.Create, "", "")
	created.Object.Raw = mirrorsOf(2049, "a")
	assert.False(t, gate.Validator().Handle(t.Context(), created).Allowed)

	known := gate.Validator().Handle(t.Context(), updated(t, mirrorsOf(2049, "b"), mirrorsOf(2049, "a")))
	assert.True(t, known.Allowed, "it was so before")
	fewer := gate.Validator().Handle(t.Context(), updated(t, mirrorsOf(2048, "a"), mirrorsOf(2049, "a")))
	assert.True(t, fewer.Allowed, "%v", fewer.Result)
}
