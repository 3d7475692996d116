package config

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/docs/reference"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// docs/reference/proxy-file.md has every key of the file that is not HTTPRoute's.
func TestReferenceIsThatOfTheFile(t *testing.T) {
	keys := reference.Keys{Root: "../../..", Opaque: map[reflect.Type]string{
		reflect.TypeFor[spec.Rule]():           "rule of an HTTPRoute",
		reflect.TypeFor[spec.HeaderModifier](): "edits of headers, as in an HTTPRoute",
		reflect.TypeFor[spec.Size]():           "size",
	}}
	file, err := keys.Table(reflect.TypeFor[file]())
	require.NoError(t, err)
	mirror, err := keys.Table(reflect.TypeFor[spec.Mirror]())
	require.NoError(t, err)
	page := "# The proxy's file\n\nGenerated from the types that `mirrorgate proxy --config` reads. [proxy.md](../proxy.md) has examples, and " +
		"says what the rules of an HTTPRoute do. `[]` stands for each element of a list, `.*` for each key of a map.\n\n" + file +
		"\n## The key mirrorgate of a mirror\n\nA filter of type RequestMirror has these settings beside those of an HTTPRoute, in " +
		"`requestMirror.mirrorgate`.\n\n" + mirror
	require.NoError(t, reference.Hold("../../../docs/reference/proxy-file.md", page, *update))
}
