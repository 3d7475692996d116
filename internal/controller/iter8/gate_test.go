package iter8

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// all returns the mirrors of an object.
func all(t *testing.T, s *namespaceState, object map[string]any) []*route.Mirror {
	t.Helper()
	rt, err := s.decode(object)
	require.NoError(t, err)
	var found []*route.Mirror
	for _, m := range rt.Every {
		found = append(found, m)
	}
	return found
}

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
			was := map[string]string{}
			for _, m := range all(t, s, d.object) {
				if c.was[m.Path] {
					was[m.ID] = "it was"
				}
			}
			out, left := s.gate(d, nil, was)
			paths := map[string]bool{}
			for _, m := range out.mirrors {
				paths[m.Path] = true
				assert.NotEmpty(t, out.why[m.ID])
			}
			assert.Equal(t, c.out, paths)
			assert.Len(t, left, 2-len(c.out))
			assert.Len(t, all(t, s, d.object), 2-len(c.out))
			assert.Equal(t, c.event, len(recorder.Events) > 0)
			s.gate(d, nil, was)
			assert.LessOrEqual(t, len(recorder.Events), 1, "it is reported once")
		})
	}
}

// A route of somebody else is judged with the hosts that it has: without them, its rules are those of a delegate.
func TestSharedRouteIsJudgedAsItWillBe(t *testing.T) {
	added := object(t, `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web}, spec: {http: [{route: [{destination: {host: v1}}]}]}}`).Object
	s, _ := newTestState(t, fakeIndex{}, policy.Config{})
	reduced, err := reduce(object(t, `{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: web, annotations: {mirrorgate.dev/iter8: m}},`+
		` spec: {hosts: [web], gateways: [mesh, public], http: [{mirror: {host: old}}]}}`))
	require.NoError(t, err)
	rt, err := s.decode(attached(added, reduced.(*watched)))
	require.NoError(t, err)
	require.Len(t, rt.Hosts, 1)
	require.Len(t, rt.Gateways, 2)
	require.Empty(t, all(t, s, attached(added, reduced.(*watched))), "the rules are the document's")
	rt, err = s.decode(added)
	require.NoError(t, err)
	require.Empty(t, rt.Hosts, "the document itself does not change")

	seen := &hostsSeen{}
	s, _ = newTestState(t, seen, policy.Config{})
	d := desiredOf(t, mirrored)
	d.object = added
	s.gate(d, reduced.(*watched), nil)
	require.Len(t, seen.hosts, 1)
}

// hostsSeen is an index that notes the hosts of the route that it is asked about.
type hostsSeen struct {
	fakeIndex
	hosts []route.Target
}

func (h *hostsSeen) Snapshot(rt *route.Route) policy.Snapshot {
	h.hosts = rt.Hosts
	return h.fakeIndex.Snapshot(rt)
}
