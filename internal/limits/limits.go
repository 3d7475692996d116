// Package limits works out how much a mirror may copy: what the cluster's operator limits (MirrorLimit) and what the
// application's owner asks for (MirrorPolicy), never more than the route declares.
//
// It is pure: which objects there are, and which step of a ramp is the current one, comes in as plain values.
package limits

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Action is the effect of a limit on a mirror that breaks it.
type Action string

// The actions; they are those of api/v1alpha1.
const (
	Lower Action = "Limit"
	Deny  Action = "Deny"
	Warn  Action = "Warn"
)

// SameNamespace stands in Limit.Namespaces for the namespace of the route.
const SameNamespace = "same"

// Limit is a MirrorLimit that selects the namespace of a route.
type Limit struct {
	Name string
	// MaxPercent, MaxMirrors, Namespaces and Methods bound nothing where they are nil.
	MaxPercent *float64
	MaxMirrors *int
	Namespaces []string
	Methods    []string
	// MaxLoad is in percent, nil for no bound.
	MaxLoad *float64
	// RequireExpiry demands an end of each mirror, MaxDuration, if it is not 0, one that is no later than this.
	RequireExpiry bool
	MaxDuration   time.Duration
	Action        Action
}

// Policy is the state of a MirrorPolicy for one of its targets.
type Policy struct {
	Name string
	// Section is the name of the rule that it is about, "" for all rules of the route.
	Section string
	// Percent is the percentage of the current step, nil where there is no ramp.
	Percent *float64
	// Step and Steps are the number of the current step, from 1, and the number of all.
	Step, Steps int
	// Since is when the step began, nil before it did; For is its duration, 0 for ever, and Next the percentage of the one
	// that follows, nil for none.
	Since *time.Time
	For   time.Duration
	Next  *float64
	// Expires and After are the end that the owner gives the mirrors, nil and 0 for none. ActiveSince is the time from
	// which After counts, nil before a mirror was active.
	Expires     *time.Time
	After       time.Duration
	ActiveSince *time.Time
	// ExpiresAt is the end that the leader counts, the owner's or a limit's, nil while none is known.
	ExpiresAt *time.Time
	// Expired is set once the mirrors are parked for good.
	Expired bool
	// Stopped says why the mirrors are parked until somebody resumes them, "" if they are not.
	Stopped string
}

// ends reports whether the owner ends the mirrors at all.
func (p *Policy) ends() bool { return p.Expires != nil || p.After > 0 }

// exceeds reports whether the mirrors copy for longer than a time after they became active. With a time of day as their
// end that is not known before.
func (p *Policy) exceeds(most time.Duration) bool {
	if !p.ends() || p.After > most {
		return true
	}
	return p.Expires != nil && p.ActiveSince != nil && p.Expires.Sub(*p.ActiveSince) > most
}

// Shortest returns the limit that ends mirrors first, nil for none: one with action Limit.
func Shortest(all []Limit) *Limit {
	var shortest *Limit
	for i := range all {
		if l := &all[i]; l.Action == Lower && l.MaxDuration > 0 && (shortest == nil || l.MaxDuration < shortest.MaxDuration) {
			shortest = l
		}
	}
	return shortest
}

// Scope holds everything beside a route that its shares depend on.
type Scope struct {
	Limits []Limit
	// Pods are the ready pods of targets and backends, without ports, as far as they are known. They are counted where a
	// limit has a MaxLoad.
	Pods map[route.Target]int `json:"-"`
	// Policies are those for the route, the one that holds against the others first.
	Policies []Policy
}

// Reason names why a mirror may copy less than it declares.
type Reason string

// The reasons.
const (
	Expired   Reason = "Expired"
	Stopped   Reason = "Stopped"
	RampStep  Reason = "RampStep"
	OverLimit Reason = "OverLimit"
	OverLoad  Reason = "OverLoad"
)

// Verdict is the result for one mirror.
type Verdict struct {
	// Share is the share to store. Lowered is set where it is smaller than the declared one, and a share of 0 means that
	// the mirror belongs parked.
	Share   route.Share
	Lowered bool
	// Reason and Detail say why, for a lowered one.
	Reason Reason
	Detail string
}

// Bound is one of the bounds of a limit.
type Bound string

// The bounds, by the names of their fields.
const (
	MaxPercent Bound = "maxPercent"
	MaxMirrors Bound = "maxMirrors"
	Targets    Bound = "targets"
	Methods    Bound = "methods"

	MaxLoad       Bound = "maxLoad"
	RequireExpiry Bound = "requireExpiry"
	MaxDuration   Bound = "maxDuration"
)

// Breach is a bound of a limit with action Deny or Warn that a rule breaks.
type Breach struct {
	Limit  string
	Action Action
	Bound  Bound
	// Mirror is the index of the mirror in the rule; for MaxPercent the last one, since all mirrors break it together.
	Mirror int
	// Percent is the sum of the rule's mirrors, for MaxPercent, and the load, for MaxLoad.
	Percent float64
	Message string
}

// Of returns the verdicts about the mirrors of a rule, in their order, and the bounds that it breaks.
func Of(rt *route.Route, rule *route.Rule, scope Scope) ([]Verdict, []Breach) {
	r := ruleLimits{rt: rt, rule: rule, verdicts: make([]Verdict, len(rule.Mirrors))}
	for i := range r.verdicts {
		r.verdicts[i].Share = route.All
	}
	if len(rule.Mirrors) == 0 {
		return r.verdicts, nil
	}
	ordered := scope.Limits
	if byName := func(a, b Limit) int { return cmp.Compare(a.Name, b.Name) }; !slices.IsSortedFunc(ordered, byName) {
		ordered = slices.SortedFunc(slices.Values(ordered), byName)
	}
	r.policy, r.shortest, r.pods = PolicyOf(rule, scope.Policies), Shortest(ordered), scope.Pods
	if r.policy != nil {
		r.follow(r.policy)
	}
	for i := range ordered {
		r.judge(&ordered[i])
	}
	r.scale(ordered)
	for i := range ordered {
		if ordered[i].MaxLoad != nil {
			r.relieve(&ordered[i])
		}
	}
	for i := range r.verdicts {
		r.conclude(i)
	}
	return r.verdicts, r.breaches
}

// PolicyOf returns the policy for a rule, nil for none: one that names the rule holds against one for the whole route.
func PolicyOf(rule *route.Rule, policies []Policy) *Policy {
	var whole *Policy
	for i := range policies {
		switch p := &policies[i]; {
		case p.Section != "" && p.Section == rule.Name:
			return p
		case p.Section == "" && whole == nil:
			whole = p
		}
	}
	return whole
}

// ruleLimits collects the verdicts about one rule.
type ruleLimits struct {
	rt       *route.Route
	rule     *route.Rule
	verdicts []Verdict
	breaches []Breach
	// policy is that for the rule, shortest the limit that ends mirrors first; both may be nil.
	policy   *Policy
	shortest *Limit
	pods     map[route.Target]int
}

// lower lowers the share of a mirror.
func (r *ruleLimits) lower(i int, share route.Share, reason Reason, detail string) {
	if v := &r.verdicts[i]; share < v.Share {
		*v = Verdict{Share: share, Reason: reason, Detail: detail}
	}
}

// follow applies the owner's policy.
func (r *ruleLimits) follow(p *Policy) {
	share, reason, detail := route.All, RampStep, ""
	switch {
	case p.Expired:
		share, reason, detail = 0, Expired, fmt.Sprintf("MirrorPolicy %q has expired", p.Name)
		if l := r.shortest; l != nil && p.exceeds(l.MaxDuration) {
			detail += fmt.Sprintf(": MirrorLimit %q allows mirrors to copy for %s", l.Name, Duration(l.MaxDuration))
		}
	case p.Stopped != "":
		share, reason, detail = 0, Stopped, fmt.Sprintf("MirrorPolicy %q has stopped the mirror: %s", p.Name, p.Stopped)
	case p.Percent != nil && route.ShareOf(*p.Percent) < route.All: // the last step of most ramps lowers nothing
		share = route.ShareOf(*p.Percent)
		detail = fmt.Sprintf("step %d of %d of MirrorPolicy %q copies %s %%", p.Step, p.Steps, p.Name, share)
	}
	for i := range r.verdicts {
		r.lower(i, share, reason, detail)
	}
}

// judge applies the bounds of a limit that concern single mirrors.
func (r *ruleLimits) judge(l *Limit) {
	// These texts are made once: a rule may have a thousand mirrors.
	wrongMethod := ""
	if l.Methods != nil && r.rt.Kind != route.GRPCRoute {
		if method := r.wrongMethod(l.Methods); method != "" {
			wrongMethod = fmt.Sprintf("MirrorLimit %q allows to copy %s, and the rule matches %s", l.Name, strings.Join(l.Methods, ", "), method)
		}
	}
	wrongTarget := ""
	lasting, untimely := r.lasting(l)
	on := 0
	for i := range r.rule.Mirrors {
		m := &r.rule.Mirrors[i]
		if m.Percentage.Percent() == 0 {
			continue // it copies nothing
		}
		on++
		if l.Namespaces != nil && !r.mayTarget(m.Target, l.Namespaces) {
			if wrongTarget == "" {
				wrongTarget = fmt.Sprintf("MirrorLimit %q allows targets in these namespaces alone: %s", l.Name, strings.Join(l.Namespaces, ", "))
			}
			r.forbid(l, Targets, i, wrongTarget)
		}
		if wrongMethod != "" {
			r.forbid(l, Methods, i, wrongMethod)
		}
		if untimely != "" {
			r.forbid(l, lasting, i, untimely)
		}
		if l.MaxMirrors != nil && on > *l.MaxMirrors {
			r.forbid(l, MaxMirrors, i, fmt.Sprintf("MirrorLimit %q allows %d mirrors in a rule, and this is number %d", l.Name, *l.MaxMirrors, on))
		}
	}
	if l.Action == Lower || l.MaxPercent == nil {
		return
	}
	if sum := r.sum(func(i int) float64 { return r.rule.Mirrors[i].Percentage.Percent() }); sum > *l.MaxPercent {
		r.breaches = append(r.breaches, Breach{
			Limit: l.Name, Action: l.Action, Bound: MaxPercent, Mirror: len(r.rule.Mirrors) - 1, Percent: sum,
			Message: fmt.Sprintf("MirrorLimit %q allows %v %% of a rule's requests, and its mirrors together copy %.6g %%", l.Name, *l.MaxPercent, sum),
		})
	}
}

// lasting returns the bound of a limit that the rule's mirrors break by the time for which they copy, with a message, ""
// for none. With action Limit the leader ends them in time, as far as a policy counts it.
func (r *ruleLimits) lasting(l *Limit) (bound Bound, message string) {
	p := r.policy
	switch {
	case l.MaxDuration > 0 && p == nil:
		return MaxDuration, fmt.Sprintf("MirrorLimit %q allows mirrors to copy for %s, and no MirrorPolicy counts the time of this one", l.Name, Duration(l.MaxDuration))
	case l.MaxDuration > 0 && l.Action != Lower && !p.Expired && p.exceeds(l.MaxDuration):
		return MaxDuration, fmt.Sprintf("MirrorLimit %q allows mirrors to copy for %s, and MirrorPolicy %q ends them later, or never", l.Name, Duration(l.MaxDuration), p.Name)
	case l.RequireExpiry && (p == nil || !p.ends() && r.shortest == nil):
		return RequireExpiry, fmt.Sprintf("MirrorLimit %q demands an end of every mirror, and no MirrorPolicy gives this one an end", l.Name)
	}
	return "", ""
}

// Duration formats a duration as its author writes it: "168h", not "168h0m0s".
func Duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// forbid parks a mirror, or notes the breach, as the limit's action says.
func (r *ruleLimits) forbid(l *Limit, bound Bound, i int, message string) {
	if l.Action == Lower {
		r.lower(i, 0, OverLimit, message)
		return
	}
	r.breaches = append(r.breaches, Breach{Limit: l.Name, Action: l.Action, Bound: bound, Mirror: i, Message: message})
}

func (r *ruleLimits) mayTarget(t route.Target, namespaces []string) bool {
	return t.Namespace != "" && (slices.Contains(namespaces, t.Namespace) ||
		t.Namespace == r.rt.Namespace && slices.Contains(namespaces, SameNamespace))
}

// wrongMethod returns a method that the rule matches and that may not be copied, "" for none.
func (r *ruleLimits) wrongMethod(allowed []string) string {
	for _, method := range r.rule.Methods {
		if !slices.Contains(allowed, method) {
			return method
		}
	}
	if r.rule.AnyMethod {
		return "every method"
	}
	return ""
}

// share returns the percentage of a mirror as far as it is worked out.
func (r *ruleLimits) share(i int) float64 {
	return min(r.rule.Mirrors[i].Percentage.Percent(), r.verdicts[i].Share.Percent())
}

// sum returns the percentage of the rule's requests that its mirrors copy together. A request goes to one backendRef, so
// of the mirrors below those the largest sum counts.
func (r *ruleLimits) sum(percent func(int) float64) float64 {
	sum, most, below := 0.0, 0.0, map[int]float64(nil) // most rules have no mirrors below a backendRef
	for i := range r.rule.Mirrors {
		if b := r.rule.Mirrors[i].Backend(); b < 0 {
			sum += percent(i)
		} else {
			if below == nil {
				below = map[int]float64{}
			}
			below[b] += percent(i)
			most = max(most, below[b])
		}
	}
	return sum + most
}

// rounding makes up for the binary form of numbers: 3 % times 0.7/3 are 0.7 %. It is far below a millionth, also for
// all mirrors of a rule together.
const rounding = 1e-9

// scale lowers all mirrors of the rule alike until their sum is within the strictest limit.
func (r *ruleLimits) scale(ordered []Limit) {
	var strictest *Limit
	for i := range ordered {
		l := &ordered[i]
		if l.Action == Lower && l.MaxPercent != nil && (strictest == nil || *l.MaxPercent < *strictest.MaxPercent) {
			strictest = l
		}
	}
	if strictest == nil {
		return
	}
	sum := r.sum(r.share)
	if sum <= *strictest.MaxPercent {
		return
	}
	detail := fmt.Sprintf("MirrorLimit %q allows %v %% of a rule's requests", strictest.Name, *strictest.MaxPercent)
	if len(r.verdicts) > 1 {
		detail += fmt.Sprintf(", and its %d mirrors declare more together", len(r.verdicts))
	}
	for i := range r.verdicts {
		r.lower(i, route.ShareOf(r.share(i)**strictest.MaxPercent/sum+rounding), OverLimit, detail)
	}
}

// conclude compares a verdict with what is declared.
func (r *ruleLimits) conclude(i int) {
	v := &r.verdicts[i]
	declared := r.rule.Mirrors[i].Percentage.Percent()
	if v.Share.Percent() < declared {
		v.Lowered = true
		return
	}
	*v = Verdict{Share: route.ShareOf(declared)}
}
