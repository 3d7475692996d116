package variant

// Istio's hosts: how DestinationRules and ServiceEntries are found by the host that a VirtualService names,
// and which of them a client sees.

import (
	"maps"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// fqdn returns the fully qualified host name of a Service.
func (i *Index) fqdn(name route.ServiceName) string {
	return name.Name + "." + name.Namespace + ".svc." + i.opts.ClusterDomain
}

// hostOf returns the host by which Istio knows the target of a VirtualService's mirror.
func (i *Index) hostOf(t route.Target) string {
	if t.IsService() {
		return i.fqdn(t.Service())
	}
	return t.Name
}

// qualify returns the full host of a DestinationRule: a short name is a Service of the rule's namespace.
func (i *Index) qualify(host, namespace string) string {
	if host == "*" || strings.Contains(host, ".") {
		return host
	}
	return i.fqdn(route.ServiceName{Namespace: namespace, Name: host})
}

func (i *Index) changeDestinationRule(old, r *destinationRule, a *affected) {
	if old != nil {
		removeFrom(i.destinationRules, namespacedHost{old.Namespace, old.Pattern}, old)
		if len(old.Subsets) > 0 {
			removeFrom(i.rulesByPattern, old.Pattern, old)
		}
		if old.Selects {
			removeFrom(i.selectingRules, old.Namespace, old)
		}
		i.affectPattern(old.Pattern, a)
	}
	if r != nil {
		key := namespacedHost{r.Namespace, r.Pattern}
		list := i.destinationRules[key]
		at, _ := slices.BinarySearchFunc(list, r, func(a, b *destinationRule) int { return hosts.Compare(&a.Rule, &b.Rule) })
		i.destinationRules[key] = slices.Insert(list, at, r)
		if len(r.Subsets) > 0 {
			addTo(i.rulesByPattern, r.Pattern, r)
		}
		if r.Selects {
			addTo(i.selectingRules, r.Namespace, r)
		}
		i.affectPattern(r.Pattern, a)
	}
}

func (i *Index) changeServiceEntry(old, e *serviceEntry, a *affected) {
	if old != nil {
		for _, host := range old.hosts {
			removeFrom(i.serviceEntries, host, old)
			i.affectHost(host, a)
			i.affectClients(host, a)
		}
	}
	if e != nil {
		for _, host := range e.hosts {
			addTo(i.serviceEntries, host, e)
			i.affectHost(host, a)
			i.affectClients(host, a)
		}
	}
}

// maxNamed bounds the names in a message.
const maxNamed = 6

// subsetNames returns some names of subsets of DestinationRules, sorted.
func subsetNames(rules []*hosts.Rule[labels]) []string {
	seen := map[string]bool{}
	for _, r := range rules {
		for _, s := range r.Subsets {
			if len(seen) == maxNamed {
				break
			}
			seen[s.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
