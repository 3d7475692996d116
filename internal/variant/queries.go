package variant

// Live reads: which queries confirm that an object which the caches lack is really missing.

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Query selects objects of one kind. It is comparable.
type Query struct {
	Kind Kind
	// Namespace is "" for all namespaces.
	Namespace string
	// Name is "" unless the query is for one object.
	Name string
	// Selector is a label selector, "" for all objects.
	Selector string
}

// Reader reads objects from the API server, past the caches. An object that is not there, or a kind that the
// cluster does not have, is no error. The objects are of the types that Index.Upsert takes.
type Reader interface {
	Read(ctx context.Context, q Query) ([]any, error)
}

func serviceQuery(name types.NamespacedName) Query {
	return Query{Kind: KindService, Namespace: name.Namespace, Name: name.Name}
}

func slicesQuery(name types.NamespacedName) Query {
	return Query{Kind: KindEndpointSlice, Namespace: name.Namespace, Selector: serviceLabel + "=" + name.Name}
}

func destinationRulesQuery(namespace string) Query {
	return Query{Kind: KindDestinationRule, Namespace: namespace}
}

func serviceEntriesQuery() Query { return Query{Kind: KindServiceEntry} }

func referenceGrantsQuery(namespace string) Query {
	return Query{Kind: KindReferenceGrant, Namespace: namespace}
}

// confirming returns the queries that confirm that objects are missing which would have kept a mirror from
// being parked or denied.
func (v *view) confirming(rt *route.Route, m *route.Mirror, variant policy.Variant) []Query {
	var queries []Query
	own := types.NamespacedName(m.Target.Service())
	name := v.behind(own)
	switch variant.Reason {
	case policy.ServiceNotFound:
		queries = append(queries, serviceQuery(name))
		if rt.Kind == route.VirtualService { // it may be a Service of another cluster
			queries = append(queries, serviceEntriesQuery())
		}
		if variant.LacksSubset {
			queries = append(queries, v.destinationRulesQueries(rt, m, name)...)
		}
	case policy.DestinationRuleNotFound, policy.SubsetNotFound:
		queries = append(queries, v.destinationRulesQueries(rt, m, name)...)
	case policy.WorkloadNotFound:
		queries = append(queries, v.workloadQueries(rt, m, name)...)
	case policy.HostNotFound, policy.ShortHost:
		queries = append(queries, serviceEntriesQuery())
		if m.Target.IsService() && name != own { // an alias
			queries = append(queries, serviceQuery(name))
		}
	case policy.PortNotFound:
		queries = append(queries, v.portQueries(m, name)...)
	}
	if lacksPort(variant, m.Target.Port) {
		queries = append(queries, serviceQuery(name))
	}
	if variant.Ungranted {
		queries = append(queries, referenceGrantsQuery(own.Namespace))
	}
	return queries
}

// portQueries returns the queries for the objects whose ports decide where a mirror arrives: the Service behind it,
// the one that it names, and those whose ports the clients call.
func (v *view) portQueries(m *route.Mirror, behind types.NamespacedName) (queries []Query) {
	entries := false
	add := func(t route.Target) {
		if t.IsService() {
			queries = append(queries, serviceQuery(types.NamespacedName(t.Service())))
		} else {
			entries = true
		}
	}
	add(m.Target)
	if m.Target.IsService() && behind != types.NamespacedName(m.Target.Service()) {
		queries, entries = append(queries, serviceQuery(behind)), true
	}
	for _, c := range v.clients {
		for _, t := range c.hosts[:min(len(c.hosts), maxHosts)] {
			add(t)
		}
	}
	if entries {
		queries = append(queries, serviceEntriesQuery())
	}
	return queries
}

// destinationRulesQueries returns the queries for the DestinationRules that apply to a mirror with this Service
// behind it.
func (v *view) destinationRulesQueries(rt *route.Route, m *route.Mirror, behind types.NamespacedName) []Query {
	namespace, host := behind.Namespace, v.base.hostOf(m.Target)
	if s := v.service(types.NamespacedName(m.Target.Service())); s.isAlias() {
		host = s.alias
	}
	if v.service(behind) == nil {
		if e := v.serviceEntry(host, v.clients); e != nil {
			namespace = e.Namespace
		}
	}
	var queries []Query
	for _, ns := range v.destinationRuleNamespaces(namespace, rt.Namespace) {
		queries = append(queries, destinationRulesQuery(ns))
	}
	return queries
}

// lacksPort reports whether a Service exists and lacks the port of a mirror, which would be denied.
func lacksPort(variant policy.Variant, port int32) bool {
	return variant.Exists && !variant.External && port != 0 &&
		!slices.ContainsFunc(variant.Ports, func(p policy.Port) bool { return p.Number == port })
}

// workloadQueries returns the queries for the workloads of the Service behind a mirror. Pods stand for workloads:
// they can be selected by label, and a workload without pods has nothing ready anyway.
func (v *view) workloadQueries(rt *route.Route, m *route.Mirror, name types.NamespacedName) []Query {
	s := v.service(name)
	if s == nil {
		return nil
	}
	var subsetLabels labels
	if m.Target.Subset != "" {
		sub := v.subset(v.clients, rt.Namespace, name.Namespace, v.base.fqdn(route.ServiceName(name)), m.Target.Subset)
		if len(sub.found) > 0 {
			subsetLabels = sub.found[0]
		}
	}
	want, ok := s.selector.merge(subsetLabels)
	switch {
	case !ok: // no workload can have both sets of labels
		return nil
	case len(want) == 0:
		return []Query{slicesQuery(name)}
	default:
		return []Query{slicesQuery(name), {Kind: KindPod, Namespace: name.Namespace, Selector: want.String()}}
	}
}
