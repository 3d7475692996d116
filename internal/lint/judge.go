package lint

// The judgement of one route: what admission would do, what its schema says beside it, and which of two findings about
// one field explains the other.

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// result is the judgement about one route.
type result struct {
	findings []Finding
	// concerns is set for a route that has to do with mirrors, denied for one whose write would be denied.
	concerns, denied bool
	// outcomes are those of its mirrors: Error, Parked, or "" for an active one.
	outcomes []Level
}

// add counts a result.
func (r *Report) add(route *result) {
	r.Findings = append(r.Findings, route.findings...)
	if route.concerns {
		r.Routes++
	}
	if route.denied {
		r.RoutesDenied++
	}
	for _, outcome := range route.outcomes {
		r.Mirrors++
		switch outcome {
		case Error:
			r.Denied++
		case Parked:
			r.Parked++
		default:
			r.Active++
		}
	}
}

// judge returns the findings about one route that admission would have.
func (c *checker) judge(o *object) (result, error) {
	schema := validateSchema(o)
	if !route.MayMirror(o.raw) {
		return result{}, nil
	}
	rt, err := route.Decode(o.raw, route.Options{ClusterDomain: c.opts.ClusterDomain, Namespace: c.namespace()})
	if err != nil {
		return result{}, err // the model has read it
	}
	snap := c.model.Snapshot(rt)
	if c.opts.AssumeApplied {
		snap.AssumeApplied()
	}
	if c.opts.AsLimit != "" {
		snap.Scope.Limits = slices.Clone(snap.Scope.Limits)
		for i := range snap.Scope.Limits {
			snap.Scope.Limits[i].Action = c.opts.AsLimit
		}
	}
	d, err := policy.Decide(rt, snap, c.opts.Policy)
	if err != nil {
		return result{}, err
	}
	o.noteParked(rt)
	findings := collect(d, schema)
	if len(findings) > 0 { // their positions are in the tree
		o.node = o.tree()
		defer func() { o.node = nil }()
	}
	r := result{concerns: rt.Concerns() || len(schema) > 0}
	for _, f := range findings {
		r.denied = r.denied || f.denies()
	}
	near := byRule(findings, func(f Finding) string { return f.Field })
	denied := map[string]bool{} // the paths of mirrors
	for _, v := range d.Verdicts {
		worst := outcome(v.Mirror, near)
		r.outcomes = append(r.outcomes, worst)
		denied[v.Mirror.Path] = denied[v.Mirror.Path] || worst == Error
	}
	for _, f := range findings {
		if f.Level != Parked || !denied[f.Field] {
			f.Remedy = cmp.Or(f.Remedy, c.remedy(rt, f))
			f.edits = c.fix(o, rt, f)
			f.Fixable = len(f.edits) > 0
			r.findings = append(r.findings, c.complete(o, f))
		}
	}
	return r, nil
}

// outcome returns the most severe level of the findings about a mirror, "" when it would be active.
func outcome(m *route.Mirror, findings nearby[Finding]) (worst Level) {
	concerns := func(field string) bool {
		if within(field, m.Path) || within(m.Path, field) {
			return true
		}
		return slices.ContainsFunc(m.Percentage.Fields, func(f route.PercentageField) bool {
			return within(f.Path, field) || within(field, f.Path)
		})
	}
	for f := range findings.of(m.Path) {
		switch {
		case !concerns(f.Field):
		case f.denies():
			return Error
		case f.Level == Parked:
			worst = Parked
		}
	}
	return worst
}

// denies reports whether a write is denied over the finding. The API server drops a field that it does not
// know, unless the client asks it to be strict.
func (f Finding) denies() bool { return f.Level == Error && f.Reason != UnknownField }

// collect returns the findings of a decision and those of the schema. Where both are about one fault, one is
// left out.
func collect(d policy.Decision, schema []Finding) (found []Finding) {
	inSchema := byRule(schema, func(f Finding) string { return f.Field })
	inPolicy := byRule(d.Findings, func(f policy.Finding) string { return f.Field })
	parked := map[string]bool{}
	for _, n := range d.Notices {
		parked[n.Field] = parked[n.Field] || n.Parked
	}
	for _, f := range d.Findings {
		if !inSchema.any(f.Field, func(s Finding) bool { return s.explains(f) }) {
			found = append(found, Finding{Level: Error, Field: f.Field, Value: f.Value, Reason: f.Reason, Message: f.Message})
		}
	}
	for _, s := range schema {
		if !inPolicy.any(s.Field, func(f policy.Finding) bool { return f.Field == s.Field && !s.explains(f) }) {
			found = append(found, s)
		}
	}
	for _, n := range d.Notices {
		f := Finding{Level: Warning, Field: n.Field, Reason: n.Reason, Message: n.Message}
		switch {
		case n.Reason == policy.ShortHost && !n.Parked && parked[n.Field]: // the state of a host explains its spelling
			continue
		case n.Reason == policy.MirrorInvalid && explained(n, inPolicy, inSchema):
			continue
		case n.Reason == policy.MirrorInvalid:
			f.Level = Error
		case n.Parked:
			f.Level = Parked
		}
		found = append(found, f)
	}
	return found
}

// explained reports whether another finding is about a part of a mirror that the API refuses, or about a
// percentage beside it.
func explained(n policy.Notice, found nearby[policy.Finding], schema nearby[Finding]) bool {
	return schema.any(n.Field, func(f Finding) bool { return f.denies() && strings.HasPrefix(f.Field, n.Field) }) ||
		found.any(n.Field, func(f policy.Finding) bool {
			return strings.HasPrefix(f.Field, n.Field) && (f.Reason == policy.PercentOutOfRange || f.Reason == policy.UnsupportedTarget)
		})
}

// nearby holds findings by the rule that their fields are in, "" for none. Only findings of one rule can be about
// one fault, and a route may have thousands.
type nearby[F any] map[string][]F

func byRule[F any](findings []F, field func(F) string) nearby[F] {
	n := nearby[F]{}
	for _, f := range findings {
		rule := ruleOf(field(f))
		n[rule] = append(n[rule], f)
	}
	return n
}

// of yields the findings that may be about a field: of its rule and of none, or all if it is in none.
func (n nearby[F]) of(field string) iter.Seq[F] {
	lists := [][]F{n[""], n[ruleOf(field)]}
	if ruleOf(field) == "" {
		lists = slices.Collect(maps.Values(n))
	}
	return func(yield func(F) bool) {
		for _, list := range lists {
			for _, f := range list {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// any reports whether one of the findings that may be about a field satisfies a condition.
func (n nearby[F]) any(field string, is func(F) bool) bool {
	for f := range n.of(field) {
		if is(f) {
			return true
		}
	}
	return false
}

// ruleOf returns the path of the rule that a field is in, "" for none.
func ruleOf(field string) string {
	for _, list := range []string{"spec.http[", "spec.rules["} {
		if rest, in := strings.CutPrefix(field, list); in {
			index, _, _ := strings.Cut(rest, "]")
			return list + index
		}
	}
	return ""
}

// explains reports whether policy's finding is only a consequence of this one: of a value of the wrong form,
// which the schema describes better.
func (f Finding) explains(p policy.Finding) bool {
	return f.Level == Error && (within(f.Field, p.Field) || within(p.Field, f.Field)) &&
		(f.Field != p.Field || f.Remedy != "") &&
		(p.Reason == policy.PercentOutOfRange || p.Reason == policy.UnsupportedTarget)
}

// within reports whether a field path is equal to another one or leads to a part of it.
func within(field, of string) bool {
	rest, ok := strings.CutPrefix(field, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
