package iter8

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

func TestManagesOnlyRoutesOfConfigMaps(t *testing.T) {
	owned := object(t, mirrored)
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "p", UID: "p-uid"}})
	owned.SetUID("r")
	decode := func(u *unstructured.Unstructured) *route.Route {
		raw, err := u.MarshalJSON()
		require.NoError(t, err)
		doc, err := route.Decode(raw, route.Options{})
		require.NoError(t, err)
		return doc
	}
	doc := decode(owned)
	s, _ := newTestState(t, fakeIndex{}, policy.Config{})
	c := s.run.Controller
	require.False(t, c.Manages(decode(object(t, mirrored))))
	require.True(t, c.Manages(doc), "until all documents were served")
	c.run.Store(s.run)
	require.True(t, c.Manages(doc))
	s.run.complete.Store(true)
	require.False(t, c.Manages(doc))
	s.run.managed.Store(doc.Key, types.UID("r"))
	require.True(t, c.Manages(doc))
	owned.SetUID("another")
	require.False(t, c.Manages(decode(owned)))

	given := object(t, mirrored)
	given.SetUID("r")
	given.SetAnnotations(map[string]string{route.DocumentAnnotation: "p"})
	raw, err := given.MarshalJSON()
	require.NoError(t, err)
	packed, err := route.Pack(raw)
	require.NoError(t, err)
	rt, err := packed.Route(route.Options{})
	require.NoError(t, err)
	require.True(t, c.Manages(rt), "one controller decides on a route that is given to a document")
}
