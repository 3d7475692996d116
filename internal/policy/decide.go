package policy

// Decide and its arguments and result.

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Config holds the settings of a cluster's operator. The zero value is valid: no limits, not strict.
type Config struct {
	// Strict denies a mirror that would otherwise be parked until a later object mends it.
	Strict bool `json:"strict,omitempty"`
	// Limits apply to every namespace without an entry in Namespaces.
	Limits Limits `json:"limits,omitzero"`
	// Namespaces holds the limits of single namespaces; an entry replaces Limits as a whole.
	Namespaces map[string]Limits `json:"namespaces,omitempty"`
}

// Limits bound the mirrors of the routes in a namespace.
type Limits struct {
	// MaxPercent is the largest share of the traffic that one mirror may copy, 0 to 100; without it there is no limit.
	MaxPercent *float64 `json:"maxPercent,omitempty"`
	// MaxMirrors is the largest number of mirrors in one rule; 0 means no mirrors at all, and without it there is no limit.
	MaxMirrors *int `json:"maxMirrors,omitempty"`
}

// For returns the limits of a namespace.
func (c Config) For(namespace string) Limits {
	if l, ok := c.Namespaces[namespace]; ok {
		return l
	}
	return c.Limits
}

// Action names the effect of a decision on a route.
type Action string

// The actions, as metric label and audit annotation. A decision that parks one mirror and restores another counts as
// Park, and one that changes nothing but shares as Limit.
const (
	Park    Action = "park"
	Restore Action = "restore"
	Limit   Action = "limit"
	None    Action = "none"
	Skip    Action = "skip"
	Deny    Action = "deny"
)

// Verdict is the result for one mirror.
type Verdict struct {
	Mirror *route.Mirror
	// Park reports whether the mirror belongs parked, as opposed to active in the spec.
	Park bool
	// Share is the share of a mirror that is limited, 0 for any other.
	Share route.Share
	// Reason says why, and Detail explains it to a reader in one clause.
	Reason Reason
	Detail string

	// lowered is set where a limit or a policy decided.
	lowered bool
}

// Decision is the result for one route.
type Decision struct {
	Action   Action
	Reason   Reason
	Verdicts []Verdict
	// Plan carries the decision out; it has no operations when the stored route is as decided.
	Plan route.Plan
	// Findings are contradictions. A finding denies a write only if that write introduced it: see Introduced.
	Findings []Finding
	// Notices are for the author of the route; Warnings are the same for the author of a write, cut so that the
	// API server passes all of them on.
	Notices  []Notice
	Warnings []string
}

// Decide returns the decision about a route's mirrors. It depends on its arguments alone. The error is
// internal: it is never about the user's input.
func Decide(rt *route.Route, snap Snapshot, cfg Config) (Decision, error) {
	if rt.Deleting {
		return Decision{Action: Skip, Reason: Deleting}, nil
	}
	managed := snap.ManagedBy
	d := Decision{Verdicts: make([]Verdict, 0, rt.CountMirrors())}
	var warned []Notice
	for i := range rt.Rules {
		j := newJudge(rt, &rt.Rules[i], snap, cfg)
		first := len(d.Verdicts)
		for k := range rt.Rules[i].Mirrors {
			m := &rt.Rules[i].Mirrors[k]
			v := j.verdict(m)
			d.Findings = append(d.Findings, j.mirror(m)...)
			if cfg.Strict && v.Park && v.Reason.mendable() {
				d.Findings = append(d.Findings, finding(v.Reason, m, m.TargetPath, strconv.Quote(TargetName(m)), v.Detail+"; strict mode denies such a mirror"))
			}
			if managed != "" {
				v = Verdict{Mirror: m, Park: m.Parked, Reason: ManagedRoute}
			}
			d.Verdicts = append(d.Verdicts, v)
		}
		over, notices := j.lower(d.Verdicts[first:])
		d.Findings, warned = append(d.Findings, over...), append(warned, notices...)
	}
	for i := range rt.Rules {
		d.Findings = append(d.Findings, judgeRule(rt, &rt.Rules[i], cfg)...)
	}
	d.Findings = append(d.Findings, judgeAnnotations(rt)...)

	if managed == "" {
		if err := d.plan(rt); err != nil {
			return Decision{}, err
		}
		d.parkInstead()
		d.Findings = append(d.Findings, d.stuck()...)
	}
	d.conclude(managed)
	d.Notices = append(notices(rt, &d, snap, cfg), warned...)
	d.Warnings = Warnings(d.Notices)
	return d, nil
}

// verdict returns where one mirror belongs.
func (j *judge) verdict(m *route.Mirror) Verdict {
	park := func(reason Reason, detail string) Verdict {
		return Verdict{Mirror: m, Park: true, Reason: reason, Detail: detail}
	}
	v := j.snap.Variant(m.Target)
	if why := unsupported(j.rt, m); why != "" {
		return Verdict{Mirror: m, Park: m.Parked, Reason: UnsupportedTarget, Detail: why}
	}
	gate := Ready
	if j.rt.Gate == Present.String() {
		gate = Present
	}
	stays := m.Parked || j.wasParked[m.Target]
	switch {
	case external(j.rt, m, v):
		return Verdict{Mirror: m, Reason: ExternalTarget, Detail: v.Detail}
	case v.Ungranted:
		return park(NotGranted, fmt.Sprintf("no ReferenceGrant in namespace %q allows it", m.Target.Namespace))
	case j.rt.Gate == gateNever:
		return Verdict{Mirror: m, Reason: GateNever}
	case v.State == Unknown:
		return Verdict{Mirror: m, Park: stays, Reason: VariantUnknown, Detail: v.Detail}
	case v.State >= Present && portProblem(m, v) != "":
		return park(PortNotFound, portProblem(m, v))
	case v.State < gate, v.InGrace && gate == Ready && stays:
		return park(v.Reason, v.Detail)
	default:
		return Verdict{Mirror: m, Reason: VariantReady}
	}
}

func (d *Decision) plan(rt *route.Route) error {
	placements := make(map[*route.Mirror]route.Placement, len(d.Verdicts))
	for _, v := range d.Verdicts {
		placements[v.Mirror] = route.Placement{Parked: v.Park, Share: v.Share}
	}
	var err error
	d.Plan, err = rt.PlanShares(func(m *route.Mirror) route.Placement { return placements[m] })
	if err != nil {
		return fmt.Errorf("plan the mirrors of %s: %w", rt.Key, err)
	}
	return nil
}

// misfitReason returns the reason of the first mirror that cannot move.
func (d *Decision) misfitReason() Reason {
	for _, v := range d.Verdicts {
		if d.Plan.Misfits[v.Mirror.ID] != "" && v.Mirror.Fault() != "" {
			return MirrorInvalid
		} else if d.Plan.Misfits[v.Mirror.ID] != "" {
			break
		}
	}
	return WouldNotFit
}

// conclude sums the decision up in one action and one reason.
func (d *Decision) conclude(managed string) {
	moved := map[string]bool{}
	for _, id := range slices.Concat(d.Plan.Parked, d.Plan.Restored, d.Plan.Limited, d.Plan.Raised) {
		moved[id] = true
	}
	switch {
	case managed != "":
		d.Action, d.Reason = Skip, ManagedRoute
		return
	case len(d.Verdicts) == 0:
		d.Action, d.Reason = None, NoMirror
		return
	case len(d.Plan.Parked) > 0:
		d.Action = Park
	case len(d.Plan.Restored) > 0:
		d.Action = Restore
	case len(d.Plan.Limited)+len(d.Plan.Raised) > 0:
		d.Action = Limit
	case len(d.Plan.Misfits) > 0:
		d.Action, d.Reason = None, d.misfitReason()
		return
	default:
		d.Action = None
	}
	d.Reason = d.Verdicts[0].Reason
	for _, v := range d.Verdicts {
		if moved[v.Mirror.ID] && v.Park == (d.Action == Park) {
			d.Reason = v.Reason
			return
		}
	}
}
