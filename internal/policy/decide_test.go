package policy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func virtualService(t *testing.T, http string) *route.Route {
	t.Helper()
	rt, err := route.Decode([]byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","namespace":"shop"},"spec":{"hosts":["web"],"http":[`+http+`]}}`), route.Options{})
	require.NoError(t, err)
	return rt
}

func TestWarningIsShortAndClean(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		strings.Repeat("x", 256):             strings.Repeat("x", 256),
		strings.Repeat("x", 257):             strings.Repeat("x", 253) + "...",
		strings.Repeat("é", 200):             strings.Repeat("é", 126) + "...",
		"a\nb\tc\x00d\x1b[31me\u0085f\u009b": "a b c d [31me f ",
		"\xff\xfea":                          "a",
	} {
		assert.Equal(t, want, Warning("%s", text))
	}
}

// The API server passes on 4 KiB of warnings; a cut warning still has its reason.
func TestWarningsFitIntoOneResponse(t *testing.T) {
	for n, most := range map[int]int{1: 256, 7: 256, 8: 120, 100: 120} {
		var notices []Notice
		for range n {
			notices = append(notices, Notice{Reason: NoReadyEndpoints, Field: "spec." + strings.Repeat("x", 300), Message: "mirror to v2 is parked"})
		}
		warnings, sum := Warnings(notices), 0
		require.Len(t, warnings, min(n, 32))
		for _, w := range warnings[:min(n, 31)] {
			assert.True(t, strings.HasPrefix(w, "NoReadyEndpoints: mirror to v2 is parked (spec."), w)
			assert.Len(t, w, most)
			sum += len(w)
		}
		assert.LessOrEqual(t, sum, 4096)
	}
}

// A mirror that is parked and denied for one reason has one message; one that is denied no more has it as well.
func TestOneMessageForAMirrorThatIsParkedAndDenied(t *testing.T) {
	rt := virtualService(t, `{"mirror":{"host":"v2","port":{"number":81}}},{"mirror":{"host":"v2","port":{"number":81}}},{"mirror":{"host":"v3"}}`)
	snap := Snapshot{Variants: map[route.Target]Variant{}}
	for _, m := range rt.Every {
		snap.Variants[m.Target] = Variant{State: Ready, Exists: true, Ports: []Port{{Number: 80}}}
		if m.Target.Name == "v3" {
			snap.Variants[m.Target] = Variant{State: Absent, Reason: ServiceNotFound, Detail: `Service "shop/v3" not found`}
		}
	}
	d := decide(t, rt, snap, Config{})
	require.Len(t, d.Findings, 2)
	require.Equal(t, []string{`ServiceNotFound: mirror to v3 is parked: Service "shop/v3" not found (spec.http[2].mirror)`}, d.Warnings)
	known := Warnings(KnownNotices(d.Findings))
	require.Len(t, known, 2)
	for i, w := range known {
		require.Equal(t, fmt.Sprintf("PortNotFound: mirror to v2:81 is parked: the Service has no such port; ports: 80 (spec.http[%d].mirror.port.number)", i),
			strings.Replace(w, `Service "shop/v2"`, "the Service", 1))
	}
}

func TestLimitsForANamespace(t *testing.T) {
	one, two := 1, 2
	cfg := Config{Limits: Limits{MaxMirrors: &one}, Namespaces: map[string]Limits{"shop": {MaxMirrors: &two}, "free": {}}}
	assert.Equal(t, &two, cfg.For("shop").MaxMirrors)
	assert.Nil(t, cfg.For("free").MaxMirrors, "an entry replaces all limits")
	assert.Equal(t, &one, cfg.For("else").MaxMirrors)
}

func TestVariantsValue(t *testing.T) {
	rt := virtualService(t, `{"mirrors":[{"destination":{"host":"b","subset":"x"}},{"destination":{"host":"a"}},{"destination":{"host":"a","port":{"number":80}}},{"destination":{"host":"a.other.svc.cluster.local"}}]}`)
	a := route.Target{Kind: route.TargetService, Namespace: "shop", Name: "a"}
	port := a
	port.Port = 80
	snap := Snapshot{Variants: map[route.Target]Variant{a: {State: Ready}, port: {State: Ready}}}
	assert.Equal(t, "a.other=Unknown,a=Ready,b/x=Unknown", VariantsValue(rt, snap, Decision{}))
	snap.Variants[port] = Variant{State: Present}
	assert.Equal(t, "a.other=Unknown,a:0=Ready,a:80=Present,b/x=Unknown", VariantsValue(rt, snap, Decision{}))
}

// The list of variants is cut to a length that an annotation can hold; a change in the part that is cut still
// changes the value.
func TestVariantsValueOfManyVariants(t *testing.T) {
	var mirrors []string
	for i := range 2000 {
		mirrors = append(mirrors, fmt.Sprintf(`{"mirror":{"host":"v%04d"}}`, i))
	}
	rt := virtualService(t, strings.Join(mirrors, ","))
	variants := map[route.Target]Variant{}
	before := VariantsValue(rt, Snapshot{Variants: variants}, Decision{})
	assert.Less(t, len(before), 5000)
	assert.True(t, strings.HasPrefix(before, "v0000=Unknown,v0001=Unknown,"))
	variants[route.Target{Kind: route.TargetService, Namespace: "shop", Name: "v1999"}] = Variant{State: Ready}
	assert.NotEqual(t, before, VariantsValue(rt, Snapshot{Variants: variants}, Decision{}))
}

// A route of a megabyte does not lead to a response of megabytes.
func TestMessagesStayShort(t *testing.T) {
	long := strings.Repeat("é", 500_000)
	for _, http := range []string{
		`{"mirror":{"host":"` + long + `","subset":"` + long + `"}}`,
		`{"mirror":{"host":"*` + long + `"}}`,
		`{"mirror":{"host":"v1","subset":"` + long + `"},"mirrorPercentage":{"value":"` + long + `"}}`,
		`{"mirrorPercent":"` + long + `"}`,
		`{"mirror":{"host":"v1"},"redirect":{},"headers":{"request":{"remove":["` + route.PlaceholderPrefix + strings.Repeat("0", 500_000) + `"]}}}`,
		strings.TrimSuffix(strings.Repeat(`{"mirror":{"host":"v1"},"mirrorPercent":1},`, 100), ","),
	} {
		rt := virtualService(t, http)
		snap := Snapshot{Variants: map[route.Target]Variant{}}
		for _, m := range rt.Every {
			snap.Variants[m.Target] = Variant{State: Absent, Reason: ServiceNotFound, Detail: long, LacksSubset: true, Subsets: []string{long}, Loop: long}
		}
		decide(t, rt, snap, Config{Strict: true})
	}
}

// The webhook and the controller may share a route.
func TestDecideOnOneRouteConcurrently(t *testing.T) {
	rt := virtualService(t, `{"mirror":{"host":"v1"}},{"mirrors":[{"destination":{"host":"v1"}},{"destination":{"host":"v2"}}]}`)
	snap := anyCluster(1, rt)
	want := decide(t, rt, snap, Config{})
	var got [8]Decision
	var errs [8]error
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i], errs[i] = Decide(rt, snap, Config{}) })
	}
	all.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	for i := range got {
		assert.Equal(t, want, got[i])
	}
}

// A grace keeps active mirrors active, but restores none.
func TestGraceRestoresNoMirror(t *testing.T) {
	for name, tc := range map[string]struct {
		gate      string
		wasParked bool
		want      Action
	}{
		"active":                {want: None},
		"parked before":         {wasParked: true, want: Park},
		"the gate is lower":     {gate: "Present", wasParked: true, want: None},
		"the gate is spelt out": {gate: "Ready", wasParked: true, want: Park},
	} {
		t.Run(name, func(t *testing.T) {
			raw := fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"web","namespace":"shop","annotations":{%q:%q}},
				"spec":{"rules":[{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v2","port":80}}}],"backendRefs":[{"name":"v1","port":80}]}]}}`,
				route.GateAnnotation, tc.gate)
			rt, err := route.Decode([]byte(raw), route.Options{})
			require.NoError(t, err)
			target := rt.Rules[0].Mirrors[0].Target
			snap := Snapshot{Variants: map[route.Target]Variant{target: {
				State: Ready, InGrace: true, Exists: true, Ports: []Port{{Number: 80}},
				Reason: NoReadyEndpoints, Detail: `Deployment "v2" has no ready pod`,
			}}, WasParked: map[string]bool{rt.Rules[0].Mirrors[0].ID: tc.wasParked}}
			d, err := Decide(rt, snap, Config{})
			require.NoError(t, err)
			assert.Equal(t, tc.want, d.Action)
		})
	}
}
