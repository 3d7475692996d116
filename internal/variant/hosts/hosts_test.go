package hosts

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCovering(t *testing.T) {
	for host, want := range map[string][]string{
		"a.b.c":                   {"a.b.c", "*.b.c", "*.c", "*"},
		"a-1.b":                   {"a-1.b", "*-1.b", "*.b", "*"},
		"*.b.c":                   {"*.b.c", "*.c", "*"},
		"a":                       {"a", "*"},
		"*":                       {"*"},
		"":                        nil,
		strings.Repeat("a.", 127): nil,
	} {
		var got []string
		for p := range Covering(host) {
			got = append(got, p.String())
			assert.True(t, p.Covers(host), "%s covers %s", p, host)
		}
		assert.Equal(t, want, got, host)
	}
	assert.False(t, Parse("*.c").Covers("c"))
	assert.False(t, Parse("b").Covers("a.b"))
}

// Covering builds no strings, whatever a host looks like: its patterns are parts of the host.
func TestCoveringAllocatesNothing(t *testing.T) {
	host := strings.Repeat("a.", 126)
	n := 0
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for p := range Covering(host) {
			n += len(p.Text)
		}
	}))
}

const host = "b.shop.svc.cluster.local"

// rule returns a rule in a namespace; its subset has the name of the rule.
func rule(name, of string, exportTo ...string) *Rule[string] {
	namespace, short, _ := strings.Cut(name, "/")
	slices.Sort(exportTo)
	return &Rule[string]{
		Namespace: namespace, Name: short, Pattern: Parse(of), ExportTo: exportTo,
		Subsets: []Subset[string]{{Name: short, Labels: name}},
	}
}

func selecting(r *Rule[string], selector string) *Rule[string] {
	r.Selects, r.Selector, r.SelectorText = true, selector, selector
	return r
}

// plain takes the subsets out of a rule, as in one for mTLS alone.
func plain(r *Rule[string]) *Rule[string] {
	r.Subsets = nil
	return r
}

// subsets returns the subsets that clients in a namespace find for the Service shop/b, one list for each view.
func subsets(rules []*Rule[string], client string) (found []string) {
	rules = slices.Clone(rules)
	slices.SortFunc(rules, Compare)
	l := Lookup[string]{Root: "root", At: func(namespace string, p Pattern) (at []*Rule[string]) {
		for _, r := range rules {
			if r.Namespace == namespace && r.Pattern == p {
				at = append(at, r)
			}
		}
		return at
	}}
	for _, view := range Views(l.For(host, "shop", client), client, func(selector string) bool { return selector != "nobody" }) {
		var names []string
		for _, r := range view.Rules {
			for _, s := range r.Subsets {
				names = append(names, s.Name)
			}
		}
		found = append(found, strings.Join(names, "+"))
	}
	return found
}

// The outcomes are those of Istio's own control plane for the same rules (test/judges).
func TestWhichRulesAClientUses(t *testing.T) {
	for name, tc := range map[string]struct {
		rules []*Rule[string]
		// want are the subsets that clients in each namespace find.
		want map[string][]string
	}{
		"client, then Service, then root": {
			[]*Rule[string]{rule("web/c", host), rule("shop/s", host), rule("root/r", host)},
			map[string][]string{"web": {"c"}, "shop": {"s"}, "other": {"s"}, "root": {"s"}}},
		"root alone":                {[]*Rule[string]{rule("root/r", host)}, map[string][]string{"web": {"r"}, "root": {"r"}}},
		"a third namespace":         {[]*Rule[string]{rule("third/t", host)}, map[string][]string{"web": nil, "third": {"t"}}},
		"a wildcard of the client":  {[]*Rule[string]{plain(rule("web/w", "*.local")), rule("shop/s", host)}, map[string][]string{"web": {""}, "other": {"s"}}},
		"a wildcard of the Service": {[]*Rule[string]{plain(rule("shop/w", "*.local")), rule("root/r", host)}, map[string][]string{"web": {""}}},
		"a wildcard of the root hides nothing": {
			[]*Rule[string]{plain(rule("root/w", "*.local")), rule("shop/s", host)}, map[string][]string{"web": {"s"}, "root": {"s"}}},
		"the longer wildcard": {
			[]*Rule[string]{rule("shop/far", "*.local"), rule("shop/near", "*.shop.svc.cluster.local")}, map[string][]string{"web": {"near"}}},
		"merged":                   {[]*Rule[string]{rule("shop/a", host), rule("shop/b", host)}, map[string][]string{"web": {"a+b"}}},
		"apart by exportTo":        {[]*Rule[string]{rule("shop/a", host), rule("shop/b", host, "web")}, map[string][]string{"web": {"b"}, "other": {"a"}}},
		"merged into a part of it": {[]*Rule[string]{rule("shop/a", host, "web"), rule("shop/b", host, "web", "x")}, map[string][]string{"web": {"a+b"}, "x": nil}},
		"exported to one":          {[]*Rule[string]{rule("shop/a", host, "web")}, map[string][]string{"web": {"a"}, "other": nil, "shop": nil}},
		"private":                  {[]*Rule[string]{rule("shop/a", host, "shop"), rule("root/r", host)}, map[string][]string{"shop": {"a"}, "web": {"r"}}},
		"nobody":                   {[]*Rule[string]{rule("shop/a", host, "~")}, map[string][]string{"shop": nil, "web": nil}},
		"private in the root":      {[]*Rule[string]{rule("root/r", host, "root"), rule("shop/s", host)}, map[string][]string{"root": {"r"}, "web": {"s"}}},
		"exact, exported elsewhere, hides a wildcard": {
			[]*Rule[string]{rule("shop/exact", host, "x"), rule("shop/wild", "*.local")},
			map[string][]string{"web": nil, "x": {"exact"}, "shop": {"wild"}}},
		"exact and private hides none": {
			[]*Rule[string]{rule("shop/exact", host, "shop"), rule("shop/wild", "*.local")}, map[string][]string{"web": {"wild"}, "shop": {"exact"}}},
		"a selector ends the lookup": {
			[]*Rule[string]{selecting(rule("web/sel", host), "nobody"), rule("shop/s", host)}, map[string][]string{"web": nil, "other": {"s"}}},
		"a selector that matches": {
			[]*Rule[string]{selecting(rule("web/sel", host), "app"), rule("shop/s", host)}, map[string][]string{"web": {"sel"}, "other": {"s"}}},
		"a selector beside a plain one": {
			[]*Rule[string]{selecting(rule("web/sel", host), "app"), rule("web/p", host)}, map[string][]string{"web": {"sel", "p"}}},
		"a selector is private": {
			[]*Rule[string]{selecting(rule("shop/sel", host), "app"), rule("root/r", host)}, map[string][]string{"web": {"r"}, "shop": {"sel"}}},
	} {
		t.Run(name, func(t *testing.T) {
			for client, want := range tc.want {
				assert.Equal(t, want, subsets(tc.rules, client), "clients in %s", client)
			}
		})
	}
}

// Of two rules with one subset the older one defines it.
func TestTheOlderRuleDefinesASubset(t *testing.T) {
	a, b := rule("shop/a", host), rule("shop/b", host)
	a.Created, b.Created = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
	a.Subsets[0].Name = "b"
	rules := []*Rule[string]{a, b}
	slices.SortFunc(rules, Compare)
	labels, found := merge(rules)[0].Subset("b")
	assert.True(t, found)
	assert.Equal(t, "shop/b", labels)
	_, found = merge(rules)[0].Subset("none")
	assert.False(t, found)
}
