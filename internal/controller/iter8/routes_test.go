package iter8

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBodyNamesOneObjectAndItsOwner(t *testing.T) {
	var body map[string]any
	require.NoError(t, json.Unmarshal(desiredOf(t, mirrored).body("u"), &body))
	metadata := body["metadata"].(map[string]any)
	require.Equal(t, "u", metadata["uid"])
	require.Equal(t, []any{map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "name": "p", "uid": "p-uid", "controller": true}}, metadata["ownerReferences"])
}
