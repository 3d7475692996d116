package webhook

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/mirrorgate/mirrorgate/manifests"
)

// configurations returns both configurations of a registration as JSON.
func configurations(t *testing.T, r Registration) (mutating, validating string) {
	t.Helper()
	m, v, err := r.configurations()
	require.NoError(t, err)
	first, err := json.Marshal(m)
	require.NoError(t, err)
	second, err := json.Marshal(v)
	require.NoError(t, err)
	return string(first), string(second)
}

func TestRegistrationIsForTheChosenRoutes(t *testing.T) {
	u, err := url.Parse("https://192.0.2.7:9443")
	require.NoError(t, err)
	for _, routes := range [][]string{{manifests.GatewayAPI}, {manifests.Istio}, manifests.Routes(), nil} {
		mutating, validating := configurations(t, Registration{URL: u, Routes: routes})
		for _, configuration := range []string{mutating, validating} {
			for name, group := range map[string]string{manifests.GatewayAPI: "gateway.networking.k8s.io", manifests.Istio: "networking.istio.io"} {
				has := require.NotContains
				if routes == nil || routes[0] == name || len(routes) > 1 {
					has = require.Contains
				}
				has(t, configuration, `"apiGroups":["`+group+`"]`)
			}
		}
	}
}

func TestRegistrationKeepsThePathOfEachWebhook(t *testing.T) {
	u, err := url.Parse("https://192.0.2.7:9443")
	require.NoError(t, err)
	mutating, validating := configurations(t, Registration{URL: u, Routes: []string{manifests.GatewayAPI, manifests.NoMesh}})
	for _, path := range []string{MutatePath, ServicesPath} {
		require.Contains(t, mutating, `"url":"https://192.0.2.7:9443`+path+`"`)
	}
	require.Contains(t, validating, `"url":"https://192.0.2.7:9443`+ValidatePath+`"`)
	require.NotContains(t, validating, ServicesPath)
}

// Before the proof, no registration has a webhook that is called for routes.
func TestTheProofIsCalledForNothingElse(t *testing.T) {
	u, err := url.Parse("https://192.0.2.7:9443")
	require.NoError(t, err)
	client := fake.NewClientset()
	r := Registration{URL: u, CABundle: []byte("ca")}
	require.NoError(t, r.Apply(t.Context(), client)) // by a process that crashed
	require.NoError(t, r.PrepareProof(t.Context(), client, "mirrorgate-probe"))
	v, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), r.Name(), metav1.GetOptions{})
	require.NoError(t, err)
	require.Len(t, v.Webhooks, 1)
	leftover, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, leftover.Items)
	w := v.Webhooks[0]
	require.Equal(t, []string{"configmaps"}, w.Rules[0].Resources)
	require.Equal(t, "mirrorgate-probe", w.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
	require.Equal(t, r.Name(), w.ObjectSelector.MatchLabels["mirrorgate.dev/reach"])
	require.Equal(t, "has(request.dryRun) && request.dryRun", w.MatchConditions[0].Expression)

	require.NoError(t, r.Apply(t.Context(), client))
	v, err = client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), r.Name(), metav1.GetOptions{})
	require.NoError(t, err)
	for _, w := range v.Webhooks {
		require.NotEqual(t, "reach.mirrorgate.dev", w.Name)
		require.Equal(t, admissionregistrationv1.Ignore, *w.FailurePolicy, "only a proof sets Fail")
	}
	require.NoError(t, r.Remove(t.Context(), client))
	left, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, left.Items)
}
