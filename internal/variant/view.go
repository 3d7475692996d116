package variant

// A view is the Index as one decision sees it: the objects that were read live for the decision replace those
// in the caches.

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

type view struct {
	base *Index
	// live holds the objects that answer the covered queries, nil before the first live read.
	live    *Index
	covered map[Query]bool
	// exhausted is set where one decision may cost no more live reads: what is not covered stays unknown.
	exhausted bool
	// recheck is that of the latest Snapshot, and visits the work that it took: what was looked at, as
	// maxRules counts it.
	recheck time.Duration
	visits  int
	// cut is set where a host has more rules than are looked at.
	cut bool
	// clients are those of the route of the latest Snapshot, gateways those of Istio's that serve it, and
	// gatewayNotes what is known of Services.
	clients      []clients
	gateways     []*istioGateway
	gatewayNotes map[types.NamespacedName]gatewayNote
}

// source returns the Index that knows the answer to a query.
func (v *view) source(q Query) *Index {
	if v.covered[q] {
		return v.live
	}
	return v.base
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

// destinationRuleNamespaces returns the namespaces where Istio looks for the DestinationRules of a host whose
// Service is in a namespace, for the clients in the route's own.
func (v *view) destinationRuleNamespaces(service, own string) []string {
	namespaces := []string{own}
	for _, ns := range []string{service, v.base.opts.RootNamespace} {
		if ns != "" && !slices.Contains(namespaces, ns) {
			namespaces = append(namespaces, ns)
		}
	}
	return namespaces
}

// serviceEntry returns a ServiceEntry for exactly this host that any of the clients sees. For a destination of a
// VirtualService, sidecars see those in their own namespace whatever their exportTo says.
func (v *view) serviceEntry(host string, cs []clients) *serviceEntry {
	var best *serviceEntry
	for _, e := range v.source(serviceEntriesQuery()).serviceEntries[host] {
		sees := slices.ContainsFunc(cs, func(c clients) bool {
			v.visits += 1 + len(c.namespaces)*(1+len(e.exportTo))
			return v.visits <= maxRules && c.sees(e)
		})
		if sees && (best == nil || e.String() < best.String()) {
			best = e
		}
	}
	return best
}

// granted reports whether a ReferenceGrant lets the grantee refer to a Service in the namespace into.
func (v *view) granted(into, name string, from grantee) bool {
	return slices.ContainsFunc(v.source(referenceGrantsQuery(into)).referenceGrants[into], func(g *referenceGrant) bool {
		return g.Allows(from, name)
	})
}

// workloads returns the workloads that can run pods with these labels. Pods that were read live stand for
// workloads that are not in the caches yet.
func (v *view) workloads(namespace string, want labels) []*workload {
	found := v.base.workloads(namespace, want)
	v.visits += len(found)
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
