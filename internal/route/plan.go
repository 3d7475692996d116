package route

// A plan says which mirrors of a route move, and holds those in place that do not fit where they belong, the
// misfits.

import (
	"maps"
	"slices"

	"github.com/mirrorgate/mirrorgate/patch"
)

// The reasons why a mirror is a misfit.
const (
	misfitBroken    = "a list of headers to remove cannot be read"
	misfitRefused   = "the API refuses the rule's filters as they are"
	misfitRemove    = "the list of headers to remove would exceed 16"
	misfitFilters   = "the list of filters would exceed 16"
	misfitBackend   = "its backendRef is gone"
	misfitBare      = "a delegate's rule without a route copies nothing"
	misfitRoutes    = "its route has too many entries for placeholders"
	misfitInherited = "delegates inherit the percentages of its rule"
	misfitShare     = "a placeholder cannot hold its percentage"
	misfitForms     = "the rule would have both mirror and mirrors"
	misfitOccupied  = "the rule has another mirror or percentage"
	misfitSize      = "the route's annotations would exceed 256 KiB"
	misfitForged    = "the annotation " + ParkedAnnotation + " cannot be read"
)

// Plan holds the operations that bring a route's mirrors where they belong.
type Plan struct {
	// Operations are empty when every mirror is there already.
	Operations []patch.Operation
	// Parked and Restored are the ids of the mirrors that move. Limited are those of the mirrors that get a smaller share
	// than they declare, or another one than before, and Raised those of the mirrors that get the declared one back.
	Parked, Restored, Limited, Raised []string
	// Instead holds, by id, the reason why a mirror is parked that should be limited.
	Instead map[string]string
	// Misfits holds, by id, the reason why a mirror cannot move and stays in place.
	Misfits map[string]string
}

// layout is how one kind of rule stores its mirrors.
type layout interface {
	// holdMisfits holds mirrors in place that have no room where they belong.
	holdMisfits(p *rulePlan)
	// edits returns the operations on the rule at base that carry out the plan.
	edits(base patch.Pointer, p *rulePlan) []patch.Operation
	// entry returns the annotation's entry for the rule's mirror i.
	entry(r *Rule, i int) entry
}

// Placement is where a mirror belongs.
type Placement struct {
	Parked bool
	// Share is the share in the spec of a mirror that is not parked. 0, or one that is not below the declared share, means
	// that it stands there as declared.
	Share Share
}

// Plan is PlanShares without limited mirrors.
func (rt *Route) Plan(park func(*Mirror) bool) (Plan, error) {
	return rt.PlanShares(func(m *Mirror) Placement { return Placement{Parked: park(m)} })
}

// PlanShares returns the operations after which every mirror is where place says; place must park either all or none of
// the mirrors to one target. The result depends on the route's mirrors and on place alone, not on where they were before:
// applying a manifest again, or the plan to its own result, changes nothing. Only a mirror that does not fit where it
// belongs stays in place; one that does not fit limited is parked if it can be.
func (rt *Route) PlanShares(place func(*Mirror) Placement) (Plan, error) {
	plans := rt.planRules(place)
	if over := rt.leastExcess(plans); over > 0 {
		trim(plans, over) // before a text of megabytes is written
	}
	text, err := rt.annotation(plans)
	for round := 0; err == nil && rt.excess(text) > 0 && trim(plans, rt.excess(text)<<round); round++ {
		text, err = rt.annotation(plans)
	}
	if err != nil {
		return Plan{}, err
	}
	frozen := rt.frozen
	if frozen == "" && rt.excess(text) > 0 {
		frozen = misfitSize
	}
	plan := Plan{Misfits: map[string]string{}, Instead: map[string]string{}}
	for _, p := range plans {
		if frozen != "" {
			p.holdAll(p.moves, frozen)
		} else {
			plan.Operations = append(plan.Operations, p.rule.layout.edits(rt.rules().Index(p.rule.index), p)...)
		}
		plan.add(p)
	}
	if frozen == "" {
		plan.Operations = append(plan.Operations, rt.annotationEdits(text)...)
	}
	return plan, nil
}

func (rt *Route) planRules(place func(*Mirror) Placement) []*rulePlan {
	plans := make([]*rulePlan, 0, len(rt.Rules))
	for i := range rt.Rules {
		r := &rt.Rules[i]
		p := &rulePlan{rule: r, parked: make([]bool, len(r.Mirrors)), limit: make([]Share, len(r.Mirrors))}
		for j := range r.Mirrors {
			p.place(j, place(&r.Mirrors[j]))
		}
		for j := range r.Mirrors {
			if p.limit[j] > 0 && !r.Mirrors[j].canLimit(p.limit[j]) {
				p.parkInstead(j, misfitShare)
			}
		}
		for j := range r.Mirrors {
			if p.moves(j) && r.Mirrors[j].fault != "" {
				p.hold(j, r.Mirrors[j].fault)
			}
		}
		r.layout.holdMisfits(p)
		plans = append(plans, p)
	}
	return plans
}

// trim keeps mirrors active, from the last one on, until the parked ones take at least n bytes less, and
// reports whether it kept any. The active ones may take the place of others that would return.
func trim(plans []*rulePlan, n int) bool {
	trimmed := false
	for _, p := range slices.Backward(plans) {
		for i := len(p.parked) - 1; i >= 0 && n > 0; i-- {
			if !p.parks(i) || !p.inAnnotation(i) {
				continue
			}
			for _, j := range p.hold(i, misfitSize) {
				n -= p.rule.Mirrors[j].size()
			}
			trimmed = true
		}
		p.rule.layout.holdMisfits(p)
	}
	return trimmed
}

// rules points at the route's list of rules.
func (rt *Route) rules() patch.Pointer {
	spec := patch.Pointer("").Key("spec")
	if rt.Kind == VirtualService {
		return spec.Key("http")
	}
	return spec.Key("rules")
}

func (plan *Plan) add(p *rulePlan) {
	maps.Copy(plan.Misfits, p.misfits)
	maps.Copy(plan.Instead, p.instead)
	for i := range p.rule.Mirrors {
		switch id := p.rule.Mirrors[i].ID; {
		case p.parks(i):
			plan.Parked = append(plan.Parked, id)
		case p.restores(i):
			plan.Restored = append(plan.Restored, id)
		case p.parked[i]:
		case p.rule.Mirrors[i].limit > 0 && p.limit[i] == 0:
			plan.Raised = append(plan.Raised, id)
		}
		if p.limit[i] > 0 && p.limit[i] != p.rule.Mirrors[i].limit {
			plan.Limited = append(plan.Limited, p.rule.Mirrors[i].ID)
		}
	}
}

// rulePlan says where the mirrors of one rule belong.
type rulePlan struct {
	rule   *Rule
	parked []bool
	// limit are the shares of the mirrors that will be limited, 0 for the others.
	limit            []Share
	misfits, instead map[string]string
	groups           map[group][]int
	// crowded are the parked mirrors of a delegate that have no place in the spec, where they would be
	// silenced.
	crowded map[int]bool
}

// place notes where a mirror belongs.
func (p *rulePlan) place(i int, at Placement) {
	m := &p.rule.Mirrors[i]
	p.parked[i] = at.Parked
	if at.Parked || at.Share == 0 || at.Share.Percent() >= m.Percentage.Percent() {
		return
	}
	p.limit[i] = at.Share
}

// parkInstead parks the mirrors of i's group, of which i cannot be limited.
func (p *rulePlan) parkInstead(i int, why string) {
	for _, j := range p.groupOf(i) {
		p.parked[j], p.limit[j] = true, 0
		if p.instead == nil {
			p.instead = map[string]string{}
		}
		p.instead[p.rule.Mirrors[j].ID] = why
	}
}

// isNamed reports whether a mirror will have a placeholder or a mark, isNewlyNamed whether it has neither yet.
func (p *rulePlan) isNamed(i int) bool { return p.parked[i] || p.limit[i] > 0 }
func (p *rulePlan) isNewlyNamed(i int) bool {
	return p.isNamed(i) && !p.rule.Mirrors[i].Parked && p.rule.Mirrors[i].limit == 0
}

// silences reports whether a mirror will be parked in place, inAnnotation whether it will be parked in the
// annotation.
func (p *rulePlan) silences(i int) bool     { return p.parked[i] && p.rule.silences && !p.crowded[i] }
func (p *rulePlan) inAnnotation(i int) bool { return p.parked[i] && !p.silences(i) }

// enters and leaves report whether a mirror will be added to the spec, or taken out of it.
func (p *rulePlan) enters(i int) bool { return !p.rule.Mirrors[i].inSpec() && !p.inAnnotation(i) }
func (p *rulePlan) leaves(i int) bool { return p.rule.Mirrors[i].inSpec() && p.inAnnotation(i) }

func (p *rulePlan) moves(i int) bool {
	return p.parked[i] != p.rule.Mirrors[i].Parked || p.limit[i] != p.rule.Mirrors[i].limit
}
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

// groupOf returns the mirrors of i's group.
func (p *rulePlan) groupOf(i int) []int {
	if len(p.rule.Mirrors) == 1 {
		return []int{0}
	}
	if p.groups == nil {
		p.groups = map[group][]int{}
		for j := range p.rule.Mirrors {
			g := p.rule.Mirrors[j].group()
			p.groups[g] = append(p.groups[g], j)
		}
	}
	return p.groups[p.rule.Mirrors[i].group()]
}

// hold keeps the mirrors of i's group in place, and returns those that would have moved.
func (p *rulePlan) hold(i int, why string) (held []int) {
	for _, j := range p.groupOf(i) {
		if !p.moves(j) {
			continue
		}
		if p.misfits == nil {
			p.misfits = map[string]string{}
		}
		m := &p.rule.Mirrors[j]
		p.misfits[m.ID] = why
		p.parked[j], p.limit[j] = m.Parked, m.limit
		delete(p.instead, m.ID)
		held = append(held, j)
	}
	return held
}

// holdAll holds the mirrors for which is returns true, and their groups.
func (p *rulePlan) holdAll(is func(int) bool, why string) {
	for i := range p.rule.Mirrors {
		if is(i) {
			p.hold(i, why)
		}
	}
}

// holdLast holds at least n mirrors for which is returns true, from the last one on, or all of them, and
// reports whether it held any.
func (p *rulePlan) holdLast(n int, is func(int) bool, why string) bool {
	held := false
	for i := len(p.rule.Mirrors) - 1; i >= 0 && n > 0; i-- {
		if is(i) {
			n -= len(p.hold(i, why))
			held = true
		}
	}
	return held
}

// placeholders returns the placeholders of the mirrors that are parked in the annotation, in declared order.
func (p *rulePlan) placeholders() []string {
	var names []string
	for i := range p.rule.Mirrors {
		if p.inAnnotation(i) {
			names = append(names, PlaceholderPrefix+p.rule.Mirrors[i].ID)
		}
	}
	return names
}
