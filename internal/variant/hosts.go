package variant

// Istio's hosts: how DestinationRules and ServiceEntries are found by the host that a VirtualService names,
// and which of them a client sees.

import (
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// covering returns the hosts whose DestinationRules and ServiceEntries apply to a host, best first: the host
// itself, then the wildcards from the longest to the shortest.
func covering(host string) []string {
	hosts := []string{host}
	for rest := strings.TrimPrefix(host, "*."); ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		hosts = append(hosts, "*."+parent)
		rest = parent
	}
	if host == "*" {
		return hosts
	}
	return append(hosts, "*")
}

// fqdn returns the fully qualified host name of a Service.
func (i *Index) fqdn(name route.ServiceName) string {
	return name.Name + "." + name.Namespace + ".svc." + i.opts.ClusterDomain
}

// hostsOf returns the hosts by which Istio may know the target of a VirtualService's mirror.
func (i *Index) hostsOf(m storedMirror) []string {
	if !m.IsService() {
		return []string{m.Name}
	}
	hosts := []string{i.fqdn(m.Service())}
	if m.host != "" {
		hosts = append(hosts, m.host)
	}
	return hosts
}

// qualify returns the full host of a DestinationRule: a short name is a Service of the rule's namespace.
func (i *Index) qualify(host, namespace string) string {
	if host == "*" || strings.Contains(host, ".") {
		return host
	}
	return i.fqdn(route.ServiceName{Namespace: namespace, Name: host})
}

// visible reports whether a client namespace sees an Istio object with this exportTo in the namespace own.
func visible(exportTo []string, own, client string) bool {
	return len(exportTo) == 0 || slices.ContainsFunc(exportTo, func(to string) bool {
		return to == "*" || to == client || (to == "." && own == client)
	})
}

// visibleDestinationRules returns the DestinationRules of a namespace that apply to a host for clients in
// another namespace: those with the most specific host.
func (i *Index) visibleDestinationRules(namespace, host, client string) []*destinationRule {
	for _, name := range covering(host) {
		var found []*destinationRule
		for _, r := range i.destinationRules[namespacedHost{namespace, name}] {
			if visible(r.exportTo, namespace, client) {
				found = append(found, r)
			}
		}
		if len(found) > 0 {
			slices.SortFunc(found, (*destinationRule).compare)
			return found
		}
	}
	return nil
}

// visibleServiceEntry returns the ServiceEntry that defines the first of the hosts that has one for clients
// in a namespace. Of several for a host, it prefers one of that namespace.
func (i *Index) visibleServiceEntry(hosts []string, client string) *serviceEntry {
	for _, host := range hosts {
		var best *serviceEntry
		for _, e := range i.serviceEntries[host] {
			if visible(e.exportTo, e.Namespace, client) && (best == nil || e.before(best, client)) {
				best = e
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

func (i *Index) changeDestinationRule(old, r *destinationRule, a *affected) {
	if old != nil {
		removeFrom(i.destinationRules, namespacedHost{old.Namespace, old.host}, old)
		i.affectHost(old.host, a)
	}
	if r != nil {
		addTo(i.destinationRules, namespacedHost{r.Namespace, r.host}, r)
		i.affectHost(r.host, a)
	}
}

func (i *Index) changeServiceEntry(old, e *serviceEntry, a *affected) {
	if old != nil {
		for _, host := range old.hosts {
			removeFrom(i.serviceEntries, host, old)
			i.affectHost(host, a)
		}
	}
	if e != nil {
		for _, host := range e.hosts {
			addTo(i.serviceEntries, host, e)
			i.affectHost(host, a)
		}
	}
}

// subsetsOf returns the names of the subsets that DestinationRules define, sorted, and the labels of the
// subset with the given name.
func subsetsOf(rules []*destinationRule, name string) (names []string, subsetLabels labels, found bool) {
	for _, r := range rules {
		for _, s := range r.subsets {
			names = append(names, s.name)
			if s.name == name && !found {
				subsetLabels, found = s.labels, true
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), subsetLabels, found
}
