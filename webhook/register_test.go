package webhook

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/manifests"
)

func TestRegistrationIsForTheChosenRoutes(t *testing.T) {
	u, err := url.Parse("https://192.0.2.7:9443")
	require.NoError(t, err)
	for _, routes := range [][]string{{manifests.GatewayAPI}, {manifests.Istio}, manifests.Routes(), nil} {
		mutating, validating, err := Registration{URL: u, Routes: routes}.configurations()
		require.NoError(t, err)
		for _, configuration := range []string{string(mutating), string(validating)} {
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
	mutating, validating, err := Registration{URL: u, Routes: []string{manifests.GatewayAPI, manifests.NoMesh}}.configurations()
	require.NoError(t, err)
	for _, path := range []string{MutatePath, ServicesPath} {
		require.Contains(t, string(mutating), `"url":"https://192.0.2.7:9443`+path+`"`)
	}
	require.Contains(t, string(validating), `"url":"https://192.0.2.7:9443`+ValidatePath+`"`)
	require.NotContains(t, string(validating), ServicesPath)
}
