package hosts

// Which DestinationRules a client finds for a host: by the namespaces of the client, the Service and the root, the most
// specific host first, merged where they are for one host.

import (
	"cmp"
	"slices"
	"strings"
)

// Subset is a subset of a DestinationRule, with labels of the caller's.
type Subset[L any] struct {
	Name   string
	Labels L
}

// Rule is a DestinationRule.
type Rule[L any] struct {
	Namespace, Name string
	// Created is a time in RFC 3339.
	Created string
	Pattern Pattern
	// ExportTo are the namespaces that see the rule, sorted, with the rule's own name for ".". Empty stands
	// for all.
	ExportTo []string
	// Selects is set for a rule with a workloadSelector, and Selector is that selector.
	Selects  bool
	Selector L
	// SelectorText is the selector in a form that is equal for equal selectors.
	SelectorText string
	// Subsets are sorted by name.
	Subsets []Subset[L]
}

// exports returns the namespaces that see the rule. A rule with a selector is private to its namespace.
func (r *Rule[L]) exports() []string {
	if r.Selects {
		return []string{r.Namespace}
	}
	return r.ExportTo
}

// local reports whether clients in the rule's own namespace find it there.
func (r *Rule[L]) local() bool {
	to := r.exports()
	return len(to) == 0 || slices.Contains(to, "*") || slices.Contains(to, r.Namespace)
}

// private reports whether no other namespace finds the rule.
func (r *Rule[L]) private() bool {
	to := r.exports()
	return len(to) == 1 && to[0] == r.Namespace
}

// Subset returns the labels of a subset.
func (r *Rule[L]) Subset(name string) (labels L, found bool) {
	i, found := slices.BinarySearchFunc(r.Subsets, name, func(s Subset[L], name string) int { return strings.Compare(s.Name, name) })
	if found {
		labels = r.Subsets[i].Labels
	}
	return labels, found
}

// Compare orders rules as Istio merges them: those with a selector first, then the older.
func Compare[L any](a, b *Rule[L]) int {
	if a.Selects != b.Selects {
		if a.Selects {
			return -1
		}
		return 1
	}
	return cmp.Or(strings.Compare(a.Created, b.Created), strings.Compare(a.Name, b.Name), strings.Compare(a.Namespace, b.Namespace))
}

// Merged are rules for one host that Istio merges into one: the first that has a subset defines it.
type Merged[L any] struct {
	Rules    []*Rule[L]
	exportTo []string
}

// Subset returns the labels of a subset.
func (m *Merged[L]) Subset(name string) (labels L, found bool) {
	for _, r := range m.Rules {
		if labels, found = r.Subset(name); found {
			return labels, true
		}
	}
	return labels, false
}

// merge merges the rules of a namespace for one host, which are in the order of Compare.
func merge[L any](rules []*Rule[L]) []*Merged[L] {
	var all []*Merged[L]
	for _, r := range rules {
		separate := true
		to := r.exports()
		for _, m := range all {
			first := m.Rules[0]
			equal := slices.Equal(to, m.exportTo)
			switch {
			case !equal && (len(m.exportTo) == 0 || !containsAll(to, m.exportTo)),
				r.Selects && first.Selects && r.SelectorText != first.SelectorText:
				separate = true
				continue
			case equal, !r.Selects && !first.Selects, r.Selects && first.Selects:
				separate = false
			default:
				separate = true
			}
			m.Rules = append(m.Rules, r)
		}
		if separate {
			all = append(all, &Merged[L]{Rules: []*Rule[L]{r}, exportTo: to})
		}
	}
	return all
}

// containsAll reports whether a sorted list has all elements of another one.
func containsAll(set, of []string) bool {
	for _, v := range of {
		if _, found := slices.BinarySearch(set, v); !found {
			return false
		}
	}
	return true
}

// Lookup finds rules. At returns the rules of a namespace for a pattern in the order of Compare.
type Lookup[L any] struct {
	Root string
	At   func(namespace string, p Pattern) []*Rule[L]
}

// For returns the rules that clients in a namespace use for a host of a Service in another one. A client whose
// workload matches the selector of one with a selector uses that one; all others use the last one without.
func (l Lookup[L]) For(host, service, client string) []*Merged[L] {
	own := func(r *Rule[L]) bool { return r.local() && (client != l.Root || r.private()) }
	if found := l.mostSpecific(client, host, own); len(found) > 0 {
		return found
	}
	for _, namespace := range []string{service, l.Root} {
		if namespace == "" {
			continue
		}
		found := l.mostSpecific(namespace, host, func(r *Rule[L]) bool { return !r.private() })
		found = slices.DeleteFunc(found, func(m *Merged[L]) bool {
			return len(m.exportTo) > 0 && !slices.Contains(m.exportTo, "*") && !slices.Contains(m.exportTo, client)
		})
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// mostSpecific returns the merged rules of a namespace for the most specific pattern that has any.
func (l Lookup[L]) mostSpecific(namespace, host string, counts func(*Rule[L]) bool) []*Merged[L] {
	for p := range Covering(host) {
		var rules []*Rule[L]
		for _, r := range l.At(namespace, p) {
			if counts(r) {
				rules = append(rules, r)
			}
		}
		if len(rules) > 0 {
			return merge(rules)
		}
	}
	return nil
}

// Views returns the rules that single clients in a namespace use, of those that For returned for it. matches
// reports whether a workload of the client's namespace has the labels of a selector.
func Views[L any](merged []*Merged[L], client string, matches func(L) bool) []*Merged[L] {
	var views []*Merged[L]
	var last *Merged[L]
	for _, m := range merged {
		switch first := m.Rules[0]; {
		case !first.Selects:
			last = m
		case first.Namespace == client && matches(first.Selector):
			views = append(views, m)
		}
	}
	if last != nil {
		views = append(views, last)
	}
	return views
}
