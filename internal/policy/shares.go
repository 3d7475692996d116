package policy

// Limits and policies: how far they lower the shares of mirrors, and which writes they deny.

import (
	"fmt"
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// lower lowers the shares of a rule's mirrors, and returns the findings and notices about limits that do not lower but
// deny or warn. Where another tool manages the route, nothing moves.
func (j *judge) lower(verdicts []Verdict) (denied []Finding, warned []Notice) {
	scope := j.snap.Scope
	if len(verdicts) == 0 || len(scope.Limits)+len(scope.Policies) == 0 {
		return nil, nil
	}
	shares, breaches := limits.Of(j.rt, j.rule, scope)
	parked := map[route.Target]limits.Verdict{}
	for i := range verdicts {
		if v := &verdicts[i]; shares[i].Lowered && v.Reason != UnsupportedTarget && j.snap.ManagedBy == "" {
			v.lower(shares[i], j.snap.LacksShares)
			if v.Park && v.lowered {
				parked[v.Mirror.Target] = limits.Verdict{Reason: limits.Reason(v.Reason), Detail: v.Detail}
			}
		}
	}
	for i := range verdicts { // the mirrors of a rule to one target are parked together
		if by, ok := parked[verdicts[i].Mirror.Target]; ok && !verdicts[i].Park {
			verdicts[i].park(Reason(by.Reason), by.Detail)
		}
	}
	for _, b := range breaches {
		f := j.breach(b)
		if b.Action == limits.Deny {
			denied = append(denied, f)
		} else {
			warned = append(warned, Notice{Reason: f.Reason, Field: f.Field, Message: f.Message})
		}
	}
	return denied, warned
}

// lower gives a mirror that is not parked anyway the share that it may have. lacks names what serves the route without
// support for shares, "" where nothing is known to lack them.
func (v *Verdict) lower(to limits.Verdict, lacks string) {
	switch {
	case v.Park:
	case to.Share == 0:
		v.park(Reason(to.Reason), to.Detail)
	case lacks != "":
		v.park(ShareNotSupported, fmt.Sprintf("%s, and %s", to.Detail, lacks))
	default:
		v.Share, v.Reason, v.Detail, v.lowered = to.Share, Reason(to.Reason), to.Detail, true
	}
}

func (v *Verdict) park(reason Reason, detail string) {
	v.Park, v.Share, v.Reason, v.Detail, v.lowered = true, 0, reason, detail, true
}

// breach returns the finding about a bound that a rule breaks. Those that mirrors break together have no mirror in their
// identity: a write that lowers the sum, or removes one of too many mirrors, introduces none.
func (j *judge) breach(b limits.Breach) Finding {
	m, reason := &j.rule.Mirrors[b.Mirror], OverLimit
	field, value, of := m.Path, strconv.Quote(TargetName(m)), m
	switch b.Bound {
	case limits.Targets:
		field = m.TargetPath
	case limits.MaxPercent:
		field, value, of = j.rule.Path, strconv.FormatFloat(b.Percent, 'g', 6, 64), nil
	case limits.MaxMirrors:
		of = nil
	case limits.MaxLoad:
		reason = OverLoad
	}
	f := finding(reason, of, field, value, b.Message)
	f.identity.value = string(b.Bound) + " " + b.Limit
	f.percent = max(f.percent, b.Percent)
	return f
}

// stuck returns the findings about mirrors that a limit lowers and that have room neither limited nor parked: a write that
// stored them would escape the limit.
func (d *Decision) stuck() []Finding {
	var out []Finding
	for _, v := range d.Verdicts {
		if why := d.Plan.Misfits[v.Mirror.ID]; why != "" && v.lowered && (v.Reason == OverLimit || v.Reason == OverLoad) && v.Mirror.Fault() == "" {
			f := finding(v.Reason, v.Mirror, v.Mirror.Path, strconv.Quote(TargetName(v.Mirror)),
				fmt.Sprintf("%s, and the mirror cannot be limited, since %s", v.Detail, why))
			f.identity.value = "stuck"
			out = append(out, f)
		}
	}
	return out
}

// parkInstead notes which mirrors are parked because they have no room limited.
func (d *Decision) parkInstead() {
	for i := range d.Verdicts {
		v := &d.Verdicts[i]
		if why := d.Plan.Instead[v.Mirror.ID]; why != "" {
			v.park(v.Reason, fmt.Sprintf("%s, and the mirror cannot be limited, since %s", v.Detail, why))
		}
	}
}

// limited returns the text of the notice about a limited mirror.
func (v *Verdict) limited() string {
	return fmt.Sprintf("limited to %s %%: %s", v.Share, v.Detail)
}
