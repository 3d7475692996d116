package objects

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

func TestRefusesWhatProxiesCannotCarry(t *testing.T) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", Selector: map[string]string{"app": "x"}},
	}
	require.Empty(t, intercept.Refused(Read(s)))
	for key, says := range map[string]string{"pod-template-hash": "pod-template-hash", wellknown.ParentLabel: wellknown.ParentLabel} {
		s.Spec.Selector = map[string]string{key: "x"}
		require.Contains(t, intercept.Refused(Read(s)), says)
	}
	s.Spec.Selector, s.Labels = map[string]string{"app": "x"}, map[string]string{wellknown.ParentLabel: "web"}
	require.Contains(t, intercept.Refused(Read(s)), "mirrorgate's own")
}

// In bypass a Service has its primary's selector, which may be one that Argo Rollouts swaps.
func TestRefusesByWhatTheAuthorWrote(t *testing.T) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{
			wellknown.SelectorAnnotation: `{"original":{"app":"x"},"written":{"rollouts-pod-template-hash":"5d"}}`,
		}},
		Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Selector: map[string]string{"rollouts-pod-template-hash": "5d"}},
	}
	require.Empty(t, intercept.Refused(Read(s)))
	s.Annotations = nil
	require.Contains(t, intercept.Refused(Read(s)), "Argo Rollouts")
}

// Flagger and Argo Rollouts change the selectors of Services themselves.
func TestRefusesServicesOfOtherTools(t *testing.T) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", OwnerReferences: []metav1.OwnerReference{{APIVersion: "flagger.app/v1beta1", Kind: "Canary"}}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", Selector: map[string]string{"app": "x"}},
	}
	assert.Equal(t, "its selector belongs to Flagger", intercept.Refused(Read(s)))
	s.OwnerReferences = nil
	s.Annotations = map[string]string{"argo-rollouts.argoproj.io/managed-by-rollouts": "web"}
	assert.Equal(t, "its selector belongs to Argo Rollouts", intercept.Refused(Read(s)))
}
