package route

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/mirrorgate/mirrorgate/patch"
)

// maxAnnotations is the API server's limit for all annotations of an object, in
// bytes of keys and values.
const maxAnnotations = 256 << 10

// layout is how one kind of rule stores its mirrors.
type layout interface {
	// fit keeps mirrors where they are for which the plan has no room.
	fit(p *rulePlan)
	// edits are the operations on the rule at base that carry out the plan.
	edits(base patch.Pointer, p *rulePlan) []patch.Operation
	// entry is what the annotation keeps of the rule's mirror i.
	entry(r *Rule, i int) entry
}

// Plan is what it takes to bring a route's mirrors where they should be.
type Plan struct {
	// Operations are empty when every mirror is there already.
	Operations []patch.Operation
	// Parked and Restored are the ids of the mirrors that move.
	Parked, Restored []string
	// Misfits tells, by id, why a mirror cannot move and stays where it is.
	Misfits map[string]string
}

// Plan returns the operations after which exactly those mirrors are parked
// for which park returns true; it must say the same of mirrors to one target.
// The result depends on the document's mirrors and on park alone, not on what
// was parked before: applying a manifest again, or Plan to its own result,
// changes nothing. Only a mirror that has no room where it should be stays where
// it is.
func (d *Route) Plan(park func(*Mirror) bool) (Plan, error) {
	plans := d.plan(park)
	text, err := d.annotation(plans)
	for round := 0; err == nil && d.excess(text) > 0 && trim(plans, d.excess(text)<<round); round++ {
		text, err = d.annotation(plans)
	}
	if err != nil {
		return Plan{}, err
	}
	frozen := d.frozen
	if frozen == "" && d.excess(text) > 0 {
		frozen = misfitSize
	}
	a := Plan{Misfits: map[string]string{}}
	for i, p := range plans {
		if frozen != "" {
			p.stayAll(p.moves, frozen)
		} else {
			a.Operations = append(a.Operations, p.rule.layout.edits(d.rules().Index(i), p)...)
		}
		a.tally(p)
	}
	if frozen == "" {
		a.Operations = append(a.Operations, d.annotationEdits(text)...)
	}
	return a, nil
}

func (a *Plan) tally(p *rulePlan) {
	maps.Copy(a.Misfits, p.misfits)
	for i := range p.rule.Mirrors {
		switch id := p.rule.Mirrors[i].ID; {
		case p.parks(i):
			a.Parked = append(a.Parked, id)
		case p.restores(i):
			a.Restored = append(a.Restored, id)
		}
	}
}

// rules points at the route's list of rules.
func (d *Route) rules() patch.Pointer {
	spec := patch.Pointer("").Key("spec")
	if d.Kind == VirtualService {
		return spec.Key("http")
	}
	return spec.Key("rules")
}

// excess is by how much the route's annotations would become too large with
// this text of ours. What is too large without us is not for us to mend.
func (d *Route) excess(text string) int {
	size := d.annotations.bytes - len(d.Parked) + len(text)
	if !d.annotations.hasParked {
		size += len(ParkedAnnotation)
	}
	return min(size-maxAnnotations, len(text)-len(d.Parked))
}

// trim keeps mirrors active, from the last one on, until at least n bytes of
// text less are parked, and tells whether it kept any. Those that stay take room
// from others that would return.
func trim(plans []*rulePlan, n int) bool {
	trimmed := false
	for _, p := range slices.Backward(plans) {
		for i := len(p.parked) - 1; i >= 0 && n > 0; i-- {
			if !p.parks(i) {
				continue
			}
			for _, j := range p.stay(i, misfitSize) {
				n -= p.rule.Mirrors[j].size()
			}
			trimmed = true
		}
		p.rule.layout.fit(p)
	}
	return trimmed
}

func (d *Route) plan(park func(*Mirror) bool) []*rulePlan {
	plans := make([]*rulePlan, 0, len(d.Rules))
	for i := range d.Rules {
		r := &d.Rules[i]
		p := &rulePlan{rule: r, parked: make([]bool, len(r.Mirrors))}
		for j := range r.Mirrors {
			p.parked[j] = park(&r.Mirrors[j])
		}
		p.stayAll(func(j int) bool { return p.parks(j) && r.Mirrors[j].unreadable }, misfitUnreadable)
		r.layout.fit(p)
		plans = append(plans, p)
	}
	return plans
}

// annotation returns the text of the parked annotation, "" for none.
func (d *Route) annotation(plans []*rulePlan) (string, error) {
	texts := map[string]json.RawMessage{}
	for _, p := range plans {
		for _, id := range p.rule.Orphans {
			if text, ok := d.stored[id]; ok {
				texts[id] = text // unusable, but not ours to throw away
			}
		}
		for i := range p.rule.Mirrors {
			if !p.parked[i] {
				continue
			}
			m := &p.rule.Mirrors[i]
			text, err := encodeEntry(d.settle(m, p.rule.layout.entry(p.rule, i)))
			if err != nil {
				return "", err
			}
			texts[m.ID] = text
		}
	}
	if len(texts) == 0 {
		return "", nil
	}
	return encodeEntries(texts)
}

func (d *Route) annotationEdits(text string) []patch.Operation {
	annotations := patch.Pointer("").Key("metadata").Key("annotations")
	at := annotations.Key(ParkedAnnotation)
	switch {
	case text == d.Parked && d.annotations.hasParked == (text != ""):
		return nil
	case text == "" && d.annotations.count == 1:
		return []patch.Operation{patch.Remove(annotations)}
	case text == "":
		return []patch.Operation{patch.Remove(at)}
	case d.annotations.count == 0:
		return []patch.Operation{patch.Add(annotations, map[string]any{ParkedAnnotation: text})}
	default:
		return []patch.Operation{patch.Add(at, text)}
	}
}

// rulePlan is where the mirrors of one rule should be.
type rulePlan struct {
	rule    *Rule
	parked  []bool
	misfits map[string]string
	groups  map[group][]int
}

func (p *rulePlan) isParked(i int) bool { return p.parked[i] }
func (p *rulePlan) moves(i int) bool    { return p.parked[i] != p.rule.Mirrors[i].Parked }
func (p *rulePlan) parks(i int) bool    { return p.parked[i] && !p.rule.Mirrors[i].Parked }
func (p *rulePlan) restores(i int) bool { return !p.parked[i] && p.rule.Mirrors[i].Parked }

func (p *rulePlan) count(is func(int) bool) int {
	n := 0
	for i := range p.rule.Mirrors {
		if is(i) {
			n++
		}
	}
	return n
}

// stay keeps the mirrors of i's group where they are, and returns those that
// would have moved.
func (p *rulePlan) stay(i int, why string) (stayed []int) {
	if p.groups == nil {
		p.groups = map[group][]int{}
		for j := range p.rule.Mirrors {
			g := p.rule.Mirrors[j].group()
			p.groups[g] = append(p.groups[g], j)
		}
	}
	for _, j := range p.groups[p.rule.Mirrors[i].group()] {
		if !p.moves(j) {
			continue
		}
		if p.misfits == nil {
			p.misfits = map[string]string{}
		}
		m := &p.rule.Mirrors[j]
		p.misfits[m.ID] = why
		p.parked[j] = m.Parked
		stayed = append(stayed, j)
	}
	return stayed
}

// stayAll keeps the mirrors where they are for which is holds, and their groups.
func (p *rulePlan) stayAll(is func(int) bool, why string) {
	for i := range p.rule.Mirrors {
		if is(i) {
			p.stay(i, why)
		}
	}
}

// stayLast keeps mirrors for which is holds where they are, from the last one
// on, until no more than n of them are needed to. It tells whether any did.
func (p *rulePlan) stayLast(n int, is func(int) bool, why string) bool {
	stayed := false
	for i := len(p.rule.Mirrors) - 1; i >= 0 && n > 0; i-- {
		if is(i) {
			n -= len(p.stay(i, why))
			stayed = true
		}
	}
	return stayed
}

// ids are those of the parked mirrors, in declared order.
func (p *rulePlan) ids() []string {
	var ids []string
	for i := range p.rule.Mirrors {
		if p.parked[i] {
			ids = append(ids, p.rule.Mirrors[i].ID)
		}
	}
	return ids
}

// place appends an element of a list's order to the wanted list, unless it is a
// mirror that should be parked.
func (p *rulePlan) place(want []any, s slot) []any {
	switch {
	case s.mirror >= 0 && p.parked[s.mirror]:
		return want
	case s.stored >= 0:
		return append(want, s.stored)
	default:
		return append(want, added{p.rule.Mirrors[s.mirror].text})
	}
}
