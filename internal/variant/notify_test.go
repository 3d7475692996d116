package variant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// In every case these routes are stored: gw mirrors to shop/b from its own
// namespace, far from another one, vs to the subset v2, out to a host.
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
	now := func(keys ...string) (events []event) {
		for _, key := range keys {
			events = append(events, event{key: key})
		}
		return events
	}
	later := func(keys ...string) (events []event) {
		for _, key := range keys {
			events = append(events, event{key, DefaultGrace})
		}
		return events
	}
	cases := map[string]struct {
		change func(c *cluster)
		want   []event
	}{
		"service edited":         {func(c *cluster) { c.apply(serviceOf("shop/b", "app=c")) }, now(gw, far, vs)},
		"service deleted":        {func(c *cluster) { c.Delete(KindService, "shop", "b") }, now(gw, far, vs)},
		"service the same":       {func(c *cluster) { c.apply(serviceOf("shop/b", "app=b")) }, nil},
		"another service":        {func(c *cluster) { c.apply(serviceOf("shop/z", "app=z")) }, nil},
		"deployment idle":        {func(c *cluster) { c.apply(deployment("shop/b", "app=b,version=v2", 0)) }, now(gw, far, vs)},
		"deployment deleted":     {func(c *cluster) { c.Delete(KindDeployment, "shop", "b") }, now(gw, far, vs)},
		"deployment scaled":      {func(c *cluster) { c.apply(deployment("shop/b", "app=b,version=v2", 9)) }, nil},
		"deployment added":       {func(c *cluster) { c.apply(deployment("shop/n", "app=b", 1)) }, now(gw, far, vs)},
		"unrelated deployment":   {func(c *cluster) { c.apply(deployment("shop/n", "app=n", 1)) }, nil},
		"bare pod":               {func(c *cluster) { c.apply(podOf("shop/n", "app=b", "")) }, now(gw, far, vs)},
		"pod of a ReplicaSet":    {func(c *cluster) { c.apply(podOf("shop/n", "app=b", replicaSet)) }, nil},
		"ready pod relabelled":   {func(c *cluster) { c.apply(podOf("shop/b-1", "app=b", replicaSet)) }, append(now(vs), later(vs)...)},
		"ready pod deleted":      {func(c *cluster) { c.Delete(KindPod, "shop", "b-1") }, later(vs)},
		"unready pod relabelled": {func(c *cluster) { c.apply(podOf("shop/b-2", "app=b", replicaSet)) }, nil},
		"endpoints the same":     {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "!b-2", "b-1")) }, nil},
		"endpoints all unready":  {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "!b-2", "!b-1")) }, later(gw, far, vs)},
		"endpoints gone":         {func(c *cluster) { c.Delete(KindEndpointSlice, "shop", "b-x") }, later(gw, far, vs)},
		"one more ready":         {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "b-2", "b-1")) }, now(vs)},
		"another pod ready":      {func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "b-2")) }, append(now(vs), later(vs)...)},
		"rule edited":            {func(c *cluster) { c.apply(ruleOf("shop/b", "b", "", "v2", "")) }, now(vs)},
		"rule deleted":           {func(c *cluster) { c.Delete(KindDestinationRule, "shop", "b") }, now(vs)},
		"wildcard rule":          {func(c *cluster) { c.apply(ruleOf("web/b", "*.shop.svc.cluster.local", "", "v2", "")) }, now(vs, "VirtualService shop/else")},
		"unrelated rule":         {func(c *cluster) { c.apply(ruleOf("shop/z", "z", "", "v2", "")) }, nil},
		"service entry":          {func(c *cluster) { c.apply(entryOf("web/e", "*.example.com", "")) }, now(out)},
		"unrelated entry":        {func(c *cluster) { c.apply(entryOf("web/e", "*.example.org", "")) }, nil},
		"grant": {func(c *cluster) {
			c.apply(grantOf("shop/g", route.GatewayGroup, "HTTPRoute", "web", `{group: "", kind: Service}`))
		}, now(far)},
		"grant to others": {func(c *cluster) {
			c.apply(grantOf("shop/g", route.GatewayGroup, "HTTPRoute", "other", `{group: "", kind: Service}`))
		}, nil},
		"route added":            {func(c *cluster) { c.apply(httpRoute("shop/n", "shop/a", "shop/b")) }, now("HTTPRoute shop/n")},
		"route edited":           {func(c *cluster) { c.apply(httpRoute("shop/gw", "shop/a", "shop/c")) }, now(gw)},
		"route the same":         {func(c *cluster) { c.apply(httpRoute("shop/gw", "shop/a", "shop/b")) }, nil},
		"route deleted":          {func(c *cluster) { c.Delete(KindHTTPRoute, "shop", "gw") }, now(gw)},
		"rollout names a route":  {func(c *cluster) { c.apply(istioRollout) }, now(gw, far, vs, "VirtualService shop/one", "VirtualService shop/two", "VirtualService shop/three.web", "VirtualService web/three", "HTTPRoute edge/h1", "HTTPRoute edge/h2", "GRPCRoute edge/g1", "GRPCRoute edge/g2")},
		"list without a service": {func(c *cluster) { require.NoError(c.t, c.Replace(KindService)) }, now(gw, far, vs)},
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

func TestARefreshedRouteIsTheNewOne(t *testing.T) {
	c := notifyCluster(t)
	doc := httpRoute("shop/gw", "shop/a", "shop/b")
	doc.ResourceVersion = "7"
	c.apply(doc)
	assert.Empty(t, c.notified())
	assert.Same(t, doc, c.Route(doc.Key))
	c.Delete(KindService, "shop", "b")
	assert.Len(t, c.notified(), 3, "still indexed")
}

func TestTheEndOfTheGraceIsAnnounced(t *testing.T) {
	c := notifyCluster(t)
	c.apply(sliceOf("shop/b-x", "b", "!b-1"))
	events := c.notified()
	require.Len(t, events, 3)
	doc := c.Route(route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: "gw"})
	assert.Equal(t, policy.Ready, c.variant(doc).State)
	c.clock.Step(events[0].delay)
	assert.Equal(t, policy.Present, c.variant(doc).State)
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
	doc := httpRoute("shop/gw", "shop/a", "shop/b")
	c := newCluster(t, doc, serviceOf("shop/b", "app=b,tier=x"), sliceOf("shop/b-x", "b", "?"), ref)
	assert.Equal(t, policy.WorkloadNotFound, c.variant(doc).Reason, "the Rollout's own selector says less")
	c.notified()

	c.apply(deployment("shop/b", "app=b,tier=x", 0))
	assert.Equal(t, policy.Ready, c.variant(doc).State, "the template is the Deployment's, the replicas are not")
	assert.Equal(t, []event{{doc.String(), 0}}, c.notified())

	c.apply(deployment("shop/b", "app=b", 0))
	assert.Equal(t, policy.WorkloadNotFound, c.variant(doc).Reason)
	c.Delete(KindDeployment, "shop", "b")
	c.Delete(KindRollout, "shop", "b")
	c.Delete(KindService, "shop", "b")
	c.Delete(KindEndpointSlice, "shop", "b-x")
	c.Delete(KindHTTPRoute, "shop", "gw")
	c.clock.Step(time.Minute)
	c.apply(httpRoute("shop/none", "shop/a"))
	assertEmpty(t, c.Index)
}
