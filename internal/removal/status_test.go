package removal

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/feed/feedtest"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	routesPath = "/apis/gateway.networking.k8s.io/v1/httproutes"
	gatewayV1  = "gateway.networking.k8s.io/v1"
	other      = "example.com/gateway"
)

// putRoute stores an HTTPRoute with an entry of each controller in its status.
func putRoute(t *testing.T, api *feedtest.API, namespace, name string, controllers ...string) {
	putRouteOf(t, api, "HTTPRoute", namespace, name, controllers...)
}

func putRouteOf(t *testing.T, api *feedtest.API, kind, namespace, name string, controllers ...string) {
	parents := []any{}
	for i, c := range controllers {
		parents = append(parents, map[string]any{
			"controllerName": c, "parentRef": map[string]any{"name": fmt.Sprint(i), "unknown": true}, "conditions": []any{},
		})
	}
	api.Put(t, map[string]any{
		"apiVersion": gatewayV1, "kind": kind, "metadata": map[string]any{"namespace": namespace, "name": name, "uid": namespace + name},
		"spec": map[string]any{"hostnames": []any{"a.example"}}, "status": map[string]any{"parents": parents},
	})
}

func removalFrom(t *testing.T, api *feedtest.API, dryRun bool) Removal {
	routes, err := dynamic.NewForConfig(api.Config())
	require.NoError(t, err)
	return Removal{Routes: routes, DryRun: dryRun}
}

func TestStatusesClearsOurEntriesAlone(t *testing.T) {
	api := feedtest.New(t)
	api.Serve(routesPath, "HTTPRoute")
	putRoute(t, api, "shop", "both", other, wellknown.ControllerName, wellknown.ControllerName)
	putRoute(t, api, "bank", "ours", wellknown.ControllerName)
	for _, name := range []string{"a", "b", "c"} { // more than a page
		putRoute(t, api, "shop", name, other)
	}
	putRoute(t, api, "shop", "none")
	api.Serve("/apis/gateway.networking.k8s.io/v1/grpcroutes", "GRPCRoute")
	putRouteOf(t, api, "GRPCRoute", "shop", "both", other, wellknown.ControllerName)
	before := api.Get(t, gatewayV1, "HTTPRoute", "shop", "both")

	found, err := removalFrom(t, api, true).Statuses(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"HTTPRoute shop/both", "HTTPRoute bank/ours", "GRPCRoute shop/both"}, found)
	assert.Empty(t, api.Patches(), "a dry run changes nothing")

	found, err = removalFrom(t, api, false).Statuses(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"HTTPRoute shop/both", "HTTPRoute bank/ours", "GRPCRoute shop/both"}, found)
	parents := func(u *unstructured.Unstructured) []any {
		list, _, err := unstructured.NestedSlice(u.Object, "status", "parents")
		require.NoError(t, err)
		return list
	}
	after := api.Get(t, gatewayV1, "HTTPRoute", "shop", "both")
	assert.Equal(t, parents(before)[:1], parents(after))
	assert.Equal(t, before.Object["spec"], after.Object["spec"])
	assert.Empty(t, parents(api.Get(t, gatewayV1, "HTTPRoute", "bank", "ours")))
	assert.Len(t, parents(api.Get(t, gatewayV1, "GRPCRoute", "shop", "both")), 1)
	require.Len(t, api.Patches(), 3)
	for _, p := range api.Patches() {
		assert.Regexp(t, "/status$", p.Path)
	}

	found, err = removalFrom(t, api, false).Statuses(t.Context())
	require.NoError(t, err)
	assert.Empty(t, found, "nothing is left to clear")
}

// Policies have another list, and older clusters another version.
func TestStatusesOfPolicies(t *testing.T) {
	api := feedtest.New(t)
	const version = "gateway.networking.k8s.io/v1alpha3"
	api.Serve("/apis/"+version+"/backendtlspolicies", "BackendTLSPolicy")
	entry := func(controller string) any {
		return map[string]any{"controllerName": controller, "ancestorRef": map[string]any{"name": "web"}, "conditions": []any{}}
	}
	api.Put(t, map[string]any{
		"apiVersion": version, "kind": "BackendTLSPolicy", "metadata": map[string]any{"namespace": "shop", "name": "p", "uid": "p"},
		"status": map[string]any{"ancestors": []any{entry(other), entry(wellknown.ControllerName)}},
	})
	found, err := removalFrom(t, api, false).Statuses(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"BackendTLSPolicy shop/p"}, found)
	left, has := othersEntries(api.Get(t, version, "BackendTLSPolicy", "shop", "p"), "ancestors")
	assert.False(t, has)
	assert.Len(t, left, 1)
}

func TestStatusesWithoutGatewayAPI(t *testing.T) {
	found, err := removalFrom(t, feedtest.New(t), false).Statuses(t.Context())
	require.NoError(t, err)
	assert.Empty(t, found)
}

// A route that somebody writes between the list and the patch is read again.
func TestClearStatusAfterAConflict(t *testing.T) {
	api := feedtest.New(t)
	api.Serve(routesPath, "HTTPRoute")
	putRoute(t, api, "shop", "r", wellknown.ControllerName)
	stale := api.Get(t, gatewayV1, "HTTPRoute", "shop", "r")
	putRoute(t, api, "shop", "r", other, wellknown.ControllerName)
	removal := removalFrom(t, api, false)
	routes := removal.Routes.Resource(feed.HTTPRoutes.At("v1")).Namespace("shop")
	require.NoError(t, removal.clearStatus(t.Context(), routes, stale, "parents"))
	after := api.Get(t, gatewayV1, "HTTPRoute", "shop", "r")
	left, has := othersEntries(after, "parents")
	assert.False(t, has)
	assert.Len(t, left, 1)

	api.Delete(t, gatewayV1, "HTTPRoute", "shop", "r")
	require.NoError(t, removal.clearStatus(t.Context(), routes, stale, "parents"), "a route that is gone")
}
