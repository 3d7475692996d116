package variant

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// notifyCluster returns a cluster with the routes of all cases: gw mirrors to shop/b from its own namespace,
// far from another one, vs to the subset v2, out to a host.
func notifyCluster(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, append(readyObjects(), istioRule,
		httpRoute("shop/gw", "shop/a", "shop/b"),
		httpRoute("web/far", "web/a", "shop/b"),
		virtualService("shop/vs", "a", "b#v2"),
		virtualService("shop/out", "a", "api.example.com"),
		virtualService("shop/else", "a", "c"),
	)...)
	c.notified()
	return c
}

func TestNotifications(t *testing.T) {
	const gw, far, vs, out = "HTTPRoute shop/gw", "HTTPRoute web/far", "VirtualService shop/vs", "VirtualService shop/out"
	cases := map[string]struct {
		change func(c *cluster)
		want   []string
	}{
		"service edited":         {func(c *cluster) { c.apply(serviceOf("shop/b", "app=c")) }, []string{gw, far, vs}},
		"service deleted":        {func(c *cluster) { c.Delete(KindService, "shop", "b") }, []string{gw, far, vs}},
		"service the same":       {func(c *cluster) { c.apply(serviceOf("shop/b", "app=b")) }, nil},
		"another service":        {func(c *cluster) { c.apply(serviceOf("shop/z", "app=z")) }, nil},
		"deployment idle":        {func(c *cluster) { c.apply(deployment("shop/b", "app=b,version=v2", 0)) }, []string{gw, far, vs}},
		"deployment deleted":     {func(c *cluster) { c.Delete(KindDeployment, "shop", "b") }, []string{gw, far, vs}},
		"deployment scaled":      {func(c *cluster) { c.apply(deployment("shop/b", "app=b,version=v2", 9)) }, nil},
		"deployment added":       {func(c *cluster) { c.apply(deployment("shop/n", "app=b", 1)) }, []string{gw, far, vs}},
		"unrelated deployment":   {func(c *cluster) { c.apply(deployment("shop/n", "app=n", 1)) }, nil},
		"bare pod":               {func(c *cluster) { c.apply(podOf("shop/n", "app=b", "")) }, []string{gw, far, vs}},
		"pod of a ReplicaSet":    {func(c *cluster) { c.apply(podOf("shop/n", "app=b", replicaSet)) }, nil},
		"ready pod relabelled":   {func(c *cluster) { c.apply(podOf("shop/b-1", "app=b", replicaSet)) }, []string{vs}},
		"ready pod deleted":      {func(c *cluster) { c.Delete(KindPod, "shop", "b-1") }, []string{vs}},
		"unready pod relabelled": {func(c *cluster) { c.apply(podOf("shop/b-2", "app=b", replicaSet)) }, nil},
		"endpoints the same":     {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "!b-2", "b-1")) }, nil},
		"endpoints all unready":  {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "!b-2", "!b-1")) }, []string{gw, far, vs}},
		"endpoints gone":         {func(c *cluster) { c.Delete(KindEndpointSlice, "shop", "b-x") }, []string{gw, far, vs}},
		"one more ready":         {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "b-2", "b-1")) }, []string{vs}},
		"another pod ready":      {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "b-2")) }, []string{vs}},
		"rule edited":            {func(c *cluster) { c.apply(ruleOf("shop/b", "b", "", "v2", "")) }, []string{vs}},
		"rule deleted":           {func(c *cluster) { c.Delete(KindDestinationRule, "shop", "b") }, []string{vs}},
		"wildcard rule":          {func(c *cluster) { c.apply(ruleOf("web/b", "*.shop.svc.cluster.local", "", "v2", "")) }, []string{vs, "VirtualService shop/else"}},
		"unrelated rule":         {func(c *cluster) { c.apply(ruleOf("shop/z", "z", "", "v2", "")) }, nil},
		"service entry":          {func(c *cluster) { c.apply(entryOf("web/e", "api.example.com", "")) }, []string{out}},
		"unrelated entry":        {func(c *cluster) { c.apply(entryOf("web/e", "*.example.org", "")) }, nil},
		"grant": {func(c *cluster) {
			c.apply(grantOf("shop/g", route.GatewayGroup, "HTTPRoute", "web", `{group: "", kind: Service}`))
		}, []string{far}},
		"grant to others": {func(c *cluster) {
			c.apply(grantOf("shop/g", route.GatewayGroup, "HTTPRoute", "other", `{group: "", kind: Service}`))
		}, nil},
		"route added":            {func(c *cluster) { c.apply(httpRoute("shop/n", "shop/a", "shop/b")) }, []string{"HTTPRoute shop/n"}},
		"route edited":           {func(c *cluster) { c.apply(httpRoute("shop/gw", "shop/a", "shop/c")) }, []string{gw}},
		"route the same":         {func(c *cluster) { c.apply(httpRoute("shop/gw", "shop/a", "shop/b")) }, nil},
		"route deleted":          {func(c *cluster) { c.Delete(KindHTTPRoute, "shop", "gw") }, []string{gw}},
		"rollout names a route":  {func(c *cluster) { c.apply(istioRollout) }, []string{gw, far, vs, "VirtualService shop/one", "VirtualService shop/two", "VirtualService shop/three.web"}},
		"list without a service": {func(c *cluster) { require.NoError(c.t, c.Replace(KindService)) }, []string{gw, far, vs}},
		"list with the same":     {func(c *cluster) { require.NoError(c.t, c.Replace(KindService, serviceOf("shop/b", "app=b"))) }, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := notifyCluster(t)
			tc.change(c)
			assert.ElementsMatch(t, tc.want, c.notified())
		})
	}
}

func TestAChangeThatHasNothingToDoWithMirrorsIsNotNotified(t *testing.T) {
	c := notifyCluster(t)
	rt := httpRoute("shop/gw", "shop/a", "shop/b")
	var object map[string]any
	require.NoError(t, json.Unmarshal(textOf(rt), &object))
	object["status"] = map[string]any{"parents": []any{}}
	maps.Copy(object["metadata"].(map[string]any), map[string]any{"resourceVersion": "7", "generation": 3, "labels": map[string]any{"a": "b"}})
	c.apply(decode(object))
	assert.Empty(t, c.notified())
	assert.Equal(t, "7", c.Route(rt.Key).ResourceVersion)
	rt.ResourceVersion = "7"
	assert.Equal(t, rt, c.Route(rt.Key))
	c.Delete(KindService, "shop", "b")
	assert.Len(t, c.notified(), 3, "the route is still found by its target")
}

// The end of the grace is no event, so the Snapshot has the time at which the route has to be checked again.
func TestTheSnapshotHasTheEndOfTheGrace(t *testing.T) {
	c := notifyCluster(t)
	rt := c.Route(route.Key{Kind: route.VirtualService, Namespace: "shop", Name: "vs"})
	assert.Zero(t, c.Snapshot(rt).Recheck, "an endpoint is ready")
	c.apply(sliceOf("shop/b-x", "b", "b-2", "b-1"))
	c.apply(sliceOf("shop/b-x", "b", "b-1"))
	c.clock.Step(defaultGrace / 2)
	c.apply(sliceOf("shop/b-x", "b", "!b-1"))
	assert.Contains(t, c.notified(), rt.String())
	assert.Equal(t, policy.Ready, c.variant(rt).State)
	assert.Equal(t, defaultGrace, c.Snapshot(rt).Recheck, "the grace begins with the loss of the last endpoint")
	c.clock.Step(defaultGrace)
	assert.Equal(t, policy.Present, c.variant(rt).State)
	assert.Zero(t, c.Snapshot(rt).Recheck)
}

func TestRolloutWithWorkloadRef(t *testing.T) {
	const ref = `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {namespace: shop, name: b}
spec:
  selector: {matchLabels: {app: b}}
  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: b}
`
	rt := httpRoute("shop/gw", "shop/a", "shop/b")
	c := newCluster(t, rt, serviceOf("shop/b", "app=b,tier=x"), sliceOf("shop/b-x", "b", "?"), ref)
	assert.Equal(t, policy.WorkloadNotFound, c.variant(rt).Reason, "the Rollout's own selector has fewer labels")
	c.notified()

	c.apply(deployment("shop/b", "app=b,tier=x", 0))
	assert.Equal(t, policy.Ready, c.variant(rt).State, "the labels come from the Deployment, the replicas do not")
	assert.Equal(t, []string{rt.String()}, c.notified())

	c.apply(deployment("shop/b", "app=b", 0))
	assert.Equal(t, policy.WorkloadNotFound, c.variant(rt).Reason)
	c.Delete(KindDeployment, "shop", "b")
	c.Delete(KindRollout, "shop", "b")
	c.Delete(KindService, "shop", "b")
	c.Delete(KindEndpointSlice, "shop", "b-x")
	c.Delete(KindHTTPRoute, "shop", "gw")
	c.clock.Step(time.Minute)
	c.apply(httpRoute("shop/none", "shop/a"))
	assertEmpty(t, c.Index)
}

func TestServicesAreNotifiedWhetherOrNotARouteMirrorsToThem(t *testing.T) {
	c := newCluster(t)
	c.apply(serviceOf("shop/before", "app=b"))
	var services []string
	c.SubscribeServices(func(names []types.NamespacedName) {
		for _, name := range names {
			services = append(services, name.String())
		}
	})
	for _, change := range []func(){
		func() { c.apply(serviceOf("shop/b", "app=b,version=v2")) },
		func() { c.apply(deployment("shop/b", "app=b,version=v2", 1)) },
		func() { c.apply(sliceOf("shop/b-x", "b", "b-1")) },
		func() { c.apply(sliceOf("shop/b-x", "b", "!b-1")) },
		func() { c.apply(deployment("shop/b", "app=b,version=v2", 0)) },
		func() { c.Delete(KindService, "shop", "b") },
	} {
		services = nil
		change()
		require.Contains(t, services, "shop/b")
	}
	services = nil
	c.apply(deployment("shop/n", "app=n", 1))
	require.Empty(t, services)
	require.Empty(t, c.notified(), "no route is stored")
}
