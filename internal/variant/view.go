package variant

// A view is the Index as one decision sees it: what was read live for that
// decision covers what the caches say.

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Query asks for objects of one kind. It is comparable.
type Query struct {
	Kind Kind
	// Namespace is "" for all namespaces.
	Namespace string
	// Name is set to ask for one object.
	Name string
	// Selector is a label selector.
	Selector string
}

type view struct {
	base *Index
	// live holds the objects that answer the covered queries.
	live    *Index
	covered map[Query]bool
	// recheck is the Snapshot's, and ways are what its Loops are about.
	recheck time.Duration
	ways    map[route.Target]way
}

// source is the Index that knows the answer to a query.
func (v *view) source(q Query) *Index {
	if v.covered[q] {
		return v.live
	}
	return v.base
}

func serviceQuery(name types.NamespacedName) Query {
	return Query{Kind: KindService, Namespace: name.Namespace, Name: name.Name}
}

func routeQuery(s *stored) Query {
	return Query{Kind: s.kind, Namespace: s.Namespace, Name: s.Name}
}

func slicesQuery(name types.NamespacedName) Query {
	return Query{Kind: KindEndpointSlice, Namespace: name.Namespace, Selector: serviceLabel + "=" + name.Name}
}

func rulesQuery(namespace string) Query {
	return Query{Kind: KindDestinationRule, Namespace: namespace}
}

func entriesQuery() Query { return Query{Kind: KindServiceEntry} }

func grantsQuery(namespace string) Query {
	return Query{Kind: KindReferenceGrant, Namespace: namespace}
}

func (v *view) service(name types.NamespacedName) *service {
	return as[*service](v.source(serviceQuery(name)).objects[KindService][name])
}

func (v *view) endpoints(name types.NamespacedName) *endpoints {
	return v.source(slicesQuery(name)).endpoints[name]
}

func (v *view) lost(name types.NamespacedName) []loss {
	if e := v.base.endpoints[name]; e != nil {
		return e.lost
	}
	return nil
}

// rulesFor returns the DestinationRules that a client's proxies use for a host.
func (v *view) rulesFor(host, namespace, client string) []*rule {
	for _, ns := range v.ruleNamespaces(namespace, client) {
		if found := v.source(rulesQuery(ns)).visibleRules(ns, host, client); len(found) > 0 {
			return found
		}
	}
	return nil
}

// ruleNamespaces are where Istio looks for DestinationRules, in its order.
func (v *view) ruleNamespaces(namespace, client string) []string {
	namespaces := []string{client}
	for _, ns := range []string{namespace, v.base.opts.RootNamespace} {
		if ns != "" && ns != client && ns != namespaces[len(namespaces)-1] {
			namespaces = append(namespaces, ns)
		}
	}
	return namespaces
}

func (v *view) entry(hosts []string, client string) *entry {
	return v.source(entriesQuery()).visibleEntry(hosts, client)
}

func (v *view) granted(into, name string, from grantee) bool {
	for _, g := range v.source(grantsQuery(into)).grants[into] {
		if g.Allows(from, name) {
			return true
		}
	}
	return false
}

// workloads returns the workloads that can run pods with these labels. Pods
// that were read live stand for workloads that the caches do not know yet.
func (v *view) workloads(namespace string, want labels) []*workload {
	found := v.base.workloads(namespace, want)
	if len(found) == 0 && v.live != nil {
		return v.live.workloads(namespace, want)
	}
	return found
}

func (v *view) podLabels(name types.NamespacedName) (labels, bool) {
	if v.live != nil {
		if found, ok := v.live.podLabels(name); ok {
			return found, true
		}
	}
	return v.base.podLabels(name)
}
