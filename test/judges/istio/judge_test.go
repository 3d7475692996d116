// Package istio holds mirrorgate against Istio's own control plane. docs/design/judges.md says what it asks.
package istio

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
	"github.com/mirrorgate/mirrorgate/test/judges/istio/oracle"
)

var update = flag.Bool("update", false, "write Istio's answers into the known clusters")

func TestMain(m *testing.M) {
	flag.Parse()
	oracle.Quiet()
	os.Exit(m.Run())
}

// mesh returns the random cluster of a seed, without the objects that Istio refuses.
func mesh(seed uint64) clusters.Cluster {
	c := clusters.Seeded(seed).Mesh()
	c.Objects = slices.DeleteFunc(c.Objects, refused)
	c.Routes = slices.DeleteFunc(c.Routes, refused)
	return c
}

// whole reports whether a shrunk cluster may be judged: Istio accepts its objects, the clients and the gateways are
// there, and every route has the parts without which Istio's control plane crashes, although its validator accepts it.
func whole(c clusters.Cluster) bool {
	left := 0
	for _, o := range c.Objects {
		name := clusters.At(o, "metadata", "name")
		if name == clusters.Plain || name == "gw" && (o["kind"] == "Gateway" || o["kind"] == "Pod") {
			left++
		}
	}
	return left == len(clusters.Namespaces)+3 && !slices.ContainsFunc(c.Objects, refused) && !slices.ContainsFunc(c.Routes, func(r clusters.Object) bool {
		if !hosted(c, r) {
			return true
		}
		rules := clusters.List(r, "spec", "http")
		return len(rules) == 0 || slices.ContainsFunc(rules, func(rule any) bool {
			return slices.ContainsFunc(slices.Concat(clusters.List(rule, "route"), clusters.List(rule, "mirrors")), func(e any) bool {
				return clusters.At(e, "destination", "host") == nil
			})
		})
	})
}

// hosted reports whether the hosts of a route that look like Services are there. mirrorgate expects those that are
// not there at any port.
func hosted(c clusters.Cluster, r clusters.Object) bool {
	return !slices.ContainsFunc(clusters.List(r, "spec", "hosts"), func(h any) bool {
		host, _ := h.(string)
		name, rest, dotted := strings.Cut(host, ".")
		if name == "*" || dotted && !strings.HasSuffix(rest, ".svc.cluster.local") {
			return false
		}
		return !slices.ContainsFunc(c.Objects, func(o clusters.Object) bool {
			return o["kind"] == "Service" && clusters.Name(o) == clusters.Prod+"/"+name
		})
	})
}

// accepted makes a judge of routes that Istio accepts: it has nothing against others.
func accepted(judge func(*testing.T, clusters.Cluster) []string) func(*testing.T, clusters.Cluster) []string {
	return func(t *testing.T, c clusters.Cluster) []string {
		t.Helper()
		if slices.ContainsFunc(c.Routes, refused) {
			return nil
		}
		return judge(t, c)
	}
}

func refused(o clusters.Object) bool {
	version, _ := o["apiVersion"].(string)
	return strings.HasPrefix(version, "networking.istio.io/") && oracle.Check(clusters.JSON(o)) != nil
}

// The names of the route configurations of sidecars, which are the ports of Services, and of gateways: the port of
// the server, or the one to which the Service of the gateway leads.
var (
	sidecarPorts = []string{"80", "7070", "8081"}
	gatewayPorts = []string{"http.80", "http.8080"}
)

func ports(p oracle.Proxy) []string {
	if p.Gateway {
		return gatewayPorts
	}
	return sidecarPorts
}

// proxies returns the proxies of a mesh that can differ in their answers: in each namespace a sidecar of a client
// that no selector matches and one of each client that runs there, and the gateway.
func proxies(c clusters.Cluster) []oracle.Proxy {
	list := []oracle.Proxy{{Namespace: clusters.Ingress, Labels: clusters.GatewayLabels, Gateway: true}}
	for _, namespace := range clusters.Namespaces {
		list = append(list, oracle.Proxy{Namespace: namespace})
		for _, o := range c.Objects {
			app, _ := clusters.At(o, "metadata", "labels", "app").(string)
			if o["kind"] == "Pod" && clusters.At(o, "metadata", "namespace") == namespace && slices.Contains(clusters.Apps, app) {
				list = append(list, oracle.Proxy{Namespace: namespace, Labels: map[string]string{"app": app}})
			}
		}
	}
	return list
}

// admit returns the routes of a cluster as mirrorgate stores them, without those that it denies.
func admit(t *testing.T, c clusters.Cluster) (written, stored []clusters.Object) {
	t.Helper()
	g, err := gate.New(clusters.Text(c.Objects, c.Routes))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Routes {
		raw, err := g.Mutate(t.Context(), clusters.JSON(r))
		if err != nil {
			t.Fatal(err)
		}
		denial, err := g.Validate(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		if denial == "" {
			written, stored = append(written, r), append(stored, clusters.Parse(raw))
		}
	}
	return written, stored
}
