package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestStepMissing(t *testing.T) {
	written := writtenBy(t, "istio-virtualservice")
	parked, active := object(t, parkedVirtualService), written.DeepCopy()
	active.SetGeneration(3)
	altered := active.DeepCopy()
	maps(altered.Object, "spec", "http")[0]["mirrorPercentage"] = map[string]any{"value": int64(10)}
	see := func(route *unstructured.Unstructured, ready bool) facts {
		return facts{route: route, mirrored: len(mirrorsOf(route)) > 0, ready: ready}
	}
	for name, test := range map[string]struct {
		step   step
		facts  facts
		answer *unstructured.Unstructured
		want   string
	}{
		"no route":                   {step{want: noMirror}, see(nil, false), nil, "the route is not stored yet"},
		"the watch trails":           {step{want: noMirror}, see(parked, false), active, "the route is not stored yet"},
		"parked":                     {step{want: noMirror}, see(parked, false), parked, ""},
		"not parked":                 {step{want: noMirror}, see(active, false), active, "the route still has a mirror"},
		"variant not ready":          {step{want: mirror, since: theVariant}, see(parked, false), parked, "variant 2 has no ready endpoint yet"},
		"ready, not flipped":         {step{want: mirror, since: theVariant}, see(parked, true), parked, "variant 2 is ready, the route has no mirror yet"},
		"flipped":                    {step{want: mirror, since: theVariant}, see(active, true), parked, ""},
		"flipped to something else":  {step{want: mirror, since: theVariant}, see(altered, true), parked, "the route has a mirror that differs from the manifest's"},
		"written, and parked":        {step{want: mirror}, see(parked, true), parked, "variant 2 is ready, the route has no mirror yet"},
		"the same thing once more":   {step{want: noChange}, see(parked, false), parked, ""},
		"garbage, not collected":     {step{want: noRoute}, see(parked, false), nil, "the route is still there; a garbage collector learns of a new cluster's kinds within 30 s"},
		"garbage, collected":         {step{want: noRoute}, see(nil, false), nil, ""},
		"same, and the watch trails": {step{want: noChange}, see(parked, false), active, "the route is not stored yet"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, test.step.missing(test.facts, written, test.answer)) })
	}
}

func TestInspectComparesWithWhatTheDocumentPrints(t *testing.T) {
	documents, err := readDocuments()
	require.NoError(t, err)
	var b bytes.Buffer
	r := &runner{stage: &stage{documents: documents}, screen: &screen{w: &b}}
	stored := defaulted(documents["iter8/inspect.yaml"][0])
	maps(stored.Object, "spec", "parentRefs")[0]["group"] = ""
	require.NoError(t, r.inspect(stored, "iter8/inspect.yaml"))
	require.Contains(t, b.String(), "$ kubectl get httproute/httpbin -o yaml")
	require.ErrorContains(t, r.inspect(stored, "iter8/route.yaml"), "-          name: httpbin-v2")
	stored.SetAnnotations(map[string]string{"a": "b"})
	require.ErrorContains(t, r.inspect(stored, "iter8/inspect.yaml"), "there are map[a:b]")
}

func TestUnchanged(t *testing.T) {
	before, after := object(t, parkedHTTPRoute), object(t, parkedHTTPRoute)
	before.SetResourceVersion("41")
	after.SetResourceVersion("41")
	require.NoError(t, unchanged(before, after))
	after.SetResourceVersion("42")
	require.EqualError(t, unchanged(before, after), "resourceVersion 41 became 42")
}

func TestTimes(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	done := deeds{begun: at(0), first: at(10), last: at(20)}
	for name, test := range map[string]struct {
		step   step
		facts  facts
		answer *unstructured.Unstructured
		want   string
	}{
		"at once": {step{want: noMirror, since: theWrite}, facts{}, object(t, parkedHTTPRoute), "no mirror: at once, in the answer to the write"},
		"in time": {step{want: noMirror, since: theWrite}, facts{mirroredAt: at(50)}, writtenBy(t, "iter8"), "no mirror: 30 ms after the write"},
		"stays": {step{want: mirror, since: theWrite}, facts{mirrored: true}, writtenBy(t, "iter8"),
			"mirror, as written: at once, in the answer to the write"},
		"deleted": {step{want: noMirror, since: theCall}, facts{mirroredAt: at(15)}, nil, "no mirror: route flipped 5 ms after the call returned"},
		"before the call returned": {step{want: noMirror, since: theCall}, facts{mirroredAt: at(9)}, nil,
			"no mirror: route flipped <1 ms after the call returned"},
		"deployed": {step{want: mirror, since: theVariant}, facts{mirrored: true, readyAt: at(1234), mirroredAt: at(1240)}, nil,
			"mirror, as written: variant ready after 1.2 s, route flipped 6 ms later"},
		"made":          {step{want: noMirror, since: theDocuments}, facts{routeAt: at(60)}, nil, "no mirror: the route was made 40 ms after the documents"},
		"gone":          {step{want: noRoute, since: theDocuments}, facts{routeAt: at(90)}, nil, "no route: garbage-collected 70 ms after the documents"},
		"applied again": {step{want: noChange}, facts{}, nil, "no change: the stored object is the same, resourceVersion and all"},
	} {
		t.Run(name, func(t *testing.T) {
			res := result{step: test.step, seen: true}
			res.time(done, test.facts, test.answer)
			require.Equal(t, test.want, res.String())
		})
	}
}

func TestSummary(t *testing.T) {
	all := plays()
	var results []result
	for _, p := range all {
		for _, st := range p.steps() {
			results = append(results, result{play: p, step: st, seen: true})
		}
	}
	text := func(results []result) string {
		var b bytes.Buffer
		(&screen{w: &b}).summary(all, results)
		return b.String()
	}
	require.True(t, strings.HasSuffix(text(results), "\n3 documents, 20 steps, all seen\n"))

	failed := append([]result{}, results[:3]...)
	failed[2].seen = false
	out := text(failed)
	require.True(t, strings.HasSuffix(out, "\n3 documents, 20 steps, 2 of them seen\n"))
	require.Equal(t, 2, strings.Count(out, "✓"))
	require.Equal(t, 1, strings.Count(out, "✗"))
	require.Equal(t, 17, strings.Count(out, "  -\n"), "steps that were not reached")
}

func TestEverythingFitsTheScreen(t *testing.T) {
	var b bytes.Buffer
	s := &screen{w: &b}
	for i, p := range plays() {
		s.document(i+1, 3, p)
		for n, st := range p.steps() {
			s.step(n+1, st.title, st.want)
			for _, a := range st.do {
				s.command(a.command)
			}
		}
	}
	s.warning(strings.Repeat("word ", 60))
	s.bad(strings.Repeat("word ", 60))
	s.summary(plays(), nil)
	for line := range strings.Lines(b.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(line)-1, width, line)
	}
	require.NotContains(t, b.String(), "\x1b", "no colours unless they are asked for")
}

func TestColors(t *testing.T) {
	var b bytes.Buffer
	(&screen{&b, true}).changes("written", "stored", diff("a\nb\n", "a\nc\n"))
	require.Equal(t, "\x1b[31m    ┌ --- written\x1b[0m\n\x1b[32m    │ +++ stored\x1b[0m\n"+
		"    │ \x1b[2m a\x1b[0m\n    │ \x1b[31m-b\x1b[0m\n    │ \x1b[32m+c\x1b[0m\n", b.String())
}
