package istio

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mirrorgate/mirrorgate/test/judges/cases"
	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
	"github.com/mirrorgate/mirrorgate/test/judges/istio/oracle"
)

// A mirror is active if copies of at least one client would reach a ready endpoint, and parked if none would.
func TestReadiness(t *testing.T) {
	judged := 0
	cases.Question{Random: meshOfServices, Whole: whole, Judge: accepted(func(t *testing.T, c clusters.Cluster) []string {
		t.Helper()
		answers := answersOf(t, c)
		judged += len(answers)
		found, err := gate.Disagreements(gate.Case{Cluster: c, Answers: answers})
		if err != nil {
			t.Fatal(err)
		}
		return found
	})}.Ask(t)
	t.Logf("%d mirrors", judged)
}

// meshOfServices returns a random cluster without the objects and fields that mirrorgate does not read. A variant
// that these hide from some clients counts as ready.
func meshOfServices(seed uint64) clusters.Cluster {
	c := mesh(seed)
	c.Objects = slices.DeleteFunc(c.Objects, func(o clusters.Object) bool { return o["kind"] == "Sidecar" })
	for _, o := range c.Objects {
		// Istio makes no cluster for a subset without an endpoint if the endpoints are found by DNS, and mirrorgate
		// reads no endpoints of ServiceEntries.
		if spec, _ := o["spec"].(clusters.Object); o["kind"] == "ServiceEntry" && spec["resolution"] == "DNS" {
			spec["resolution"] = "NONE"
		}
	}
	served := map[bool]bool{}
	c.Routes = slices.DeleteFunc(c.Routes, func(r clusters.Object) bool {
		hosts := clusters.List(r, "spec", "hosts")
		if len(hosts) == 0 || !hosted(c, r) {
			return len(hosts) > 0
		}
		// Of two routes for a host Istio takes the older one in sidecars.
		other := false
		for _, outside := range []bool{false, true} {
			if slices.ContainsFunc(hosts, func(h any) bool { return strings.HasSuffix(h.(string), ".example.com") == outside }) {
				other = other || served[outside]
				served[outside] = true
			}
		}
		return other
	})
	for _, r := range c.Routes {
		for _, rule := range clusters.List(r, "spec", "http") {
			for _, match := range clusters.List(rule, "match") {
				delete(match.(clusters.Object), "sourceLabels")
				delete(match.(clusters.Object), "port")
			}
		}
	}
	return c
}

// answersOf asks Istio about every mirror of a cluster.
func answersOf(t *testing.T, c clusters.Cluster) gate.Answers {
	t.Helper()
	routes, keys := tagged(c.Routes)
	if len(keys) == 0 {
		return nil
	}
	o, err := oracle.Read(c.Objects, routes)
	if err != nil {
		t.Fatal(err)
	}
	w := oracle.Full(o)
	defer w.Close()
	answers := gate.Answers{}
	for _, p := range proxies(c) {
		for _, copied := range w.Copies(p, ports(p)) {
			key := keys[tag(copied.Share)]
			if key == "" {
				panic(fmt.Sprintf("Istio has a mirror that no route has: %+v", copied))
			}
			answer := gate.NoCluster
			if copied.Ready {
				answer = gate.Ready
			} else if copied.Known {
				answer = gate.NotReady
			}
			answers[key] = max(answers[key], answer)
		}
	}
	return answers
}

// tagged returns routes in which each mirror has a share of its own, by which its copies are known in Envoy's
// configuration, and the mirrors by these shares.
func tagged(routes []clusters.Object) (out []clusters.Object, keys map[int]string) {
	keys = map[int]string{}
	share := func(route clusters.Object, path string) clusters.Object {
		n := len(keys) + 1
		keys[n] = gate.Key(route, path)
		return clusters.Object{"value": float64(n) / 100}
	}
	for _, r := range routes {
		r = clusters.Clone(r)
		for i, rule := range clusters.List(r, "spec", "http") {
			rule := rule.(clusters.Object)
			path := fmt.Sprintf("spec.http[%d]", i)
			delete(rule, "mirrorPercent")
			delete(rule, "mirrorPercentage")
			if rule["mirror"] != nil {
				rule["mirrorPercentage"] = share(r, path+".mirror")
			}
			for k, e := range clusters.List(rule, "mirrors") {
				e.(clusters.Object)["percentage"] = share(r, fmt.Sprintf("%s.mirrors[%d]", path, k))
			}
		}
		out = append(out, r)
	}
	return out, keys
}

// tag is the number of a share in millionths.
func tag(share uint32) int { return int(share+50) / 100 }
