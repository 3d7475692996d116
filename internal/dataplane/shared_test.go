package dataplane

import (
	"context"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	routes "github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// serve without a mesh has two models of one cluster: each resource is listed and watched once for both.
func TestClusterFeedsBothModelsWithOneListAndWatch(t *testing.T) {
	api := gatewayAPI(t)
	for path, kind := range map[string]string{
		"/api/v1/pods": "Pod", "/apis/apps/v1/deployments": "Deployment", "/apis/apps/v1/statefulsets": "StatefulSet",
		"/apis/apps/v1/daemonsets": "DaemonSet", "/apis/apps/v1/replicasets": "ReplicaSet",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions": "CustomResourceDefinition",
	} {
		api.Serve(path, kind)
	}
	crd := func(name string) map[string]any {
		return map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": name}}
	}
	api.Put(t, crd("httproutes.gateway.networking.k8s.io"))
	api.Put(t, crd("grpcroutes.gateway.networking.k8s.io"))
	api.Put(t, crd("referencegrants.gateway.networking.k8s.io"))

	variants := variant.NewIndex(variant.Options{})
	cluster, err := variant.NewCluster(api.Config(), variants, logr.Discard())
	require.NoError(t, err)
	f := unfed(t, api, Options{}, FeedOptions{WithoutEndpoints: true, WithProxies: true, Shared: cluster}, tutorial)
	assert.False(t, f.HasSynced())
	f.run(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- cluster.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	f.known(t)
	require.True(t, cluster.HasSynced())

	key := routes.Key{Kind: routes.HTTPRoute, Namespace: "shop", Name: "httpbin"}
	assert.NotNil(t, variants.Route(key))
	assert.Equal(t, []Name{name("httpbin")}, attached(f.Index))
	assert.Equal(t, map[string]bool{"services": true, "httproutes": true, "grpcroutes": true, "referencegrants": true, "namespaces": true, "pods": true}, f.Resources())
	shared := []string{"/api/v1/services", routesPath, grantsPath}
	for _, path := range append(shared, "/api/v1/namespaces", "/apis/discovery.k8s.io/v1/endpointslices") {
		eventually(t, "watched: "+path, func() bool { return api.Watched(path) })
		lists, watches := api.Requests(path)
		assert.Equal(t, []int{1, 1}, []int{lists, watches}, path)
	}

	f.put(t, serviceOf("second", wellknown.Enabled, "80"), routeOf("second", `{group: "", kind: Service, name: second}`, mirroring))
	eventually(t, "both follow", func() bool {
		return len(attached(f.Index)) == 2 && variants.Route(routes.Key{Kind: routes.HTTPRoute, Namespace: "shop", Name: "second"}) != nil
	})
	broken := map[string]any{"apiVersion": gatewayV1, "kind": "HTTPRoute", "metadata": map[string]any{"namespace": "shop", "name": "httpbin"}, "spec": "irror"}
	api.Put(t, broken)
	eventually(t, "a failure to read is counted", func() bool { return f.Failures()["httproutes"] == 1 })
	eventually(t, "the webhook's model drops an object that it cannot read", func() bool { return variants.Route(key) == nil })
	assert.Len(t, attached(f.Index), 2, "the proxies' model keeps it")

	api.Delete(t, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "httproutes.gateway.networking.k8s.io")
	eventually(t, "both forget a kind that is gone", func() bool { return len(attached(f.Index)) == 0 })
}
