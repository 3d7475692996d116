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
// far from another one, vs to the subset v2, in to the same through the alias shop/e, out to a host, outside to another
// one through the alias shop/f. outside and all serve clients of hosts that are no Services.
func notifyCluster(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, append(readyObjects(), istioRule,
		httpRoute("shop/gw", "shop/a", "shop/b"),
		httpRoute("web/far", "web/a", "shop/b"),
		virtualService("shop/vs", "a", "b#v2"),
		virtualService("shop/out", "a", "api.example.com"),
		virtualService("shop/else", "a", "c"),
		aliasOf("shop/e", hostOfB, 8000), aliasOf("shop/f", "www.example.com", 8000),
		virtualService("web/in", "x", "e.shop.svc.cluster.local#v2"),
		virtualService("web/outside", "api.example.com", "f.shop.svc.cluster.local"),
		virtualService("web/all", "*.example.com", "z"),
	)...)
	c.notified()
	return c
}

func TestNotifications(t *testing.T) {
	const (
		gw, far, vs, in               = "HTTPRoute shop/gw", "HTTPRoute web/far", "VirtualService shop/vs", "VirtualService web/in"
		other, out, outside, wildcard = "VirtualService shop/else", "VirtualService shop/out", "VirtualService web/outside", "VirtualService web/all"
	)
	cases := map[string]struct {
		change func(c *cluster)
		want   []string
	}{
		"service edited":         {func(c *cluster) { c.apply(serviceOf("shop/b", "app=c")) }, []string{gw, far, vs, in}},
		"service deleted":        {func(c *cluster) { c.Delete(KindService, "shop", "b") }, []string{gw, far, vs, in}},
		"service the same":       {func(c *cluster) { c.apply(serviceOf("shop/b", "app=b")) }, nil},
		"another service":        {func(c *cluster) { c.apply(serviceOf("shop/z", "app=z")) }, nil},
		"deployment idle":        {func(c *cluster) { c.apply(deployment("shop/b", "app=b,version=v2", 0)) }, []string{gw, far, vs, in}},
		"deployment deleted":     {func(c *cluster) { c.Delete(KindDeployment, "shop", "b") }, []string{gw, far, vs, in}},
		"deployment scaled":      {func(c *cluster) { c.apply(deployment("shop/b", "app=b,version=v2", 9)) }, nil},
		"deployment added":       {func(c *cluster) { c.apply(deployment("shop/n", "app=b", 1)) }, []string{gw, far, vs, in}},
		"unrelated deployment":   {func(c *cluster) { c.apply(deployment("shop/n", "app=n", 1)) }, nil},
		"bare pod":               {func(c *cluster) { c.apply(podOf("shop/n", "app=b", "")) }, []string{gw, far, vs, in}},
		"pod of a ReplicaSet":    {func(c *cluster) { c.apply(podOf("shop/n", "app=b", replicaSet)) }, nil},
		"ready pod relabelled":   {func(c *cluster) { c.apply(podOf("shop/b-1", "app=b", replicaSet)) }, []string{vs, in}},
		"ready pod deleted":      {func(c *cluster) { c.Delete(KindPod, "shop", "b-1") }, []string{vs, in}},
		"unready pod relabelled": {func(c *cluster) { c.apply(podOf("shop/b-2", "app=b", replicaSet)) }, nil},
		"endpoints the same":     {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "!b-2", "b-1")) }, nil},
		"endpoints all unready":  {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "!b-2", "!b-1")) }, []string{gw, far, vs, in}},
		"endpoints gone":         {func(c *cluster) { c.Delete(KindEndpointSlice, "shop", "b-x") }, []string{gw, far, vs, in}},
		"one more ready":         {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "b-2", "b-1")) }, []string{vs, in}},
		"another pod ready":      {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "b-2")) }, []string{vs, in}},
		"rule edited":            {func(c *cluster) { c.apply(ruleOf("shop/b", "b", "", "v2", "")) }, []string{vs, in}},
		"rule deleted":           {func(c *cluster) { c.Delete(KindDestinationRule, "shop", "b") }, []string{vs, in}},
		"wildcard rule":          {func(c *cluster) { c.apply(ruleOf("web/b", "*.shop.svc.cluster.local", "", "v2", "")) }, []string{vs, in, other, outside}},
		"unrelated rule":         {func(c *cluster) { c.apply(ruleOf("shop/z", "z", "", "v2", "")) }, nil},
		"service entry":          {func(c *cluster) { c.apply(entryOf("web/e", "api.example.com", "")) }, []string{out, outside, wildcard}},
		"entry of an alias":      {func(c *cluster) { c.apply(entryOf("web/e", "www.example.com", "")) }, []string{outside, wildcard}},
		"entry of a wildcard":    {func(c *cluster) { c.apply(entryOf("web/e", "*.example.com", "")) }, []string{wildcard}},
		"rule of an alias":       {func(c *cluster) { c.apply(ruleOf("web/e", "www.example.com", "", "v2", "")) }, []string{outside}},
		"wildcard of an alias":   {func(c *cluster) { c.apply(ruleOf("web/e", "*.example.com", "", "v2", "")) }, []string{out, outside}},
		"alias deleted":          {func(c *cluster) { c.Delete(KindService, "shop", "e") }, []string{in}},
		"alias of another":       {func(c *cluster) { c.apply(aliasOf("shop/f", "x.io", 8000)) }, []string{outside}},
		"a client's Service":     {func(c *cluster) { c.apply(serviceOf("shop/a", "app=a")) }, []string{vs, out, other}},
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
		"rollout names a route":  {func(c *cluster) { c.apply(istioRollout) }, []string{gw, far, vs, in, "VirtualService shop/one", "VirtualService shop/two", "VirtualService shop/three.web"}},
		"list without a service": {func(c *cluster) { require.NoError(c.t, c.Replace(KindService)) }, []string{gw, far, vs, in, outside}},
		"list with the same": {func(c *cluster) {
			require.NoError(c.t, c.Replace(KindService, serviceOf("shop/b", "app=b"), aliasOf("shop/e", hostOfB, 8000), aliasOf("shop/f", "www.example.com", 8000)))
		}, nil},
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
	assert.Len(t, c.notified(), 4, "the route is still found by its target")
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
