package istio

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/test/judges/cases"
	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/istio/oracle"
)

// Envoy is told the same about the stored routes as about the written ones without their parked mirrors.
func TestEquivalence(t *testing.T) {
	cases.Question{Random: mesh, Judge: accepted(equivalent), Whole: whole}.Ask(t)
}

func equivalent(t *testing.T, c clusters.Cluster) []string {
	t.Helper()
	return equivalentFor(t, c, []asker{
		{oracle.Proxy{Namespace: clusters.Ingress, Labels: clusters.GatewayLabels, Gateway: true}, gatewayPorts},
		{oracle.Proxy{Namespace: clusters.Prod, Labels: map[string]string{"app": "plain"}}, sidecarPorts},
		{oracle.Proxy{Namespace: clusters.Client, Labels: map[string]string{"app": "client"}}, sidecarPorts},
	})
}

// asker is a proxy with the names of the route configurations that it asks for.
type asker struct {
	oracle.Proxy
	ports []string
}

func equivalentFor(t *testing.T, c clusters.Cluster, askers []asker) []string {
	t.Helper()
	written, stored := admit(t, c)
	var marked []clusters.Object
	for i := range written {
		marked = append(marked, markParked(written[i], stored[i]))
	}
	var found []string
	for _, o := range stored {
		if err := oracle.Check(clusters.JSON(o)); err != nil {
			found = append(found, fmt.Sprintf("Istio refuses %s as stored: %v", clusters.Name(o), err))
		}
	}
	x, y := lean(t, c.Objects, marked), lean(t, c.Objects, stored)
	defer x.Close()
	defer y.Close()
	for _, p := range askers {
		want, got := oracle.Normal(x.Routes(p.Proxy, p.ports)), oracle.Normal(y.Routes(p.Proxy, p.ports))
		oracle.Strip(want)
		oracle.Strip(got)
		if !reflect.DeepEqual(want, got) {
			found = append(found, fmt.Sprintf("Envoy in namespace %s (- as written without the parked mirrors, + as stored):\n%s\nstored:\n%s",
				p.Namespace, difference(want, got), clusters.Text(stored)))
		}
	}
	return found
}

// difference returns the lines that differ, with the few around them.
func difference(want, got any) string {
	lines := func(v any) []string {
		text, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			panic(err)
		}
		return difflib.SplitLines(string(text))
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: lines(want), B: lines(got), Context: 3})
	if err != nil {
		panic(err)
	}
	return text
}

func lean(t *testing.T, lists ...[]clusters.Object) *oracle.World {
	t.Helper()
	o, err := oracle.Read(lists...)
	if err != nil {
		t.Fatal(err)
	}
	return oracle.Lean(o)
}

// markParked returns a written route whose parked mirrors have the subset that is thought away. A mirror is parked
// when its stanza or element is not in the stored route as it was written.
func markParked(written, stored clusters.Object) clusters.Object {
	out := clusters.Clone(written)
	rules := clusters.List(stored, "spec", "http")
	for i, rule := range clusters.List(out, "spec", "http") {
		r, s := rule.(clusters.Object), rules[i].(clusters.Object)
		if d, ok := r["mirror"].(clusters.Object); ok && !sameStanza(r, s) {
			d["subset"] = oracle.Parked
		}
		left := slices.Clone(clusters.List(s, "mirrors"))
		for _, e := range clusters.List(r, "mirrors") {
			at := slices.IndexFunc(left, func(x any) bool { return reflect.DeepEqual(x, e) })
			if at >= 0 {
				left = slices.Delete(left, at, at+1)
			} else if d, ok := clusters.At(e, "destination").(clusters.Object); ok {
				d["subset"] = oracle.Parked
			}
		}
	}
	return out
}

// sameStanza reports whether two rules have the same mirror with the same percentage.
func sameStanza(a, b clusters.Object) bool {
	for _, key := range []string{"mirror", "mirrorPercentage", "mirrorPercent"} {
		if !reflect.DeepEqual(a[key], b[key]) {
			return false
		}
	}
	return true
}

// A judge that sees no difference would agree to everything.
func TestEquivalenceSeesEveryDifference(t *testing.T) {
	c := known(t, "delegate").Cluster
	for name, change := range map[string]func(rule clusters.Object){
		"a header": func(r clusters.Object) {
			r["headers"] = clusters.Object{"request": clusters.Object{"remove": []any{"x-more"}}}
		},
		"a mirror":            func(r clusters.Object) { r["mirror"] = clusters.Object{"host": "audit"} },
		"the share of a copy": func(r clusters.Object) { r["mirrorPercentage"] = clusters.Object{"value": 3} },
		"the order of rules":  func(r clusters.Object) { r["match"] = []any{clusters.Object{"uri": clusters.Object{"prefix": "/z"}}} },
	} {
		t.Run(name, func(t *testing.T) {
			changed := clusters.Clone(c.Routes[1])
			change(clusters.List(changed, "spec", "http")[0].(clusters.Object))
			x, y := lean(t, c.Objects, c.Routes), lean(t, c.Objects, []clusters.Object{c.Routes[0], changed})
			defer x.Close()
			defer y.Close()
			p := oracle.Proxy{Namespace: clusters.Prod}
			assert.NotEqual(t, oracle.Normal(x.Routes(p, ports(p))), oracle.Normal(y.Routes(p, ports(p))))
		})
	}
}
