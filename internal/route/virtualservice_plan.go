package route

import (
	"github.com/mirrorgate/mirrorgate/patch"
)

// fit keeps a parked mirror parked while Istio would refuse it in the spec: a
// rule has one mirror or a list of mirrors, not both.
func (l *istioLayout) fit(p *rulePlan) {
	if l.marks.broken {
		p.stayAll(p.moves, misfitBroken)
		return
	}
	if p.rule.BothForms {
		p.stayAll(p.moves, misfitForms) // refused as it is; parking one form would hide that
		return
	}
	single := func(i int) bool { return p.rule.Mirrors[i].place.single }
	elements := p.count(func(i int) bool { return !single(i) && !p.parked[i] && !p.rule.Mirrors[i].Parked })
	taken := len(l.stanza) > 0 // by what stands in the spec, a lone percentage included
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
			p.stay(i, misfitOccupied)
		case elements > 0:
			p.stay(i, misfitForms)
		default:
			taken = true
		}
	}
	if p.count(func(i int) bool { return single(i) && !p.parked[i] }) > 0 {
		p.stayAll(func(i int) bool { return !single(i) && p.restores(i) }, misfitForms)
	}
}

func (l *istioLayout) entry(r *Rule, i int) entry {
	m := &r.Mirrors[i]
	if m.place.single {
		return entry{Stanza: m.stanza, Keep: l.marks.keep}
	}
	return entry{Element: m.text, At: m.place.at, Keep: l.marks.keep}
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
	var want []any
	for _, s := range l.list.order {
		want = p.place(want, s)
	}
	ops = append(ops, l.list.edits(base.Key("mirrors"), want, false)...)
	headers := base.Key("headers")
	request := headers.Key("request")
	return append(ops, l.marks.edits(way{{headers, "headers"}, {request, "request"}, {request.Key("remove"), "remove"}}, p.ids())...)
}
