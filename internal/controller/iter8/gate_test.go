package iter8

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

func TestGateLeavesOutMirrorsThatPolicyParksOrDenies(t *testing.T) {
	const first, second = "spec.rules[0].filters[0].requestMirror", "spec.rules[1].filters[0].requestMirror"
	none := 0
	itself := `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web, namespace: shop}, spec: {rules: [` +
		`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}}}], backendRefs: [{name: v1, port: 80}]},` +
		`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 80}}}], backendRefs: [{name: v1, port: 80}]}]}}`
	for name, c := range map[string]struct {
		text      string
		index     fakeIndex
		cfg       policy.Config
		noMirrors string
		was       map[string]bool
		out       map[string]bool
		event     bool
	}{
		"ready":                 {mirrored, fakeIndex{state: policy.Ready}, policy.Config{}, "", nil, map[string]bool{}, false},
		"away":                  {mirrored, fakeIndex{state: policy.Ready}, policy.Config{}, "gone", nil, map[string]bool{first: true, second: true}, false},
		"present":               {mirrored, fakeIndex{state: policy.Present}, policy.Config{}, "", nil, map[string]bool{first: true, second: true}, false},
		"present, strict":       {mirrored, fakeIndex{state: policy.Present}, policy.Config{Strict: true}, "", nil, map[string]bool{first: true, second: true}, false},
		"in grace":              {mirrored, fakeIndex{state: policy.Ready, inGrace: true}, policy.Config{}, "", nil, map[string]bool{}, false},
		"in grace, one was out": {mirrored, fakeIndex{state: policy.Ready, inGrace: true}, policy.Config{}, "", map[string]bool{second: true}, map[string]bool{second: true}, false},
		"a limit":               {mirrored, fakeIndex{state: policy.Ready}, policy.Config{Limits: policy.Limits{MaxMirrors: &none}}, "", nil, map[string]bool{first: true, second: true}, true},
		"one mirrors itself":    {itself, fakeIndex{state: policy.Ready}, policy.Config{}, "", nil, map[string]bool{first: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, recorder := newTestState(t, c.index, c.cfg)
			d := desiredOf(t, c.text)
			d.noMirrors = c.noMirrors
			out := s.gate(d, c.was)
			assert.Equal(t, c.out, out.paths)
			assert.Equal(t, len(out.paths) > 0, out.why != "", out.why)
			assert.Equal(t, c.event, len(recorder.Events) > 0)
			s.gate(d, c.was)
			assert.LessOrEqual(t, len(recorder.Events), 1, "it is reported once")
		})
	}
}
