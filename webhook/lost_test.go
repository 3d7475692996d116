package webhook

// Parked mirrors that a write loses, perhaps without knowing of them.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// parkedRoute returns a stored route with a parked mirror of 50 %.
func parkedRoute(t *testing.T) []byte {
	t.Helper()
	req := request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 50), "")
	stored, err := patch.Apply(req.Object.Raw, New(fakeResolver{state: policy.Absent}, Options{}).Mutator().Handle(t.Context(), req).Patches)
	require.NoError(t, err)
	return stored
}

// edited returns the route after an edit of its tree.
func edited(t *testing.T, raw []byte, edit func(route map[string]any)) []byte {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal(raw, &object))
	edit(object)
	out, err := json.Marshal(object)
	require.NoError(t, err)
	return out
}

func updated(t *testing.T, object, old []byte) admission.Request {
	t.Helper()
	req := request(t, admissionv1.Update, "", "")
	req.Object.Raw, req.OldObject.Raw = object, old
	return req
}

func gates() (lenient, strict *Gate) {
	absent := fakeResolver{state: policy.Absent}
	return New(absent, Options{}), New(absent, Options{Policy: Policy{Strict: true}})
}

// withMirror adds another mirror to the same target to the first rule.
func withMirror(t *testing.T, raw []byte, percent int) []byte {
	t.Helper()
	filter := fmt.Sprintf(`,{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80},"percent":%d}}],"backendRefs"`, percent)
	object := edited(t, raw, func(map[string]any) {}) // keys in order
	at := bytes.Index(object, []byte(`"filters":[`))
	end := at + bytes.Index(object[at:], []byte(`"type":"RequestHeaderModifier"}]`)) + len(`"type":"RequestHeaderModifier"}`)
	out := bytes.Join([][]byte{object[:end], []byte(filter[:len(filter)-len(`,"backendRefs"`)]), object[end+1:]}, nil)
	require.True(t, json.Valid(out), "%s", out)
	return out
}

func TestAMirrorThatReplacesAParkedOneIsTold(t *testing.T) {
	stored := parkedRoute(t)
	lenient, strict := gates()
	write := withMirror(t, stored, 1)

	resp := lenient.Mutator().Handle(t.Context(), updated(t, write, stored))
	require.True(t, resp.Allowed)
	assert.Contains(t, resp.Warnings, "MirrorReplaced: the parked mirror to v2:80 (50 %) gives way to the one in the rule (spec.rules[0])")
	resp = strict.Mutator().Handle(t.Context(), updated(t, write, stored))
	require.False(t, resp.Allowed)
	assert.Contains(t, resp.Result.Message, "MirrorReplaced")

	resp = strict.Mutator().Handle(t.Context(), updated(t, write, write))
	assert.True(t, resp.Allowed, "an earlier write made it")
	resp = strict.Mutator().Handle(t.Context(), updated(t, withMirror(t, stored, 50), stored))
	assert.True(t, resp.Allowed, "nothing is lost")
	assert.NotContains(t, fmt.Sprint(resp.Warnings), "MirrorReplaced")
	applied := toJSON(t, fmt.Sprintf(mirrored, "a", 1))
	resp = strict.Mutator().Handle(t.Context(), updated(t, applied, stored))
	assert.True(t, resp.Allowed, "a manifest that is applied again declares its own percentage")
	assert.NotContains(t, fmt.Sprint(resp.Warnings), "MirrorReplaced")
}

// While the mutating webhook was away, a write may have dropped the annotation: the mirror behind the
// placeholder is lost with it.
func TestAPlaceholderThatLostItsEntryIsTold(t *testing.T) {
	stored := parkedRoute(t)
	lenient, strict := gates()
	write := edited(t, stored, func(r map[string]any) {
		delete(r["metadata"].(map[string]any)["annotations"].(map[string]any), route.ParkedAnnotation)
	})

	resp := lenient.Validator().Handle(t.Context(), updated(t, write, stored))
	require.True(t, resp.Allowed)
	assert.Contains(t, fmt.Sprint(resp.Warnings), "OrphanedMark")
	resp = strict.Validator().Handle(t.Context(), updated(t, write, stored))
	require.False(t, resp.Allowed)
	assert.Contains(t, resp.Result.Message, "OrphanedMark")
	resp = strict.Validator().Handle(t.Context(), updated(t, write, write))
	assert.True(t, resp.Allowed, "an earlier write made it")
}
