package status

// The decision about one route, step by step, by the same functions that admission calls.

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mirrorgate/mirrorgate/docs/reasons"
	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Explanation tells the decision about a route.
type Explanation struct {
	route    *route.Route
	snap     policy.Snapshot
	decision policy.Decision
	status   Route
	verdicts map[*route.Mirror]policy.Verdict
	w        io.Writer
	now      time.Time
}

// Explain writes how the decision about each mirror of a route came out: what was declared, each rule and limit that was
// looked at, what is stored, and what would change it. Config is that of the server's file, whose limits deny.
func Explain(ctx context.Context, w io.Writer, c Cluster, rt *route.Route, r Route, cfg policy.Config, now time.Time) error {
	snap, err := c.Resolve(ctx, rt)
	if err != nil {
		return err
	}
	d, err := policy.Decide(rt, snap, cfg)
	if err != nil {
		return err
	}
	e := &Explanation{route: rt, snap: snap, decision: d, status: r, verdicts: map[*route.Mirror]policy.Verdict{}, w: w, now: now}
	for _, v := range d.Verdicts {
		e.verdicts[v.Mirror] = v
	}
	e.line(0, "%s %s/%s", rt.Kind, rt.Namespace, rt.Name)
	if r.Manager != "" {
		e.line(1, "its rules were written by %q, and its stored form has been as it is for %s", r.Manager, ago(r.Since, now))
	}
	e.whole()
	for i := range rt.Rules {
		if len(rt.Rules[i].Mirrors) > 0 {
			e.rule(&rt.Rules[i])
		}
	}
	return nil
}

func (e *Explanation) line(indent int, format string, args ...any) {
	fmt.Fprintln(e.w, strings.Repeat("  ", indent)+printing.Plain(fmt.Sprintf(format, args...)))
}

// whole tells what concerns the route as a whole.
func (e *Explanation) whole() {
	if e.status.Undecided {
		e.line(1, "no mirrorgate answers the API server, so nothing moves; `mirrorgate check` says more")
	}
	if e.status.OptedOut {
		e.line(1, "admission is disabled in its namespace, so nothing moves")
	}
	if e.snap.ManagedBy != "" {
		e.line(1, "%s manages the route, so its mirrors are judged and stay where they are", e.snap.ManagedBy)
	}
	if e.snap.LacksMirrors != "" {
		e.line(1, "%s has no support for mirrors", e.snap.LacksMirrors)
	}
	if e.snap.LacksShares != "" {
		e.line(1, "%s has no support for percentages", e.snap.LacksShares)
	}
}

func (e *Explanation) rule(rule *route.Rule) {
	name := ""
	if rule.Name != "" {
		name = fmt.Sprintf(" %q", rule.Name)
	}
	e.line(0, "%s%s", rule.Path, name)
	for i := range rule.Mirrors {
		m := &rule.Mirrors[i]
		e.line(1, "mirror to %s (%s)", policy.TargetName(m), m.Path)
		e.line(2, "declared  %s of the rule's requests", percent(m.Percentage.Percent()))
		e.variant(m)
		e.findings(m)
		e.policy(rule, i)
		e.limits(rule, i)
		e.outcome(m)
	}
}

// variant tells the state of the variant, and what is wrong with it.
func (e *Explanation) variant(m *route.Mirror) {
	v := e.snap.Variant(m.Target)
	text := v.State.String()
	if v.External {
		text = "not judged"
	}
	if v.InGrace {
		text += ", within its grace"
	}
	if v.Detail != "" {
		text += ": " + v.Detail
	}
	if v.Ungranted {
		text += fmt.Sprintf("; no ReferenceGrant in namespace %q allows it", m.Target.Namespace)
	}
	e.line(2, "variant   %s", text)
	if e.route.Gate != "" {
		e.line(2, "gate      mirrorgate.dev/gate: %s", e.route.Gate)
	}
}

// findings tells which rules the mirror breaks: a write that brings one is denied.
func (e *Explanation) findings(m *route.Mirror) {
	broken := false
	for _, f := range e.decision.Findings {
		if strings.HasPrefix(f.Field, m.Path) || strings.HasPrefix(m.Path, f.Field) || f.Field == m.TargetPath || f.Field == m.PortPath {
			broken = true
			e.line(2, "rule      %s: %s (%s); a write that makes this so is denied", f.Reason, f.Message, f.Field)
		}
	}
	if !broken {
		e.line(2, "rules     none is broken")
	}
}

// policy tells what the owner's policy allows.
func (e *Explanation) policy(rule *route.Rule, i int) {
	p := limits.PolicyOf(rule, e.snap.Scope.Policies)
	if p == nil {
		e.line(2, "policy    no MirrorPolicy is about it")
		return
	}
	verdicts, _ := limits.Of(e.route, rule, limits.Scope{Policies: e.snap.Scope.Policies})
	text := fmt.Sprintf("MirrorPolicy %q lets it copy as declared", p.Name)
	if v := verdicts[i]; v.Lowered {
		text = v.Detail
	} else if p.Steps > 0 {
		text = fmt.Sprintf("step %d of %d of MirrorPolicy %q allows as much as is declared", p.Step, p.Steps, p.Name)
	}
	state := policyState(p, rule.Mirrors[i].Percentage.Percent())
	if p.Since != nil {
		text += fmt.Sprintf(", since %s (%s ago)", p.Since.UTC().Format(time.RFC3339), duration.HumanDuration(max(e.now.Sub(*p.Since), 0)))
	}
	if next := state.next(e.now); next != none {
		text += "; next " + next
	}
	if state.ExpiresAt != nil {
		text += fmt.Sprintf("; ends at %s (%s)", state.ExpiresAt.UTC().Format(time.RFC3339), state.expires(e.now))
	}
	e.line(2, "policy    %s", text)
}

// limits tells what each limit that selects the namespace makes of the mirror.
func (e *Explanation) limits(rule *route.Rule, i int) {
	if len(e.snap.Scope.Limits) == 0 {
		e.line(2, "limits    no MirrorLimit selects the namespace")
		return
	}
	for _, l := range e.snap.Scope.Limits {
		verdicts, breaches := limits.Of(e.route, rule, limits.Scope{Limits: []limits.Limit{l}, Policies: e.snap.Scope.Policies, Pods: e.snap.Scope.Pods})
		text := "holds"
		for _, b := range breaches {
			if b.Mirror == i || b.Bound == limits.MaxPercent || b.Bound == limits.MaxLoad {
				text = "is broken: " + b.Message
				if b.Action == limits.Deny {
					text += "; a write that makes it worse is denied"
				}
			}
		}
		if v := verdicts[i]; v.Lowered && (v.Reason == limits.OverLimit || v.Reason == limits.OverLoad) {
			text = fmt.Sprintf("lowers it to %s %%: %s", v.Share, v.Detail)
		}
		e.line(2, "limit     MirrorLimit %q (%s) %s", l.Name, l.Action, text)
	}
}

// outcome tells the decision, what is stored, and what would change it.
func (e *Explanation) outcome(m *route.Mirror) {
	v := e.verdicts[m]
	decided := "active, as declared"
	switch {
	case v.Park:
		decided = "parked"
	case v.Share > 0:
		decided = fmt.Sprintf("limited to %s %%", v.Share)
	}
	if v.Detail != "" {
		decided += ": " + v.Detail
	}
	e.line(2, "decided   %s (%s)", decided, v.Reason)
	stored := "active, as declared"
	switch {
	case m.Parked:
		stored = "parked, behind a placeholder in the rule"
	case m.Limit() > 0:
		stored = fmt.Sprintf("limited to %s, with a mark in the rule", percent(m.Copies()))
	}
	if why := e.decision.Plan.Misfits[m.ID]; why != "" {
		stored += "; it cannot move: " + why
	} else if len(e.decision.Plan.Operations) > 0 && (m.Parked != v.Park || m.Limit() != v.Share) {
		stored += "; the next touch moves it"
	}
	e.line(2, "stored    %s", stored)
	e.line(2, "to change %s", cmp.Or(reasons.Remedy(string(v.Reason)), "edit the route"))
}
