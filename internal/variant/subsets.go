package variant

// Subsets: the labels that DestinationRules give them, as each client of a route finds them.

import (
	"slices"

	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// subsetView is what clients find of a subset.
type subsetView struct {
	// found holds the labels of the subset, each once, as single clients find them.
	found []labels
	// lacking are the rules for exactly the host that a client found without the subset.
	lacking []*hosts.Rule[labels]
	// partial is set where not all rules were looked at, so that others may have the subset.
	partial bool
}

// subset returns what clients find of a subset of a host, whose Service or ServiceEntry is in a namespace. A
// rule counts as lacking only in the namespaces of the route and the Service and in the root: others are not
// asked.
func (v *view) subset(cs []clients, own, service, host, name string) (out subsetView) {
	v.cut = false
	defer func() { out.partial = v.cut || v.visits > maxRules }()
	if v.visits > maxRules {
		return out
	}
	for _, client := range v.clientNamespaces(cs, own, service, host, name) {
		if v.visits > maxRules {
			return out
		}
		views := hosts.Views(v.rules().For(host, service, client), client, func(selector labels) bool {
			return len(v.base.workloads(client, selector)) > 0
		})
		for _, m := range views {
			found, ok := m.Subset(name)
			switch {
			case ok && !slices.ContainsFunc(out.found, func(have labels) bool { return slices.Equal(have, found) }):
				out.found = append(out.found, found)
			case !ok:
				out.lacking = append(out.lacking, v.exactRules(m, own, service, host)...)
			}
		}
	}
	return out
}

// exactRules returns the rules that are for exactly the host and in one of the namespaces that count.
func (v *view) exactRules(m *hosts.Merged[labels], own, service, host string) (exact []*hosts.Rule[labels]) {
	for _, r := range m.Rules {
		if r.Pattern == hosts.Parse(host) && (r.Namespace == own || r.Namespace == service || r.Namespace == v.base.opts.RootNamespace) {
			exact = append(exact, r)
		}
	}
	return exact
}

func (v *view) rules() hosts.Lookup[labels] {
	return hosts.Lookup[labels]{Root: v.base.opts.RootNamespace, At: func(namespace string, p hosts.Pattern) []*hosts.Rule[labels] {
		found := v.source(destinationRulesQuery(namespace)).destinationRules[namespacedHost{namespace, p}]
		if v.visits++; len(found) > maxForHost {
			found, v.cut = found[:maxForHost], true
		}
		out := make([]*hosts.Rule[labels], len(found))
		for i, r := range found {
			v.visits += len(found) * (1 + len(r.ExportTo)) // each is compared with all others when they are merged
			out[i] = &r.Rule
		}
		return out
	}}
}

// clientNamespaces returns the namespaces of clients that may find a subset in different ways. For sidecars
// everywhere these are the namespaces of the route, the Service and the root, one without rules of its own, and
// those in which rules have the subset or to which they are exported.
func (v *view) clientNamespaces(cs []clients, own, service, host, subset string) []string {
	seen := map[string]bool{}
	var out []string
	add := func(names ...string) {
		for _, ns := range names {
			if !seen[ns] && ns != "~" && ns != "*" {
				seen[ns] = true
				out = append(out, ns)
			}
		}
	}
	for _, c := range cs {
		if !c.everywhere {
			v.visits += len(c.namespaces)
			add(c.namespaces...)
			continue
		}
		add(own, service, v.base.opts.RootNamespace, "")
		for p := range hosts.Covering(host) {
			for _, r := range v.base.rulesByPattern[p] {
				if v.visits += 1 + len(r.ExportTo); v.visits > maxRules {
					return out
				}
				if _, has := r.Subset(subset); !has {
					continue
				}
				add(r.Namespace)
				add(r.ExportTo...)
			}
		}
	}
	return out
}
