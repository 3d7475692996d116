package route

import (
	"slices"

	"github.com/mirrorgate/mirrorgate/patch"
)

// Limits of the Gateway API's lists: filters of a rule or a backendRef, and
// names in a remove list. One element more is refused by the CRD.
const (
	maxFilters = 16
	maxRemove  = 16
)

// maxEdits is how many operations a list gets before it is written as a whole:
// who applies them copies the list for each.
const maxEdits = 64

// Why a mirror stays where it is.
const (
	misfitBroken     = "a list of headers to remove cannot be read"
	misfitUnreadable = "what it points at cannot be read"
	misfitRemove     = "the list of headers to remove would exceed 16"
	misfitFilters    = "the list of filters would exceed 16"
	misfitBackend    = "its backendRef is gone"
	misfitForms      = "the rule would have both mirror and mirrors"
	misfitOccupied   = "the rule has another mirror or percentage"
	misfitSize       = "the route's annotations would exceed 256 KiB"
	misfitForged     = "the annotation " + ParkedAnnotation + " cannot be read"
)

// fit sends groups of mirrors back to where they stand, as long as a list would
// overflow. What stands there already fits.
func (l *gatewayLayout) fit(p *rulePlan) {
	if l.marks.broken {
		p.stayAll(p.moves, misfitBroken)
		return
	}
	p.stayAll(func(i int) bool { return p.rule.Mirrors[i].place.backend == backendGone && p.restores(i) }, misfitBackend)
	for l.fitRemove(p) || l.fitBackends(p) || l.fitOwn(p) {
	}
}

func (l *gatewayLayout) fitRemove(p *rulePlan) bool {
	size := len(l.marks.rest()) + p.count(p.isParked)
	return p.stayLast(size-max(maxRemove, len(l.marks.items)), p.parks, misfitRemove)
}

func (l *gatewayLayout) fitBackends(p *rulePlan) bool {
	over := make([]int, len(l.backends))
	for b, list := range l.backends {
		over[b] = min(0, len(list.stored)-maxFilters)
	}
	for i := range p.rule.Mirrors {
		switch b := p.rule.Mirrors[i].place.backend; {
		case b >= 0 && p.parks(i):
			over[b]--
		case b >= 0 && p.restores(i):
			over[b]++
		}
	}
	stayed := false
	for i, m := range slices.Backward(p.rule.Mirrors) {
		if b := m.place.backend; b >= 0 && over[b] > 0 && p.restores(i) {
			over[b] -= len(p.stay(i, misfitFilters))
			stayed = true
		}
	}
	return stayed
}

func (l *gatewayLayout) fitOwn(p *rulePlan) bool {
	own := func(i int) bool { return p.rule.Mirrors[i].place.backend == onRule }
	back := func(i int) bool { return own(i) && p.restores(i) }
	size := len(l.own.stored) + p.count(back) - p.count(func(i int) bool { return own(i) && p.parks(i) })
	if l.ours() {
		size--
	}
	if !l.regular() && p.count(p.isParked) > 0 {
		size++
	}
	over := size - max(maxFilters, len(l.own.stored))
	if over <= 0 {
		return false
	}
	// Else it is the modifier that has no room, for mirrors of the backends.
	return p.stayLast(over, back, misfitFilters) || p.stayLast(len(p.parked), p.parks, misfitFilters)
}

// regular tells whether the rule has a modifier filter of the user's own.
func (l *gatewayLayout) regular() bool { return l.modifier >= 0 && !l.ours() }

func (l *gatewayLayout) entry(r *Rule, i int) entry {
	m := &r.Mirrors[i]
	e := entry{Filter: m.text, At: m.place.at, Backend: m.place.under, Keep: l.marks.keep}
	if m.place.backend == onRule && l.regular() {
		e.Mark = 1 + slices.IndexFunc(l.own.order, func(s slot) bool { return s.stored == l.modifier })
	}
	return e
}

// added is an element of a new list that the stored one does not have.
type added struct{ value any }

func (l *gatewayLayout) edits(base patch.Pointer, p *rulePlan) []patch.Operation {
	filters := base.Key("filters")
	var ops []patch.Operation
	if l.regular() {
		modifier := filters.Index(l.modifier).Key("requestHeaderModifier")
		ops = l.marks.edits(way{{filters, ""}, {filters.Index(l.modifier), ""}, {modifier.Key("remove"), "remove"}}, p.ids())
	}
	ops = append(ops, l.own.edits(filters, l.arranged(p), l.marks.keep > 0)...)
	for b, list := range l.backends {
		var want []any
		for _, s := range list.order {
			want = p.place(want, s)
		}
		ops = append(ops, list.edits(base.Key("backendRefs").Index(b).Key("filters"), want, false)...)
	}
	return ops
}

// arranged returns the rule's own filters as they should stand: int for a
// stored one, added for another. A modifier of ours has the place of the first
// parked mirror, so that the result does not depend on what was parked first.
func (l *gatewayLayout) arranged(p *rulePlan) []any {
	ids := p.ids()
	var mark any
	if len(ids) > 0 && !l.regular() {
		names := l.marks.names(ids)
		mark = added{map[string]any{
			"type":                  "RequestHeaderModifier",
			"requestHeaderModifier": map[string]any{"remove": names},
		}}
		if l.ours() && slices.Equal(names, l.marks.items) {
			mark = l.modifier
		}
	}
	var want []any
	for _, s := range l.own.order {
		before := len(want)
		want = p.place(want, s)
		if len(want) == before && mark != nil {
			want, mark = append(want, mark), nil
		}
	}
	if mark != nil {
		want = append(want, mark)
	}
	if !increasing(want) {
		for i, w := range want {
			if w == l.modifier {
				want[i] = added{map[string]any{
					"type":                  "RequestHeaderModifier",
					"requestHeaderModifier": map[string]any{"remove": l.marks.names(ids)},
				}}
			}
		}
	}
	return want
}

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

// edits turns the stored list into the wanted one, whose stored elements are in
// stored order. A list that becomes empty is removed, unless keep is set.
func (l *filterList) edits(at patch.Pointer, want []any, keep bool) []patch.Operation {
	if len(want) == 0 && len(l.stored) > 0 && !keep {
		return []patch.Operation{patch.Remove(at)}
	}
	stays := make([]bool, len(l.stored))
	values := make([]any, len(want))
	var adds []patch.Operation
	for i, w := range want {
		switch w := w.(type) {
		case int:
			stays[w], values[i] = true, l.stored[w]
		case added:
			values[i] = w.value
			adds = append(adds, patch.Add(at.Index(i), w.value))
		}
	}
	var ops []patch.Operation
	for i, stay := range slices.Backward(stays) {
		if !stay {
			ops = append(ops, patch.Remove(at.Index(i)))
		}
	}
	ops = append(ops, adds...)
	if len(ops) > maxEdits || (l.stored == nil && len(ops) > 0) {
		return []patch.Operation{patch.Add(at, values)}
	}
	return ops
}
