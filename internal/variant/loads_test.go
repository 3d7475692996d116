package variant

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

const (
	limitLoad = `{apiVersion: mirrorgate.dev/v1alpha1, kind: MirrorLimit, metadata: {name: load}, spec: {maxLoad: 200}}`
	loadRoute = `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web, namespace: shop}, spec: {rules: [{
  filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}], backendRefs: [{name: v1, port: 80}]}]}}`
	subsetRoute = `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: mesh, namespace: shop}, spec: {hosts: [app],
  http: [{route: [{destination: {host: app, subset: one}}], mirror: {host: app, subset: two}}]}}`
)

// counted returns the ready pods by which the limits of a route are decided.
func counted(t *testing.T, c *cluster, kind route.Kind, name string) map[string]int {
	t.Helper()
	rt := c.Route(route.Key{Kind: kind, Namespace: "shop", Name: name})
	require.NotNil(t, rt)
	out := map[string]int{}
	for target, n := range c.Snapshot(rt).Scope.Pods {
		out[strings.TrimSuffix(target.Name+"/"+target.Subset, "/")] = n
	}
	return out
}

// readyPods returns an EndpointSlice with so many ready pods.
func readyPods(service string, n int) *discoveryv1.EndpointSlice {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint(service, "-", i))
	}
	return sliceOf("shop/"+service+"-x", service, names...)
}

// A number of pods that changes counts 30 s later, and one that is back by then does not: a rollout does not make routes
// flap.
func TestPodsThatComeAndGoCountAfterAHold(t *testing.T) {
	c := newCluster(t, serviceOf("shop/v1", "app=v1"), serviceOf("shop/v2", "app=v2"), readyPods("v1", 10), readyPods("v2", 2), loadRoute)
	assert.Empty(t, counted(t, c, route.HTTPRoute, "web"), "no limit asks for pods")
	c.apply(limitLoad)
	assert.Equal(t, map[string]int{"v1": 10, "v2": 2}, counted(t, c, route.HTTPRoute, "web"))
	c.notified()
	recheck := func() time.Duration {
		return c.Snapshot(c.Route(route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: "web"})).Recheck
	}

	for _, n := range []int{11, 13, 12, 10} { // a rollout of the primary
		c.apply(readyPods("v1", n))
		assert.Equal(t, []string{"HTTPRoute shop/web"}, c.notified(), "the primary's pods concern the route")
		assert.Equal(t, 10, counted(t, c, route.HTTPRoute, "web")["v1"])
		c.clock.Step(9 * time.Second)
	}
	assert.Zero(t, recheck(), "it is as it was")
	c.clock.Step(time.Hour)
	assert.Equal(t, 10, counted(t, c, route.HTTPRoute, "web")["v1"])

	c.apply(readyPods("v2", 1))
	assert.Equal(t, []string{"HTTPRoute shop/web"}, c.notified())
	assert.Equal(t, loadHold, recheck())
	c.clock.Step(loadHold - time.Second)
	assert.Equal(t, 2, counted(t, c, route.HTTPRoute, "web")["v2"])
	assert.Equal(t, time.Second, recheck())
	c.clock.Step(time.Second)
	assert.Equal(t, 1, counted(t, c, route.HTTPRoute, "web")["v2"])
	assert.Zero(t, recheck())

	// Numbers that never rest count as well, every 30 s.
	for n := 2; n < 20; n++ {
		c.apply(readyPods("v2", n))
		c.clock.Step(10 * time.Second)
	}
	assert.Greater(t, counted(t, c, route.HTTPRoute, "web")["v2"], 12)
}

func TestPodsOfSubsetsAreCountedByTheirLabels(t *testing.T) {
	c := newCluster(t, serviceOf("shop/app", "app=app"), limitLoad, subsetRoute, sliceOf("shop/app-x", "app", "a", "b", "c", "d"),
		`{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: app, namespace: shop}, spec: {host: app, subsets: [
		{name: one, labels: {version: one}}, {name: two, labels: {version: two}}]}}`)
	for pod, version := range map[string]string{"a": "one", "b": "one", "c": "one", "d": "two"} {
		c.apply(podOf("shop/"+pod, "app=app,version="+version, replicaSet))
	}
	assert.Equal(t, map[string]int{"app/one": 3, "app/two": 1}, counted(t, c, route.VirtualService, "mesh"))
	c.notified()
	c.apply(podOf("shop/c", "app=app,version=two", replicaSet))
	assert.Contains(t, c.notified(), "VirtualService shop/mesh")
	c.clock.Step(loadHold)
	assert.Equal(t, map[string]int{"app/one": 2, "app/two": 2}, counted(t, c, route.VirtualService, "mesh"))
}

func TestAPodOfTwoAddressFamiliesCountsOnce(t *testing.T) {
	six := readyPods("v2", 3)
	six.Name, six.AddressType = "v2-six", discoveryv1.AddressTypeIPv6
	c := newCluster(t, serviceOf("shop/v1", "app=v1"), serviceOf("shop/v2", "app=v2"), limitLoad, loadRoute, readyPods("v1", 4), readyPods("v2", 3), six)
	assert.Equal(t, map[string]int{"v1": 4, "v2": 3}, counted(t, c, route.HTTPRoute, "web"))
}

// Behind a Service with proxies in front of it are the proxies; its origin has the primary's pods.
func TestTheOriginOfAServiceHasItsPods(t *testing.T) {
	c := newCluster(t, serviceOf("shop/v1", "app=v1"), serviceOf("shop/v2", "app=v2"), limitLoad, loadRoute, readyPods("v1", 2), readyPods("v2", 3),
		serviceOf("shop/v1-mirrorgate-origin", "app=v1"), readyPods("v1-mirrorgate-origin", 7))
	assert.Equal(t, map[string]int{"v1": 7, "v2": 3}, counted(t, c, route.HTTPRoute, "web"))
}

// A tenant may make any number of subsets and routes; what is kept for them goes with their Service and with them.
func TestCountsAreBounded(t *testing.T) {
	c := newCluster(t, serviceOf("shop/app", "app=app"), limitLoad, subsetRoute, sliceOf("shop/app-x", "app", "a"), podOf("shop/a", "app=app,version=0", replicaSet))
	for n := range 1000 {
		c.apply(ruleOf("shop/app", "app", "", "two", fmt.Sprintf("version: %q", fmt.Sprint(n))))
		counted(t, c, route.VirtualService, "mesh")
		require.LessOrEqual(t, len(c.scopes.counts), 1)
		for _, counts := range c.scopes.counts {
			require.LessOrEqual(t, len(counts), maxHeldCounts)
		}
	}
	c.apply(loadRoute, serviceOf("shop/v1", "app=v1"), serviceOf("shop/v2", "app=v2"), readyPods("v1", 2), readyPods("v2", 1))
	counted(t, c, route.HTTPRoute, "web")
	c.Delete(KindHTTPRoute, "shop", "web")
	c.notified()
	c.apply(readyPods("v1", 3))
	assert.Empty(t, c.notified(), "the route is gone")
	for _, name := range []string{"app", "v1", "v2"} {
		c.Delete(KindService, "shop", name)
	}
	assert.Empty(t, c.scopes.counts)
}
