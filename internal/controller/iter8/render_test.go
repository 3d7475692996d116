package iter8

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// models is a routemap with a mirror for each of its later versions; the header of the second belongs to its mirror.
const models = `
versions: [{}, {weight: 40}, {weight: 10}]
routingTemplates:
  models:
    gvrShort: vs
    template: |
      apiVersion: networking.istio.io/v1beta1
      kind: VirtualService
      metadata: {name: web}
      spec:
        hosts: [web]
        http:
        - route: [{destination: {host: first}}]
          mirrors:
          - {destination: {host: always}}
          {{- if gt (index .Weights 1) 0 }}
          - {destination: {host: second}, percentage: {value: {{ index .Weights 1 }}}}
          {{- end }}
          {{- if gt (index .Weights 2) 0 }}
          - {destination: {host: third}, percentage: {value: {{ index .Weights 2 }}}}
          {{- end }}
          {{- if gt (index .Weights 1) 0 }}
          headers: {request: {set: {model: second}}}
          {{- end }}
`

// stateOf answers with a state for each host, Ready by default.
type stateOf map[string]policy.State

func (f stateOf) Snapshot(rt *route.Route) policy.Snapshot {
	snap := fakeIndex{state: policy.Ready}.Snapshot(rt)
	for target, v := range snap.Variants {
		if state, ok := f[target.Name]; ok {
			v.State = state
			snap.Variants[target] = v
		}
	}
	return snap
}

func desiredModels(t *testing.T, weights ...uint32) *desired {
	t.Helper()
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "m", UID: "m", Labels: map[string]string{documents.KindLabel: documents.KindRoutemap}},
		Data:       map[string]string{"strSpec": models},
	}
	d := read(cm, nil)
	require.Nil(t, d.invalid)
	r := d.render(weights, time.Unix(1000, 0)).routes[0]
	return &desired{document: d, object: runtime.DeepCopyJSON(r.object), rendered: r}
}

// indexOf adapts a stateOf to an Index.
type indexOf struct {
	fakeIndex
	states stateOf
}

func (i indexOf) Snapshot(rt *route.Route) policy.Snapshot { return i.states.Snapshot(rt) }

func TestMirrorLeavesWithEverythingThatItsVersionWrites(t *testing.T) {
	for name, c := range map[string]struct {
		states  stateOf
		mirrors []mirror
		headers bool
	}{
		"all are ready": {nil, []mirror{{"always", 100}, {"second", 40}, {"third", 10}}, true},
		"no second":     {stateOf{"second": policy.Present}, []mirror{{"always", 100}, {"third", 10}}, false},
		"no third":      {stateOf{"third": policy.Present}, []mirror{{"always", 100}, {"second", 40}}, true},
		"neither":       {stateOf{"second": policy.Present, "third": policy.Present}, []mirror{{"always", 100}}, false},
		// No version brings this mirror, so it is cut out of the text.
		"no always": {stateOf{"always": policy.Present}, []mirror{{"second", 40}, {"third", 10}}, true},
		"no other":  {stateOf{"always": policy.Present, "second": policy.Present}, []mirror{{"third", 10}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestState(t, indexOf{states: c.states}, policy.Config{})
			d := desiredModels(t, 1, 40, 10)
			out, left := s.gate(d, nil, nil)
			require.Equal(t, c.mirrors, left)
			require.Len(t, out.mirrors, 3-len(c.mirrors))
			rules, _, _ := unstructured.NestedSlice(d.object, "spec", "http")
			require.Equal(t, c.headers, rules[0].(map[string]any)["headers"] != nil)

			again := desiredModels(t, 1, 40, 10)
			again.rendered = d.rendered
			executed := d.rendered.reduced
			_, left = s.gate(again, nil, nil)
			require.Equal(t, c.mirrors, left)
			require.Same(t, executed, again.rendered.reduced, "strangers' templates are executed once for a state")
		})
	}
}

// A version whose mirror is kept out makes the route that it makes without the version.
func TestKeptOutMirrorMakesTheRouteOfWeightZero(t *testing.T) {
	s, _ := newTestState(t, indexOf{states: stateOf{"second": policy.Present}}, policy.Config{})
	gated := desiredModels(t, 1, 40, 10)
	s.gate(gated, nil, nil)
	absent := desiredModels(t, 1, 0, 10)
	s.gate(absent, nil, nil)
	require.Equal(t, string(encode(absent.object)), string(encode(gated.object)), "one write a flip")
}

func TestEventsSayWhichMirrorsTheRouteHas(t *testing.T) {
	s, recorder := newTestState(t, fakeIndex{}, policy.Config{})
	d := desiredModels(t, 1, 40, 10)
	a := &applied{}
	at := func(mirrors []mirror, out ...*route.Mirror) *attempt {
		made := &attempt{key: d.key(), mirrors: mirrors, out: leftOut{why: map[string]string{}}}
		for _, m := range out {
			made.out.add(m, "nothing is ready")
		}
		return made
	}
	last := func() string {
		select {
		case event := <-recorder.Events:
			return event
		default:
			return ""
		}
	}
	to := func(target string) *route.Mirror {
		m := &route.Mirror{ID: target, Host: target, Target: route.Target{Kind: route.TargetService, Namespace: "shop", Name: target}}
		return m
	}
	step := func(created, wrote bool, at *attempt) string {
		a.created, a.wrote = created, wrote
		s.announce(d, a, at)
		return last()
	}
	const web = "VirtualService shop/web "
	assert.Equal(t, "Normal RouteApplied "+web+"is created", step(true, true, at([]mirror{})), "nothing about mirrors")
	assert.Empty(t, step(false, true, at([]mirror{})), "another field of a route without mirrors")
	assert.Equal(t, "Normal MirrorLeftOut "+web+"stays as it is: no mirror to second: nothing is ready", step(false, false, at([]mirror{}, to("second"))))
	assert.Empty(t, step(false, false, at([]mirror{}, to("second"))))
	assert.Equal(t, "Normal RouteApplied "+web+"is applied: it mirrors to second (40 %)", step(false, true, at([]mirror{{"second", 40}})))
	assert.Equal(t, "Normal RouteApplied "+web+"is applied: it mirrors to second (50 %)", step(false, true, at([]mirror{{"second", 50}})))
	assert.Equal(t, "Normal RouteApplied "+web+"is applied: it mirrors to second; no mirror to third: nothing is ready", step(false, true, at([]mirror{{"second", 100}}, to("third"))))
	d.away = "version 2 is not there: deploy/second does not exist"
	assert.Equal(t, "Normal RouteApplied "+web+"is applied: no mirror to second: "+d.away, step(false, true, at([]mirror{})))

	a = &applied{}
	assert.Empty(t, step(false, false, at([]mirror{{"second", 100}})), "another replica applied it before")
}
