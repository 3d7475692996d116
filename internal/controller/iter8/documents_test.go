package iter8

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
)

func TestTemplatesAreExecutedOnlyForNewWeights(t *testing.T) {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "m", UID: "m", ResourceVersion: "1", Labels: map[string]string{documents.KindLabel: documents.KindRoutemap}},
		Data:       map[string]string{"strSpec": "versions: [{}, {}]\nroutingTemplates: {a: {gvrShort: vs, template: '{{if gt (index .Weights 1) 7}}{{index .Weights 9}}{{end}}'}}"},
	}
	s, _ := newTestState(t, fakeIndex{}, policy.Config{})
	d := s.readAll([]*corev1.ConfigMap{cm})[0]
	require.Nil(t, d.invalid)
	now := time.Unix(1000, 0)
	first := d.render([]uint32{1, 2}, now)
	require.Empty(t, first.errors)
	require.Same(t, first, d.render([]uint32{1, 2}, now.Add(time.Hour)))
	bad := d.render([]uint32{1, 8}, now)
	require.Len(t, bad.errors, 1)
	require.Same(t, bad, d.render([]uint32{1, 8}, now.Add(slowRetry-1)))
	require.NotSame(t, bad, d.render([]uint32{1, 8}, now.Add(slowRetry)))
	require.Empty(t, d.render([]uint32{1, 2}, now).errors)
	require.Same(t, d, s.readAll([]*corev1.ConfigMap{cm})[0])
	changed := cm.DeepCopy()
	changed.ResourceVersion = "2"
	require.NotSame(t, d, s.readAll([]*corev1.ConfigMap{changed})[0])
}
