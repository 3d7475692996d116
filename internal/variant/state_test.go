package variant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

const istioRule = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {namespace: shop, name: b}
spec:
  host: b
  subsets:
  - {name: v2, labels: {version: v2}}
  - {name: other, labels: {app: a}}
`

func readyObjects() []any {
	return []any{
		serviceOf("shop/b", "app=b"),
		deployment("shop/b", "app=b,version=v2", 2),
		podOf("shop/b-1", "app=b,version=v2,pod-template-hash=1", replicaSet),
		sliceOf("shop/b-x", "b", "b-1", "!b-2"),
	}
}

func TestTransitionsOfAService(t *testing.T) {
	external := serviceOf("shop/b", "")
	external.Spec.Type = corev1.ServiceTypeExternalName
	cases := map[string]struct {
		change func(c *cluster)
		state  policy.State
		reason policy.Reason
		detail string
	}{
		"ready": {func(*cluster) {}, policy.Ready, "", ""},
		"service deleted": {func(c *cluster) { c.Delete(KindService, "shop", "b") },
			policy.Absent, policy.ServiceNotFound, `Service "shop/b" not found`},
		"service being deleted": {func(c *cluster) { c.apply(deleting(serviceOf("shop/b", "app=b"))) },
			policy.Absent, policy.ServiceDeleting, `Service "shop/b" is being deleted`},
		"external name": {func(c *cluster) { c.apply(external) }, policy.Ready, "", `Service "shop/b" is an ExternalName; the mirror is left alone`},
		"selector changed": {func(c *cluster) { c.apply(serviceOf("shop/b", "app=c")) },
			policy.Absent, policy.WorkloadNotFound, `no workload in namespace "shop" has pods with app=c`},
		"selector widened with what controllers add": {
			func(c *cluster) { c.apply(serviceOf("shop/b", "app=b,pod-template-hash=1")) }, policy.Ready, "", ""},
		"workload deleted": {func(c *cluster) { c.Delete(KindDeployment, "shop", "b") },
			policy.Absent, policy.WorkloadNotFound, `no workload in namespace "shop" has pods with app=b`},
		"workload being deleted": {func(c *cluster) { c.apply(deleting(deployment("shop/b", "app=b", 2))) },
			policy.Absent, policy.WorkloadDeleting, `Deployment "b" is being deleted`},
		"workload relabelled": {func(c *cluster) { c.apply(deployment("shop/b", "app=c", 2)) },
			policy.Absent, policy.WorkloadNotFound, `no workload in namespace "shop" has pods with app=b`},
		"scaled to 0": {func(c *cluster) { c.apply(deployment("shop/b", "app=b", 0)) },
			policy.Absent, policy.ScaledToZero, `Deployment "b" is scaled to 0`},
		"several scaled to 0": {func(c *cluster) {
			c.apply(deployment("shop/b", "app=b", 0), deployment("shop/a", "app=b", 0),
				deleting(deployment("shop/c", "app=b", 1)))
		}, policy.Absent, policy.ScaledToZero, `Deployment "a" and 1 more are scaled to 0`},
		"replaced by a StatefulSet": {func(c *cluster) {
			c.Delete(KindDeployment, "shop", "b")
			c.apply(statefulSet("shop/b", "app=b"))
		}, policy.Ready, "", ""},
		"replaced by a DaemonSet": {func(c *cluster) {
			c.Delete(KindDeployment, "shop", "b")
			c.apply(&appsv1.DaemonSet{ObjectMeta: meta("shop/b"), Spec: appsv1.DaemonSetSpec{Template: template("app=b")}})
		}, policy.Ready, "", ""},
		"replaced by a ReplicaSet": {func(c *cluster) {
			c.Delete(KindDeployment, "shop", "b")
			c.apply(&appsv1.ReplicaSet{ObjectMeta: meta("shop/b"), Spec: appsv1.ReplicaSetSpec{Template: template("app=b")}})
		}, policy.Ready, "", ""},
		"replaced by a pod of a Job": {func(c *cluster) {
			c.Delete(KindDeployment, "shop", "b")
			c.apply(podOf("shop/b-1", "app=b", "batch/v1 Job j"))
		}, policy.Ready, "", ""},
		"only an unready bare pod": {func(c *cluster) {
			c.Delete(KindDeployment, "shop", "b")
			c.apply(podOf("shop/b-1", "app=b", ""), sliceOf("shop/b-x", "b", "!b-1"))
			c.clock.Step(time.Minute)
		}, policy.Present, policy.NoReadyEndpoints, `Pod "b-1" is not ready`},
		"unready within the grace": {func(c *cluster) {
			c.apply(sliceOf("shop/b-x", "b", "!b-1"))
			c.clock.Step(defaultGrace - 1)
		}, policy.Ready, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"unready after the grace": {func(c *cluster) {
			c.apply(sliceOf("shop/b-x", "b", "!b-1"))
			c.clock.Step(defaultGrace)
		}, policy.Present, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"ready again": {func(c *cluster) {
			c.apply(sliceOf("shop/b-x", "b", "!b-1"))
			c.clock.Step(defaultGrace)
			c.apply(sliceOf("shop/b-x", "b", "b-1"))
		}, policy.Ready, "", ""},
		"endpoints gone after the grace": {func(c *cluster) {
			c.Delete(KindEndpointSlice, "shop", "b-x")
			c.clock.Step(defaultGrace)
		}, policy.Present, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"scaled to 0 within the grace": {func(c *cluster) {
			c.apply(sliceOf("shop/b-x", "b", "!b-1"), deployment("shop/b", "app=b", 0))
		}, policy.Absent, policy.ScaledToZero, `Deployment "b" is scaled to 0`},
		"without a selector, ready": {func(c *cluster) { c.apply(serviceOf("shop/b", ""), sliceOf("shop/b-x", "b", "?")) },
			policy.Ready, "", ""},
		"without a selector, unready": {func(c *cluster) {
			c.apply(serviceOf("shop/b", ""), sliceOf("shop/b-x", "b", "!?"))
			c.clock.Step(defaultGrace)
		}, policy.Present, policy.NoReadyEndpoints, `Service "shop/b" has no ready endpoint`},
		"without a selector or endpoints": {func(c *cluster) {
			c.apply(serviceOf("shop/b", ""))
			c.Delete(KindEndpointSlice, "shop", "b-x")
			c.clock.Step(defaultGrace)
		}, policy.Absent, policy.WorkloadNotFound, `Service "shop/b" has no endpoints`},
		"selecting one pod of a StatefulSet": {func(c *cluster) {
			c.apply(serviceOf("shop/b", "statefulset.kubernetes.io/pod-name=b-1"))
		}, policy.Ready, "", ""},
		"another namespace's workload": {func(c *cluster) {
			c.Delete(KindDeployment, "shop", "b")
			c.apply(deployment("other/b", "app=b", 1))
		}, policy.Absent, policy.WorkloadNotFound, `no workload in namespace "shop" has pods with app=b`},
	}
	rt := httpRoute("shop/a", "shop/a", "shop/b")
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, readyObjects()...)
			tc.change(c)
			got := c.variant(rt)
			assert.Equal(t, tc.state, got.State)
			assert.Equal(t, tc.reason, got.Reason)
			assert.Equal(t, tc.detail, got.Detail)
		})
	}
}

func TestTransitionsOfASubset(t *testing.T) {
	cases := map[string]struct {
		target string
		change func(c *cluster)
		state  policy.State
		reason policy.Reason
		detail string
	}{
		"ready":          {"b#v2", func(*cluster) {}, policy.Ready, "", ""},
		"no such subset": {"b#v9", func(*cluster) {}, policy.Absent, policy.SubsetNotFound, `DestinationRule "shop/b" has no subset "v9" (it has other, v2)`},
		"contradicts the selector": {"b#other", func(*cluster) {}, policy.Absent, policy.WorkloadNotFound,
			`subset "other" (app=a) contradicts the selector of Service "shop/b" (app=b)`},
		"rule deleted": {"b#v2", func(c *cluster) { c.Delete(KindDestinationRule, "shop", "b") },
			policy.Absent, policy.DestinationRuleNotFound, `no DestinationRule with subset "v2" for Service "shop/b" is visible from namespace "shop"`},
		"rule edited": {"b#v2", func(c *cluster) { c.apply(ruleOf("shop/b", "b", "", "v2", "version: v3")) },
			policy.Absent, policy.WorkloadNotFound, `no workload in namespace "shop" has pods with app=b,version=v3`},
		"subset without labels": {"b#v2", func(c *cluster) { c.apply(ruleOf("shop/b", "b", "", "v2", "")) }, policy.Ready, "", ""},
		"only pods of another version are ready": {"b#v2", func(c *cluster) {
			c.apply(podOf("shop/b-3", "app=b,version=v1", replicaSet), sliceOf("shop/b-x", "b", "b-3"))
			c.clock.Step(defaultGrace)
		}, policy.Present, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"lost within the grace": {"b#v2", func(c *cluster) { c.apply(sliceOf("shop/b-x", "b", "!b-1")) }, policy.Ready, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"scaled to 0 and back within the grace": {"b#v2", func(c *cluster) {
			c.apply(deployment("shop/b", "app=b,version=v2", 0), sliceOf("shop/b-x", "b", "!b-1"))
			c.clock.Step(time.Second)
			c.apply(deployment("shop/b", "app=b,version=v2", 1))
		}, policy.Present, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"pod gone before its endpoint": {"b#v2", func(c *cluster) { c.Delete(KindPod, "shop", "b-1") }, policy.Ready, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"pod gone before its endpoint, after the grace": {"b#v2", func(c *cluster) {
			c.Delete(KindPod, "shop", "b-1")
			c.clock.Step(defaultGrace)
		}, policy.Present, policy.NoReadyEndpoints, `Deployment "b" has no ready pod`},
		"pod relabelled into the subset": {"b#v2", func(c *cluster) {
			c.apply(podOf("shop/b-1", "app=b", replicaSet))
			c.clock.Step(defaultGrace)
			c.apply(podOf("shop/b-1", "app=b,version=v2", replicaSet))
		}, policy.Ready, "", ""},
		"workload of another version": {"b#v2", func(c *cluster) { c.apply(deployment("shop/b", "app=b,version=v1", 1)) },
			policy.Absent, policy.WorkloadNotFound, `no workload in namespace "shop" has pods with app=b,version=v2`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, append(readyObjects(), istioRule)...)
			tc.change(c)
			got := c.variant(virtualService("shop/a", "a", tc.target))
			assert.Equal(t, tc.state, got.State)
			assert.Equal(t, tc.reason, got.Reason)
			assert.Equal(t, tc.detail, got.Detail)
		})
	}
}

func TestASelectorThatMovesIsNoRestart(t *testing.T) {
	rt := httpRoute("shop/gw", "shop/a", "shop/b")
	c := newCluster(t, serviceOf("shop/b", "app=old"), deployment("shop/old", "app=old", 1), deployment("shop/new", "app=new", 1),
		podOf("shop/old-1", "app=old", replicaSet), sliceOf("shop/b-1", "b", "old-1"), rt)
	assert.Equal(t, policy.Ready, c.variant(rt).State)
	c.apply(serviceOf("shop/b", "app=new"))
	c.apply(sliceOf("shop/b-1", "b", "!new-1"))
	assert.Equal(t, policy.Present, c.variant(rt).State, "the new workload was never ready")
}

func TestLossesAreDroppedAfterTheGrace(t *testing.T) {
	c := newCluster(t, readyObjects()...)
	c.Delete(KindEndpointSlice, "shop", "b-x")
	assert.Len(t, c.losses, 1)
	c.clock.Step(defaultGrace)
	c.apply(serviceOf("shop/c", "app=c"))
	assert.Empty(t, c.losses)
	assert.Empty(t, c.endpoints)
}

func TestNoGrace(t *testing.T) {
	i, err := FromObjects(Options{Grace: -1}, readyObjects()...)
	assert.NoError(t, err)
	assert.NoError(t, i.Upsert(sliceOf("shop/b-x", "b", "!b-1")))
	got := i.Snapshot(httpRoute("shop/a", "shop/a", "shop/b"))
	for _, v := range got.Variants {
		assert.Equal(t, policy.Present, v.State)
	}
}

func TestFactsBesideTheState(t *testing.T) {
	external := serviceOf("shop/e", "")
	external.Spec.Type = corev1.ServiceTypeExternalName
	c := newCluster(t, append(readyObjects(), istioRule, external)...)

	got := c.variant(virtualService("shop/a", "a", "b"))
	assert.True(t, got.Exists)
	assert.False(t, got.LacksSubset, "a mirror without a subset lacks none")
	assert.Equal(t, []policy.Port{{Name: "http", Number: 8000}}, got.Ports)

	got = c.variant(httpRoute("shop/a", "shop/a", "shop/b"))
	assert.False(t, got.LacksSubset)

	got = c.variant(virtualService("shop/a", "a", "b#none"))
	assert.True(t, got.LacksSubset)
	assert.Equal(t, []string{"other", "v2"}, got.Subsets)

	assert.True(t, c.variant(httpRoute("shop/a", "shop/a", "shop/e")).External)

	foreign := route.Target{Group: "multicluster.x-k8s.io", Kind: "ServiceImport", Namespace: "shop", Name: "b"}
	rt := &route.Route{
		Key:   route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: "a"},
		Rules: []route.Rule{{Mirrors: []route.Mirror{{Target: foreign}}}},
	}
	assert.Equal(t, policy.Variant{
		State: policy.Ready, Exists: true, External: true, Detail: `kind "ServiceImport.multicluster.x-k8s.io" is not judged; the mirror is left alone`,
	}, c.variant(rt))
}

// A replica that starts during a restart of the variant decides like the replicas that saw it begin.
func TestGraceOfALossBeforeTheStart(t *testing.T) {
	rt := httpRoute("shop/gw", "shop/a", "shop/b")
	c := newCluster(t)
	old := deployment("shop/b", "app=b", 1)
	old.CreationTimestamp = metav1.NewTime(c.clock.Now().Add(-time.Hour))
	c.apply(serviceOf("shop/b", "app=b"), old, podOf("shop/p", "app=b", replicaSet), rt)
	lost := func(ago time.Duration) *discoveryv1.EndpointSlice {
		s := sliceOf("shop/b-1", "b", "!p")
		s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: c.clock.Now().Add(-ago).Format(time.RFC3339Nano)}
		return s
	}
	c.apply(lost(defaultGrace / 2))
	assert.Equal(t, policy.Ready, c.variant(rt).State)
	assert.True(t, c.variant(rt).InGrace)
	assert.Equal(t, defaultGrace/2, c.Snapshot(rt).Recheck)
	c.clock.Step(defaultGrace / 2)
	assert.Equal(t, policy.Present, c.variant(rt).State)

	for name, ago := range map[string]time.Duration{"long ago": defaultGrace, "by a clock that is ahead": -time.Minute} {
		c.Delete(KindEndpointSlice, "shop", "b-1")
		c.apply(lost(ago))
		assert.Equal(t, policy.Present, c.variant(rt).State, name)
	}
}
