package route

// The plan for a rule of an HTTPRoute or a GRPCRoute: its lists of filters have a limit, and its placeholders
// need a modifier filter.

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mirrorgate/mirrorgate/patch"
)

// Limits of the Gateway API's lists: filters of a rule or a backendRef, and names in a remove list. The CRD
// refuses one element more.
const (
	maxFilters = 16
	maxRemove  = 16
)

// holdMisfits holds groups of mirrors in place as long as a list would overflow. Holding every mirror always
// fits.
func (l *gatewayLayout) holdMisfits(p *rulePlan) {
	switch {
	case l.placeholders.broken:
		p.holdAll(p.moves, misfitBroken)
		return
	case l.refused():
		p.holdAll(p.moves, misfitRefused)
		return
	}
	p.holdAll(func(i int) bool { return p.rule.Mirrors[i].position.backend == backendGone && p.restores(i) }, misfitBackend)
	for l.limitRemoveList(p) || l.limitBackendFilters(p) || l.limitRuleFilters(p) {
	}
}

// refused reports whether the CRD refuses the lists that hold mirrors and placeholders. A mirror that moved
// could make them valid, and hide the error until it moves back.
func (l *gatewayLayout) refused() bool {
	long := func(list mirrorList) bool { return len(list.stored) > maxFilters }
	others := l.placeholders.others()
	return l.modifiers > 1 || long(l.own) || slices.ContainsFunc(l.backends, long) ||
		sets.New(others...).Len() < len(others) || sets.New(l.placeholders.names...).Len() > maxRemove
}

func (l *gatewayLayout) limitRemoveList(p *rulePlan) bool {
	size := len(l.placeholders.others()) + p.count(p.isNamed)
	return p.holdLast(size-maxRemove, p.isNewlyNamed, misfitRemove)
}

func (l *gatewayLayout) limitBackendFilters(p *rulePlan) bool {
	over := make([]int, len(l.backends))
	for b, list := range l.backends {
		over[b] = len(list.stored) - maxFilters
	}
	for i := range p.rule.Mirrors {
		switch b := p.rule.Mirrors[i].position.backend; {
		case b >= 0 && p.parks(i):
			over[b]--
		case b >= 0 && p.restores(i):
			over[b]++
		}
	}
	held := false
	for i, m := range slices.Backward(p.rule.Mirrors) {
		if b := m.position.backend; b >= 0 && over[b] > 0 && p.restores(i) {
			over[b] -= len(p.hold(i, misfitFilters))
			held = true
		}
	}
	return held
}

func (l *gatewayLayout) limitRuleFilters(p *rulePlan) bool {
	own := func(i int) bool { return p.rule.Mirrors[i].position.backend == onRule }
	back := func(i int) bool { return own(i) && p.restores(i) }
	size := len(l.own.stored) + p.count(back) - p.count(func(i int) bool { return own(i) && p.parks(i) })
	if l.ownsModifier() {
		size--
	}
	if !l.usersModifier() && p.count(p.isNamed) > 0 {
		size++
	}
	over := size - maxFilters
	if over <= 0 {
		return false
	}
	// A limited mirror that is parked instead gives its own place to the modifier.
	for i := range slices.Backward(p.rule.Mirrors) {
		if own(i) && p.limit[i] > 0 {
			p.parkInstead(i, misfitFilters)
			return true
		}
	}
	// If no mirror of the rule returns, the modifier has no room, and mirrors of the backends need it.
	return p.holdLast(over, back, misfitFilters) || p.holdLast(len(p.parked), p.isNewlyNamed, misfitFilters)
}

func (l *gatewayLayout) entry(r *Rule, i int) entry {
	m := &r.Mirrors[i]
	e := entry{Filter: m.text, At: m.position.index, Backend: m.position.ref, Keep: l.placeholders.keep}
	if m.position.backend == onRule && l.usersModifier() {
		e.Modifier = 1 + slices.IndexFunc(l.own.order, func(s slot) bool { return s.stored == l.modifier })
	}
	return e
}

// edits leaves marks in lists that the CRD refuses, even those that nothing needs: without them it could accept the list.
func (l *gatewayLayout) edits(base patch.Pointer, p *rulePlan) []patch.Operation {
	if len(l.placeholders.marks) > 0 && l.refused() {
		return nil
	}
	filters := base.Key("filters")
	var ops []patch.Operation
	if l.usersModifier() {
		filter := filters.Index(l.modifier)
		remove := filter.Key("requestHeaderModifier").Key("remove")
		ops = l.placeholders.edits(levels{{filters, ""}, {filter, ""}, {remove, "remove"}}, l.names(p))
	}
	ops = append(ops, l.own.edits(filters, l.plannedFilters(p), l.placeholders.keep > 0)...)
	for b, list := range l.backends {
		ops = append(ops, list.edits(base.Key("backendRefs").Index(b).Key("filters"), list.planned(p), false)...)
	}
	return ops
}

// names returns the placeholders and marks of a rule.
func (l *gatewayLayout) names(p *rulePlan) []string {
	return append(p.placeholders(), p.limitMarks(l.placeholders.keep)...)
}

// plannedFilters returns the rule's own filters as the plan wants them: an int for a stored one, added for
// another one. A modifier for placeholders has the place of the first parked mirror, so that the result does
// not depend on which mirror was parked first; one for marks alone stands at the end, so that no index changes.
func (l *gatewayLayout) plannedFilters(p *rulePlan) []any {
	placeholders := l.names(p)
	var modifier any
	if len(placeholders) > 0 && !l.usersModifier() {
		names := l.placeholders.namesWith(placeholders)
		modifier = newModifier(names)
		if l.ownsModifier() && slices.Equal(names, l.placeholders.names) {
			modifier = l.modifier
		}
	}
	var want []any
	for _, s := range l.own.order {
		before := len(want)
		want = p.appendSlot(want, s)
		if len(want) == before && modifier != nil {
			want, modifier = append(want, modifier), nil
		}
	}
	if modifier != nil {
		want = append(want, modifier)
	}
	if !increasing(want) {
		for i, w := range want {
			if w == l.modifier {
				want[i] = newModifier(l.placeholders.namesWith(placeholders))
			}
		}
	}
	return want
}

func newModifier(remove []string) added {
	return added{map[string]any{
		"type":                  "RequestHeaderModifier",
		"requestHeaderModifier": map[string]any{"remove": remove},
	}}
}

// increasing reports whether the stored elements of a wanted list are in stored order.
func increasing(want []any) bool {
	last := -1
	for _, w := range want {
		if i, ok := w.(int); ok {
			if i < last {
				return false
			}
			last = i
		}
	}
	return true
}
