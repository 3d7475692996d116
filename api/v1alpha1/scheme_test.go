package v1alpha1

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

func TestSchemeDecodesTheKinds(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, AddToScheme(scheme))
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	for kind, want := range map[string]runtime.Object{"MirrorLimit": &MirrorLimit{}, "MirrorPolicy": &MirrorPolicy{}} {
		o, _, err := decoder.Decode([]byte(`{"apiVersion":"mirrorgate.dev/v1alpha1","kind":"`+kind+`","metadata":{"name":"a"}}`), nil, nil)
		require.NoError(t, err)
		require.IsType(t, want, o)
	}
}
