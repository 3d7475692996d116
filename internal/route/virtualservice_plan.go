package route

// The plan for a rule of a VirtualService: it has one mirror or a list of mirrors, not both.

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/mirrorgate/mirrorgate/patch"
)

// maxSilencers bounds the placeholders in one rule of a delegate.
const maxSilencers = 4096

// holdMisfits keeps a parked mirror parked while Istio would refuse it in the spec.
func (l *istioLayout) holdMisfits(p *rulePlan) {
	if l.placeholders.broken || slices.ContainsFunc(l.routes, func(ph placeholders) bool { return ph.broken }) {
		p.holdAll(p.moves, misfitBroken)
		return
	}
	if p.rule.BothForms {
		p.holdAll(p.moves, misfitForms) // Istio refuses the rule as it is, and parking one form would hide that
		return
	}
	if l.bare {
		p.holdAll(p.isNewlyNamed, misfitBare)
	}
	for i := range p.rule.Mirrors {
		if l.delegates && p.limit[i] > 0 {
			p.parkInstead(i, misfitInherited)
		}
	}
	if l.overfull(p) {
		p.holdAll(p.moves, misfitRoutes)
		for i := range p.rule.Mirrors {
			if p.silences(i) && p.enters(i) {
				p.keepOut(i, misfitRoutes)
			}
		}
	}
	for i := range p.rule.Mirrors {
		m := &p.rule.Mirrors[i]
		switch {
		case p.silences(i) && p.enters(i) && m.fault != "": // Istio would refuse it in the spec
			p.keepOut(i, m.fault)
		case p.parks(i) && p.silences(i) && m.share() == "":
			p.hold(i, misfitShare)
		}
	}
	l.holdForms(p)
}

// overfull reports whether the silenced mirrors of a rule would have too many placeholders, of which every entry
// of its route gets one for each.
func (l *istioLayout) overfull(p *rulePlan) bool {
	return p.rule.silences && len(l.routes)*p.count(p.isNamed) > maxSilencers
}

// holdForms keeps mirrors out of the spec for which it has no place: a rule has one single mirror, and none
// beside a list of mirrors.
func (l *istioLayout) holdForms(p *rulePlan) {
	single := func(i int) bool { return p.rule.Mirrors[i].position.single }
	elements := p.count(func(i int) bool { return !single(i) && p.rule.Mirrors[i].inSpec() && !p.leaves(i) })
	taken := len(l.stanza) > 0 // by the fields in the spec, of which a percentage may stand alone
	if l.delegates {
		taken = l.stanza["mirror"] != nil
	}
	for i := range p.rule.Mirrors {
		if single(i) && p.leaves(i) {
			taken = false
		}
	}
	for i := range p.rule.Mirrors {
		if !single(i) || !p.enters(i) {
			continue
		}
		switch {
		case taken:
			p.keepOut(i, misfitOccupied)
		case elements > 0:
			p.keepOut(i, misfitForms)
		default:
			taken = true
		}
	}
	if p.count(func(i int) bool { return single(i) && !p.inAnnotation(i) }) == 0 {
		return
	}
	for i := range p.rule.Mirrors {
		if !single(i) && p.enters(i) {
			p.keepOut(i, misfitForms)
		}
	}
}

// keepOut keeps a parked mirror in the annotation.
func (p *rulePlan) keepOut(i int, why string) {
	if p.restores(i) {
		p.hold(i, why)
	}
	if p.crowded == nil {
		p.crowded = map[int]bool{}
	}
	for _, j := range p.groupOf(i) {
		p.crowded[j] = !p.rule.Mirrors[j].inSpec()
	}
}

func (l *istioLayout) entry(r *Rule, i int) entry {
	m := &r.Mirrors[i]
	if m.position.single {
		stanza := m.stanza
		if l.delegates {
			stanza = map[string]json.RawMessage{"mirror": m.stanza["mirror"]}
		}
		return entry{Stanza: stanza, Keep: l.placeholders.keep}
	}
	return entry{Element: m.text, At: m.position.index, Keep: l.placeholders.keep}
}

func (l *istioLayout) edits(base patch.Pointer, p *rulePlan) []patch.Operation {
	var ops []patch.Operation
	for i := range p.rule.Mirrors {
		if p.rule.Mirrors[i].position.single {
			ops = append(ops, l.stanzaEdits(base, p, i)...)
		}
	}
	ops = append(ops, l.list.edits(base.Key("mirrors"), l.list.planned(p), false)...)
	names, marks := p.placeholders(), func(keep int) []string { return p.limitMarks(keep) }
	if !p.rule.silences {
		names, marks = append(names, marks(l.placeholders.keep)...), func(int) []string { return nil }
	}
	ops = append(ops, l.placeholders.edits(headerLevels(base), names)...)
	if l.overfull(p) {
		return ops // they stay as they are
	}
	silencers := p.silencers()
	for i := range l.routes {
		ph := &l.routes[i]
		ops = append(ops, ph.edits(headerLevels(base.Key("route").Index(i)), append(withKeep(silencers, ph.keep), marks(ph.keep)...))...)
	}
	return ops
}

// stanzaEdits turns the stored fields of a single mirror into the planned ones.
func (l *istioLayout) stanzaEdits(base patch.Pointer, p *rulePlan, i int) []patch.Operation {
	m := &p.rule.Mirrors[i]
	var stored, want map[string]json.RawMessage
	if m.inSpec() {
		stored = l.stanza
	}
	switch {
	case p.silences(i):
		want = m.silentStanza()
	case p.limit[i] > 0 && p.limit[i] == m.limit && !m.stale:
		want = l.stanza // it stands there, whatever the order of its members is
	case p.limit[i] > 0:
		_, want = m.withFields(m.storedFields(p.limit[i]))
	case !p.inAnnotation(i):
		want = m.stanza
	}
	if l.delegates && l.stanza["mirror"] == nil {
		stored = l.stanza // the percentages of the parked mirror
	}
	if l.delegates && p.inAnnotation(i) && !p.crowded[i] {
		want = maps.Clone(m.stanza)
		delete(want, "mirror")
	}
	var ops []patch.Operation
	for _, key := range stanzaKeys {
		was, had := stored[key]
		is, has := want[key]
		switch {
		case had && !has:
			ops = append(ops, patch.Remove(base.Key(key)))
		case has && !bytes.Equal(was, is):
			ops = append(ops, patch.Add(base.Key(key), is))
		}
	}
	return ops
}

// headerLevels are the levels of the list of headers to remove in a rule, or in an entry of its route.
func headerLevels(base patch.Pointer) levels {
	headers := base.Key("headers")
	request := headers.Key("request")
	return levels{{headers, "headers"}, {request, "request"}, {request.Key("remove"), "remove"}}
}
