package policies

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/report"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

var (
	start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	name  = types.NamespacedName{Namespace: "shop", Name: "web"}
)

func parse(t *testing.T, spec string) *v1alpha1.MirrorPolicy {
	t.Helper()
	var p v1alpha1.MirrorPolicy
	require.NoError(t, yaml.UnmarshalStrict([]byte(`{metadata: {name: web, namespace: shop, generation: 3}, spec: {
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}], `+spec+`}}`), &p))
	return &p
}

const threeSteps = "ramp: {steps: [{percent: 1, for: 10m}, {percent: 10, for: 1h}, {percent: 100}]}"

// cluster is a cluster with one route and one policy: the Index, and the API server with its rules about resource
// versions.
type cluster struct {
	state  policy.State // of the variant
	parked bool
	older  string
	limits []limits.Limit
	policy *v1alpha1.MirrorPolicy
	// counted is what proxies report about the route.
	counted map[report.Key]report.Sum
	// away is set while the API server does not answer.
	away     bool
	versions int
	writes   []v1alpha1.TargetStatus
}

func (c *cluster) Route(route.Key) *route.Route {
	filters := `{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}}}`
	annotations := ""
	if c.parked {
		annotations = `, "annotations": {"mirrorgate.dev/parked": "{\"1e24fc1979\": {\"filter\": {\"type\": \"RequestMirror\", \"requestMirror\": {\"backendRef\": {\"name\": \"v2\", \"port\": 80}}}}}"}`
		filters = `{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-mirrorgate-parked-1e24fc1979"]}}`
	}
	rt, err := route.Decode([]byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"`+annotations+`},
		"spec": {"rules": [{"name": "checkout", "filters": [`+filters+`]}]}}`), route.Options{})
	if err != nil {
		panic(err)
	}
	return rt
}

func (c *cluster) Snapshot(rt *route.Route) policy.Snapshot {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}}
	for _, m := range rt.Every {
		snap.Variants[m.Target] = policy.Variant{State: c.state, Exists: true, Ports: []policy.Port{{Number: 80}}, Reason: policy.NoReadyEndpoints}
	}
	if c.older != "" {
		snap.Scope.Policies = append(snap.Scope.Policies, limits.Policy{Name: c.older})
	}
	snap.Scope.Policies = append(snap.Scope.Policies, limits.Policy{Name: "web"})
	snap.Scope.Limits = c.limits
	return snap
}

func (c *cluster) Policies() iter.Seq[types.NamespacedName] {
	return slices.Values([]types.NamespacedName{name})
}

func (c *cluster) PoliciesFor([]route.Key) []types.NamespacedName {
	return []types.NamespacedName{name}
}

func (c *cluster) Stops() []variant.Stop {
	if c.policy.Spec.Stop == nil {
		return nil
	}
	s := variant.Stop{Policy: name, Route: route.Key{Kind: route.HTTPRoute, Namespace: "shop", Name: "web"}, Spec: c.policy.Spec.Stop, Resumed: c.policy.Annotations[v1alpha1.AnnotationResume]}
	if t := c.policy.Status.Targets; len(t) > 0 {
		s.Stopped = t[0].Stopped != nil || t[0].Expired != nil
	}
	return []variant.Stop{s}
}

func (c *cluster) Of(namespace, route string) map[report.Key]report.Sum {
	if namespace != "shop" || route != "HTTPRoute/web" {
		return nil
	}
	return c.counted
}

// count adds copies to what proxies report.
func (c *cluster) count(rule string, ok, failed uint64) {
	key := report.Key{Namespace: "shop", Route: "HTTPRoute/web", Rule: rule, Target: "shop/v2:80"}
	sum := c.counted[key]
	sum.OK, sum.Failed = sum.OK+ok, sum.Failed+failed
	sum.ByKind = map[string]uint64{"5xx": sum.Failed}
	if c.counted == nil {
		c.counted = map[report.Key]report.Sum{}
	}
	c.counted[key] = sum
}

var errAway = errors.New("the API server is away")

func (c *cluster) Get(context.Context, types.NamespacedName) (*v1alpha1.MirrorPolicy, error) {
	if c.away {
		return nil, errAway
	}
	p := c.policy.DeepCopy()
	p.ResourceVersion = fmt.Sprint(c.versions)
	return p, nil
}

func (c *cluster) WriteStatus(_ context.Context, p *v1alpha1.MirrorPolicy) error {
	if c.away {
		return errAway
	}
	if p.ResourceVersion != fmt.Sprint(c.versions) {
		return apierrors.NewConflict(schema.GroupResource{}, "web", nil)
	}
	c.versions++
	p.Status.DeepCopyInto(&c.policy.Status)
	c.writes = append(c.writes, p.Status.Targets[0])
	return nil
}

func newController(t *testing.T, c *cluster, at time.Time) (*Controller, *testingclock.FakePassiveClock) {
	t.Helper()
	clock := testingclock.NewFakePassiveClock(at)
	return New(c, c, Options{Clock: clock, Counters: c, Log: testr.New(t)}), clock
}

func step(c *cluster) int {
	if len(c.policy.Status.Targets) == 0 || c.policy.Status.Targets[0].Step == nil {
		return -1
	}
	return int(*c.policy.Status.Targets[0].Step)
}

func TestARampFromOneStepToTheNext(t *testing.T) {
	c := &cluster{state: policy.Ready, policy: parse(t, threeSteps)}
	ctrl, clock := newController(t, c, start.Add(300*time.Millisecond))
	reconcile := func() time.Duration {
		t.Helper()
		r, err := ctrl.Reconcile(t.Context(), name)
		require.NoError(t, err)
		return r.RequeueAfter
	}
	wait := reconcile()
	assert.Equal(t, 0, step(c))
	assert.Equal(t, 10*time.Minute+700*time.Millisecond, wait, "the API stores whole seconds, and no step ends early")
	assert.Equal(t, "1%", c.policy.Status.Targets[0].Percent)
	assert.True(t, apimeta.IsStatusConditionTrue(c.policy.Status.Targets[0].Conditions, v1alpha1.ConditionAccepted))
	assert.EqualValues(t, 3, c.policy.Status.Targets[0].Conditions[0].ObservedGeneration)
	clock.SetTime(start.Add(wait))
	assert.Less(t, reconcile(), time.Second)
	assert.Equal(t, 0, step(c), "300 ms are missing")
	assert.Len(t, c.writes, 1, "nothing new is written")
	clock.SetTime(start.Add(wait + 300*time.Millisecond))
	reconcile()
	assert.Equal(t, 1, step(c))
	clock.SetTime(start.Add(30 * 24 * time.Hour))
	assert.Zero(t, reconcile(), "the last step does not end")
	assert.Equal(t, 2, step(c))
	assert.Equal(t, "100%", c.policy.Status.Targets[0].Percent)
	clock.SetTime(start.Add(-24 * time.Hour))
	reconcile()
	assert.Equal(t, 2, step(c), "a clock that jumps back undoes nothing")
}

// A ramp begins when a mirror is active, and no step ends while none is.
func TestARampWaitsForItsVariant(t *testing.T) {
	c := &cluster{state: policy.Absent, parked: true, policy: parse(t, threeSteps)}
	ctrl, clock := newController(t, c, start)
	run := func() time.Duration {
		t.Helper()
		r, err := ctrl.Reconcile(t.Context(), name)
		require.NoError(t, err)
		return r.RequeueAfter
	}
	assert.Zero(t, run())
	assert.Equal(t, -1, step(c))
	assert.Equal(t, "1%", c.policy.Status.Targets[0].Percent)
	c.state, c.parked = policy.Ready, false
	clock.SetTime(start.Add(time.Hour))
	run()
	assert.Equal(t, 0, step(c))
	c.state, c.parked = policy.Absent, true
	clock.SetTime(start.Add(3 * time.Hour))
	assert.Zero(t, run(), "the variant's return is an event")
	assert.Equal(t, 0, step(c))
	c.state, c.parked = policy.Ready, false
	run()
	assert.Equal(t, 1, step(c), "one step, not two")
	c.older = "an-older-one"
	clock.SetTime(start.Add(30 * time.Hour))
	run()
	assert.Equal(t, 1, step(c), "the older policy's word counts")
	conditions := c.policy.Status.Targets[0].Conditions
	assert.True(t, apimeta.IsStatusConditionFalse(conditions, v1alpha1.ConditionAccepted))
	assert.True(t, apimeta.IsStatusConditionTrue(conditions, v1alpha1.ConditionConflicted))
}

// A limit's maxDuration is an end too, from the time at which a mirror was active, and whichever end is first holds.
func TestALimitBringsTheEndForward(t *testing.T) {
	for kind, c := range map[string]struct {
		spec string
		most time.Duration
		want time.Duration // after the start, 0 for no end
	}{
		"no end of its own":          {"", time.Hour, time.Hour},
		"a later end":                {"after: 2h", time.Hour, time.Hour},
		"an earlier end":             {"after: 1h", 2 * time.Hour, time.Hour},
		"a later time":               {`expires: "2026-11-01T15:00:00Z"`, time.Hour, time.Hour},
		"an earlier time":            {`expires: "2026-11-01T12:30:00Z"`, time.Hour, 30 * time.Minute},
		"no limit and no end at all": {"", 0, 0},
	} {
		t.Run(kind, func(t *testing.T) {
			cl := &cluster{state: policy.Ready, policy: parse(t, c.spec)}
			if c.most > 0 {
				cl.limits = []limits.Limit{{Name: "a", MaxDuration: c.most, Action: limits.Lower}, {Name: "b", MaxDuration: time.Second, Action: limits.Deny}}
			}
			ctrl, clock := newController(t, cl, start)
			run := func() *v1alpha1.TargetStatus {
				t.Helper()
				_, err := ctrl.Reconcile(t.Context(), name)
				require.NoError(t, err)
				return &cl.policy.Status.Targets[0]
			}
			if run(); c.want == 0 {
				assert.Nil(t, run().ExpiresAt)
				return
			}
			clock.SetTime(start.Add(c.want - time.Second))
			assert.Nil(t, run().Expired)
			assert.Equal(t, start.Add(c.want), run().ExpiresAt.UTC())
			clock.SetTime(start.Add(c.want))
			assert.NotNil(t, run().Expired)
			cl.parked, cl.limits = true, []limits.Limit{{Name: "a", MaxDuration: 99 * time.Hour, Action: limits.Lower}}
			if run(); c.spec == "" {
				assert.Nil(t, run().Expired, "the limit allows more now")
			}
		})
	}
}

func TestAPolicyExpires(t *testing.T) {
	for kind, end := range map[string]string{"at a time": `expires: "2026-11-01T13:00:00Z"`, "after a time": "after: 1h"} {
		t.Run(kind, func(t *testing.T) {
			c := &cluster{state: policy.Ready, policy: parse(t, end)}
			ctrl, clock := newController(t, c, start)
			run := func() *metav1.Time {
				t.Helper()
				_, err := ctrl.Reconcile(t.Context(), name)
				require.NoError(t, err)
				return c.policy.Status.Targets[0].Expired
			}
			assert.Nil(t, run())
			clock.SetTime(start.Add(time.Hour - time.Second))
			assert.Nil(t, run())
			clock.SetTime(start.Add(time.Hour))
			assert.NotNil(t, run())
			c.parked = true // as it is then
			clock.SetTime(start.Add(-time.Hour))
			assert.NotNil(t, run(), "a clock that jumps back undoes nothing")
			c.policy.Spec.Expires, c.policy.Spec.After = &metav1.Time{Time: start.Add(5 * time.Hour)}, nil
			assert.Nil(t, run(), "another end is ahead")
			c.policy.Spec.Expires = &metav1.Time{Time: start.Add(-5 * time.Hour)}
			assert.NotNil(t, run())
			c.policy.Spec.Expires = nil
			assert.Nil(t, run(), "it has no end any more")
		})
	}
}

// Leaders come and go, two lead at a time, their clocks jump back, and the API server is away now and then: no step is
// skipped, none undone, none shorter than it should be by the clock of the leader that ended it.
func TestLeadersAndClocks(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		c := &cluster{state: policy.Ready, policy: parse(t, "after: 24h, ramp: {steps: [{percent: 1, for: 10m}, {percent: 5, for: 20m}, {percent: 10, for: 30m}, {percent: 100}]}")}
		now := start
		var leaders []*Controller
		var clocks []*testingclock.FakePassiveClock
		for range 200 {
			if len(leaders) == 0 || r.IntN(20) == 0 {
				l, clock := newController(t, c, now)
				leaders, clocks = append(leaders, l), append(clocks, clock)
			}
			now = now.Add(time.Duration(r.IntN(300)) * time.Second)
			i := r.IntN(len(leaders))
			clocks[i].SetTime(now.Add(-time.Duration(r.IntN(2)*r.IntN(3600)) * time.Second)) // behind, now and then
			c.away = r.IntN(5) == 0
			before, versions := step(c), c.versions
			// Another leader writes between this one's read and its write.
			racing := r.IntN(10) == 0 && !c.away
			if racing {
				p, err := c.Get(t.Context(), name)
				require.NoError(t, err)
				_, err = leaders[r.IntN(len(leaders))].Reconcile(t.Context(), name)
				require.NoError(t, err)
				if c.versions != versions {
					require.True(t, apierrors.IsConflict(c.WriteStatus(t.Context(), p)), "what was read before is not written")
				}
			}
			_, err := leaders[i].Reconcile(t.Context(), name)
			require.True(t, err == nil || c.away, "%v", err)
			after := step(c)
			require.GreaterOrEqual(t, after, before, "undone")
			if !racing {
				require.LessOrEqual(t, after, before+1, "skipped")
			}
		}
		for k := 1; k < len(c.writes); k++ {
			was, is := c.writes[k-1], c.writes[k]
			if *is.Step == *was.Step {
				continue
			}
			require.Equal(t, *was.Step+1, *is.Step, "skipped")
			lasted := is.Since.Sub(was.Since.Time)
			require.GreaterOrEqual(t, lasted, c.policy.Spec.Ramp.Steps[*was.Step].For.Duration, "early")
		}
		require.Equal(t, 3, step(c), "seed %d", seed)
	}
}
