package patch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/patch"
)

func TestCheckFailsWhereApplyFails(t *testing.T) {
	doc := []byte(`{"list":["a","b"],"none":null}`)
	for name, op := range map[string]patch.Operation{
		"a missing member":        patch.Remove("/missing"),
		"an index behind the end": patch.Add("/list/3", 1),
		"below a missing member":  patch.Add("/missing/x", 1),
		"a missing element":       patch.Remove("/list/2"),
		"below null":              patch.Add("/none/x", 1),
		"a name as an index":      patch.Remove("/list/a"),
	} {
		_, err := patch.Apply(doc, []patch.Operation{op})
		require.Error(t, err, name)
		require.ErrorContains(t, patch.Check(doc, []patch.Operation{op}), op.Operation+" "+op.Path, name)
	}
	require.NoError(t, patch.Check(doc, []patch.Operation{
		patch.Remove("/list/1"), patch.Add("/list/1", "c"), patch.Add("/list/-", "d"), patch.Remove("/list/2"), patch.Add("/new", 1), patch.Remove("/none"),
	}))
}

// FuzzCheck compares Check with the library of the API server.
func FuzzCheck(f *testing.F) {
	f.Add(`{"a":{"b":[1,{"c":2}]}}`, "/a/b/1/c", "/a/b/-", true, false)
	f.Add(`{"a":[1,2,3]}`, "/a/0", "/a/2", false, false)
	f.Add(`{"a":null}`, "/a/b", "/a", true, true)
	f.Add(`{"a~b":{"c/d":[]}}`, "/a~0b/c~1d/0", "/a~0b/c~1d/1", true, true)
	f.Fuzz(func(t *testing.T, doc, first, second string, addFirst, addSecond bool) {
		var ops []patch.Operation
		for _, op := range []struct {
			path string
			add  bool
		}{{first, addFirst}, {second, addSecond}} {
			if op.add {
				ops = append(ops, patch.Add(patch.Pointer(op.path), "x"))
			} else {
				ops = append(ops, patch.Remove(patch.Pointer(op.path)))
			}
		}
		if err := patch.Check([]byte(doc), ops); err == nil {
			_, err = patch.Apply([]byte(doc), ops)
			require.NoError(t, err, "a patch that Check accepts must apply")
		}
	})
}
