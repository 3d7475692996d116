package variant

// Istio's hosts: how DestinationRules and ServiceEntries are found by the host
// that a VirtualService names, and which of them a client sees.

import (
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// covering returns the hosts whose rules apply to a host, best first: itself,
// then the wildcards from long to short.
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

// fqdn is the host name of a Service.
func (i *Index) fqdn(name route.ServiceName) string {
	return name.Name + "." + name.Namespace + ".svc." + i.opts.ClusterDomain
}

// hostsOf returns the hosts by which Istio may know a VirtualService's mirror.
func (i *Index) hostsOf(m target) []string {
	if !m.IsService() {
		return []string{m.Name}
	}
	hosts := []string{i.fqdn(m.Service())}
	if m.host != "" {
		hosts = append(hosts, m.host)
	}
	return hosts
}

// qualify resolves the host of a DestinationRule: a short name is one of its
// own namespace.
func (i *Index) qualify(host, namespace string) string {
	if host == "*" || strings.Contains(host, ".") {
		return host
	}
	return i.fqdn(route.ServiceName{Namespace: namespace, Name: host})
}

// visibleRules returns the DestinationRules of a namespace that apply to a host
// for clients in another: those of the most specific host.
func (i *Index) visibleRules(namespace, host, client string) []*rule {
	for _, name := range covering(host) {
		var found []*rule
		for _, r := range i.rules[namespacedHost{namespace, name}] {
			if visible(r.exportTo, namespace, client) {
				found = append(found, r)
			}
		}
		if len(found) > 0 {
			slices.SortFunc(found, (*rule).compare)
			return found
		}
	}
	return nil
}

// visibleEntry returns the ServiceEntry that defines a host for clients in a
// namespace: of several, one of that namespace.
func (i *Index) visibleEntry(hosts []string, client string) *entry {
	for _, host := range hosts {
		var best *entry
		for _, e := range i.entries[host] {
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

func (i *Index) changeRule(old, r *rule, t *touched) {
	for _, each := range []*rule{old, r} {
		if each == nil {
			continue
		}
		key := namespacedHost{each.Namespace, each.host}
		if each == old {
			removeFrom(i.rules, key, old)
		} else {
			i.rules[key] = append(i.rules[key], r)
		}
		i.touchHost(each.host, t.set())
	}
}

func (i *Index) changeEntry(old, e *entry, t *touched) {
	for _, each := range []*entry{old, e} {
		if each == nil {
			continue
		}
		for _, host := range each.hosts {
			if each == old {
				removeFrom(i.entries, host, old)
			} else {
				i.entries[host] = append(i.entries[host], e)
			}
			i.touchHost(host, t.set())
		}
	}
}

func (i *Index) changeGrant(old, g *grant, t *touched) {
	for _, each := range []*grant{old, g} {
		if each == nil {
			continue
		}
		if each == old {
			removeFrom(i.grants, old.Namespace, old)
		} else {
			i.grants[g.Namespace] = append(i.grants[g.Namespace], g)
		}
		for _, from := range each.From() {
			for s := range i.crossing[crossing{each.Namespace, from}] {
				t.set().add(s.key())
			}
		}
	}
}

// subsetsOf returns the names of the subsets that rules define, sorted, and
// the labels of one of them.
func subsetsOf(rules []*rule, name string) (names []string, of labels, found bool) {
	for _, r := range rules {
		for _, s := range r.subsets {
			names = append(names, s.name)
			if s.name == name && !found {
				of, found = s.labels, true
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), of, found
}
