package route

// The plan for a rule of a VirtualService: it has one mirror or a list of mirrors, not both.

import (
	"github.com/mirrorgate/mirrorgate/patch"
)

// holdMisfits keeps a parked mirror parked while Istio would refuse it in the spec.
func (l *istioLayout) holdMisfits(p *rulePlan) {
	if l.placeholders.broken {
		p.holdAll(p.moves, misfitBroken)
		return
	}
	if p.rule.BothForms {
		p.holdAll(p.moves, misfitForms) // Istio refuses the rule as it is, and parking one form would hide that
		return
	}
	single := func(i int) bool { return p.rule.Mirrors[i].position.single }
	elements := p.count(func(i int) bool { return !single(i) && !p.parked[i] && !p.rule.Mirrors[i].Parked })
	taken := len(l.stanza) > 0 // by the fields in the spec, of which a percentage may stand alone
	for i := range p.rule.Mirrors {
		if single(i) && p.parks(i) {
			taken = false
		}
	}
	for i := range p.rule.Mirrors {
		if !single(i) || !p.restores(i) {
			continue
		}
		switch {
		case taken:
			p.hold(i, misfitOccupied)
		case elements > 0:
			p.hold(i, misfitForms)
		default:
			taken = true
		}
	}
	if p.count(func(i int) bool { return single(i) && !p.parked[i] }) > 0 {
		p.holdAll(func(i int) bool { return !single(i) && p.restores(i) }, misfitForms)
	}
}

func (l *istioLayout) entry(r *Rule, i int) entry {
	m := &r.Mirrors[i]
	if m.position.single {
		return entry{Stanza: m.stanza, Keep: l.placeholders.keep}
	}
	return entry{Element: m.text, At: m.position.index, Keep: l.placeholders.keep}
}

func (l *istioLayout) edits(base patch.Pointer, p *rulePlan) []patch.Operation {
	var ops []patch.Operation
	for i := range p.rule.Mirrors {
		m := &p.rule.Mirrors[i]
		for _, key := range stanzaKeys {
			raw, ok := m.stanza[key]
			switch {
			case ok && p.parks(i):
				ops = append(ops, patch.Remove(base.Key(key)))
			case ok && p.restores(i):
				ops = append(ops, patch.Add(base.Key(key), raw))
			}
		}
	}
	ops = append(ops, l.list.edits(base.Key("mirrors"), l.list.planned(p), false)...)
	headers := base.Key("headers")
	request := headers.Key("request")
	levels := levels{{headers, "headers"}, {request, "request"}, {request.Key("remove"), "remove"}}
	return append(ops, l.placeholders.edits(levels, p.parkedIDs())...)
}
