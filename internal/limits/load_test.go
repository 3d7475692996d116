package limits

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// pods returns ready pods of Services in namespace shop.
func pods(ready map[string]int) map[route.Target]int {
	out := map[route.Target]int{}
	for name, n := range ready {
		out[route.Target{Kind: route.TargetService, Namespace: "shop", Name: name}] = n
	}
	return out
}

func loaded(percent float64, action Action) Limit {
	return Limit{Name: "production", MaxLoad: &percent, Action: action}
}

func TestMaxLoad(t *testing.T) {
	const detail = `MirrorLimit "production" allows a pod of the variant 200 % of the requests of one of the primary; with 1 ready beside 10 it would get 1000 %`
	for name, c := range map[string]struct {
		mirrors []string
		ready   map[string]int
		scope   Scope
		want    []string
		detail  string
	}{
		"as many pods":                   {mirrors: []string{"v2"}, ready: map[string]int{"v1": 3, "v2": 3}, want: []string{"100"}},
		"a tenth of the pods":            {mirrors: []string{"v2"}, ready: map[string]int{"v1": 10, "v2": 1}, want: []string{"20 OverLoad"}, detail: detail},
		"a share that fits":              {mirrors: []string{"v2=20"}, ready: map[string]int{"v1": 10, "v2": 1}, want: []string{"20"}},
		"two mirrors to one variant":     {mirrors: []string{"v2=30", "v2=10"}, ready: map[string]int{"v1": 10, "v2": 1}, want: []string{"15 OverLoad", "5 OverLoad"}},
		"two variants":                   {mirrors: []string{"v2=30", "v3=30"}, ready: map[string]int{"v1": 10, "v2": 1, "v3": 2}, want: []string{"20 OverLoad", "30"}},
		"no pod of the variant is ready": {mirrors: []string{"v2"}, ready: map[string]int{"v1": 10}, want: []string{"100"}},
		"the primary is not counted":     {mirrors: []string{"v2"}, ready: map[string]int{"v2": 1}, want: []string{"100"}},
		"after a stricter limit": {
			mirrors: []string{"v2"}, ready: map[string]int{"v1": 10, "v2": 1}, scope: Scope{Limits: []Limit{upTo(15)}}, want: []string{"15 OverLimit"},
		},
		"below a limit": {
			mirrors: []string{"v2"}, ready: map[string]int{"v1": 100, "v2": 1}, scope: Scope{Limits: []Limit{upTo(15)}}, want: []string{"2 OverLoad"},
		},
		"a step that fits": {
			mirrors: []string{"v2"}, ready: map[string]int{"v1": 10, "v2": 1}, scope: Scope{Policies: []Policy{{Name: "web", Percent: new(10.0), Step: 2, Steps: 3}}}, want: []string{"10 RampStep"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rt := http(t, "", c.mirrors...)
			c.scope.Pods, c.scope.Limits = pods(c.ready), append(c.scope.Limits, loaded(200, Lower))
			verdicts, breaches := Of(rt, &rt.Rules[0], c.scope)
			assert.Equal(t, c.want, percents(verdicts))
			assert.Empty(t, breaches)
			if c.detail != "" {
				assert.Equal(t, c.detail, verdicts[0].Detail)
			}
		})
	}
	rt := http(t, "", "v2", "v2=0")
	for _, action := range []Action{Deny, Warn} {
		verdicts, breaches := Of(rt, &rt.Rules[0], Scope{Limits: []Limit{loaded(200, action)}, Pods: pods(map[string]int{"v1": 10, "v2": 1})})
		assert.Equal(t, []string{"100", "0"}, percents(verdicts))
		assert.Equal(t, []Breach{{Limit: "production", Action: action, Bound: MaxLoad, Mirror: 1, Percent: 1000, Message: detail}}, breaches)
	}
}

// The primary of a mirror below a backendRef is that backend alone, and that of a rule's mirror all that get requests.
func TestThePrimaryOfALoad(t *testing.T) {
	rt := decode(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web}, spec: {rules: [{
  filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}],
  backendRefs: [
  {name: a, port: 80, weight: 9, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}}}]},
  {name: a, port: 81}, {name: b, port: 80, weight: 1}, {name: idle, port: 80, weight: 0}]}]}}`)
	verdicts, _ := Of(rt, &rt.Rules[0], Scope{
		Limits: []Limit{loaded(100, Lower)}, Pods: pods(map[string]int{"a": 4, "b": 6, "idle": 90, "v2": 1, "v3": 1}),
	})
	assert.Equal(t, []string{"10 OverLoad", "25 OverLoad"}, percents(verdicts))
}

// Whatever the numbers of pods are, no variant gets more than it may, and no mirror less than a step of a ramp that fits.
func TestNoVariantGetsMoreThanItMay(t *testing.T) {
	steps := []float64{0.1, 1, 5, 10, 25, 50, 100}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 11))
		rt := http(t, "", fmt.Sprintf("v2=%d", 1+r.IntN(100)))
		most, primary, variant := float64(1+r.IntN(1000)), 1+r.IntN(50), 1+r.IntN(50)
		current := r.IntN(len(steps))
		verdicts, _ := Of(rt, &rt.Rules[0], Scope{
			Limits: []Limit{loaded(most, Lower)}, Pods: pods(map[string]int{"v1": primary, "v2": variant}),
			Policies: []Policy{{Name: "web", Percent: &steps[current], Step: current + 1, Steps: len(steps)}},
		})
		ratio := float64(primary) / float64(variant)
		share := verdicts[0].Share.Percent()
		require.LessOrEqual(t, share*ratio, most*(1+1e-9), "seed %d", seed)
		for _, step := range steps[:current+1] {
			if step <= rt.Rules[0].Mirrors[0].Percentage.Percent() && step*ratio <= most {
				require.GreaterOrEqual(t, share, step, "seed %d: a step that fits", seed)
			}
		}
	}
}

func TestTheTimeOfMirrors(t *testing.T) {
	began := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	week := Limit{Name: "production", MaxDuration: 168 * time.Hour}
	ended := Limit{Name: "production", RequireExpiry: true}
	both := Limit{Name: "production", RequireExpiry: true, MaxDuration: 168 * time.Hour}
	for name, c := range map[string]struct {
		limit  Limit
		policy *Policy
		// limited are the shares with action Limit, breach is the message with the other actions, "" for none.
		limited, breach string
	}{
		"no policy, no end":            {ended, nil, "0 OverLimit", `MirrorLimit "production" demands an end of every mirror, and no MirrorPolicy gives this one an end`},
		"a policy without an end":      {ended, &Policy{Name: "web"}, "0 OverLimit", `MirrorLimit "production" demands an end of every mirror, and no MirrorPolicy gives this one an end`},
		"an end":                       {ended, &Policy{Name: "web", After: time.Hour}, "100", ""},
		"an end at a time":             {ended, &Policy{Name: "web", Expires: new(began.Add(9000 * time.Hour))}, "100", ""},
		"nobody counts":                {week, nil, "0 OverLimit", `MirrorLimit "production" allows mirrors to copy for 168h, and no MirrorPolicy counts the time of this one`},
		"in time":                      {week, &Policy{Name: "web", After: 168 * time.Hour}, "100", ""},
		"too late":                     {week, &Policy{Name: "web", After: 169 * time.Hour}, "100", `MirrorLimit "production" allows mirrors to copy for 168h, and MirrorPolicy "web" ends them later, or never`},
		"never":                        {week, &Policy{Name: "web"}, "100", `MirrorLimit "production" allows mirrors to copy for 168h, and MirrorPolicy "web" ends them later, or never`},
		"too late after it was active": {week, &Policy{Name: "web", Expires: new(began.Add(169 * time.Hour)), ActiveSince: &began}, "100", `MirrorLimit "production" allows mirrors to copy for 168h, and MirrorPolicy "web" ends them later, or never`},
		"in time after it was active":  {week, &Policy{Name: "web", Expires: new(began.Add(168 * time.Hour)), ActiveSince: &began}, "100", ""},
		"nobody knows yet":             {week, &Policy{Name: "web", Expires: new(began.Add(999 * time.Hour))}, "100", ""},
		"it has ended":                 {week, &Policy{Name: "web", Expired: true}, "0 Expired", ""},
		"the limit is the end":         {both, &Policy{Name: "web"}, "100", `MirrorLimit "production" allows mirrors to copy for 168h, and MirrorPolicy "web" ends them later, or never`},
	} {
		t.Run(name, func(t *testing.T) {
			rt := http(t, "", "v2")
			var policies []Policy
			if c.policy != nil {
				policies = append(policies, *c.policy)
			}
			c.limit.Action = Lower
			verdicts, breaches := Of(rt, &rt.Rules[0], Scope{Limits: []Limit{c.limit}, Policies: policies})
			assert.Equal(t, []string{c.limited}, percents(verdicts))
			assert.Empty(t, breaches)
			c.limit.Action = Deny
			verdicts, breaches = Of(rt, &rt.Rules[0], Scope{Limits: []Limit{c.limit}, Policies: policies})
			assert.Equal(t, verdicts[0].Lowered, c.policy != nil && c.policy.Expired)
			message := ""
			for _, b := range breaches {
				message += b.Message
			}
			assert.Equal(t, c.breach, message)
		})
	}
	rt := http(t, "", "v2")
	week.Action = Lower
	verdicts, _ := Of(rt, &rt.Rules[0], Scope{Limits: []Limit{week}, Policies: []Policy{{Name: "web", Expired: true}}})
	assert.Equal(t, `MirrorPolicy "web" has expired: MirrorLimit "production" allows mirrors to copy for 168h`, verdicts[0].Detail)
	verdicts, _ = Of(rt, &rt.Rules[0], Scope{Limits: []Limit{week}, Policies: []Policy{{Name: "web", Expired: true, After: time.Hour}}})
	assert.Equal(t, `MirrorPolicy "web" has expired`, verdicts[0].Detail, "its owner's end came first")
	verdicts, breaches := Of(http(t, "", "v2=0"), &http(t, "", "v2=0").Rules[0], Scope{Limits: []Limit{{Name: "a", RequireExpiry: true, Action: Deny}}})
	assert.Equal(t, []string{"0"}, percents(verdicts))
	assert.Empty(t, breaches, "it copies nothing")
}

func TestDurationsAreWrittenAsTheirAuthorsDo(t *testing.T) {
	for d, want := range map[time.Duration]string{168 * time.Hour: "168h", 90 * time.Minute: "1h30m", 30 * time.Minute: "30m", 10 * time.Second: "10s", 3661 * time.Second: "1h1m1s"} {
		assert.Equal(t, want, Duration(d))
	}
}
