package policies

// What the clock makes of one target: plain values in and out.

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
)

// observed is the state of a target in the cluster.
type observed struct {
	// found is set where the route exists and has a mirror.
	found bool
	// active is set where one of its mirrors copies requests, or would if the step of the ramp were not 0 %.
	active bool
	// older is the name of the policy that holds against this one, "" for none.
	older string
}

// advance returns the status of a target at a time, from its earlier status alone, and the time of its next change, zero
// for none that the clock brings. It goes on by one step at most, and never back.
func advance(policy *v1alpha1.MirrorPolicy, ref v1alpha1.TargetRef, is observed, now time.Time) (v1alpha1.TargetStatus, time.Time) {
	status := v1alpha1.TargetStatus{TargetRef: ref}
	if i := slices.IndexFunc(policy.Status.Targets, func(s v1alpha1.TargetStatus) bool { return s.TargetRef == ref }); i >= 0 {
		policy.Status.Targets[i].DeepCopyInto(&status)
	}
	if is.active && is.older == "" && status.ActiveSince == nil {
		status.ActiveSince = stamp(now)
	}
	next := climb(&status, policy.Spec.Ramp, is, now)
	if end := expire(&status, &policy.Spec, now); !end.IsZero() && (next.IsZero() || end.Before(next)) {
		next = end
	}
	status.Percent = allowed(&status, policy.Spec.Ramp)
	setConditions(&status, is, policy.Generation, now)
	return status, next
}

// climb takes the next step of a ramp if its time has come, and returns the end of the current one. A step ends only while
// a mirror is active: nobody learns anything from a variant that is away.
func climb(status *v1alpha1.TargetStatus, ramp *v1alpha1.Ramp, is observed, now time.Time) (end time.Time) {
	if ramp == nil || len(ramp.Steps) == 0 || status.ActiveSince == nil {
		status.Step, status.Since = nil, nil
		return time.Time{}
	}
	last := int32(len(ramp.Steps) - 1) //nolint:gosec // the schema allows 32 steps
	if status.Step == nil || status.Since == nil {
		status.Step, status.Since = new(int32), stamp(now)
	}
	if *status.Step > last { // steps were taken out
		status.Step, status.Since = new(last), stamp(now)
	}
	ends := func() time.Time {
		if *status.Step == last {
			return time.Time{}
		}
		return status.Since.Add(ramp.Steps[*status.Step].For.Duration)
	}
	if end = ends(); end.IsZero() || now.Before(end) {
		return end
	}
	if !is.active || is.older != "" {
		return time.Time{} // an event of the route or of the older policy tells
	}
	status.Step, status.Since = new(*status.Step+1), stamp(now)
	return ends()
}

// expire notes that the policy's end has come, and returns it while it is ahead. An end that came stays, whatever the clock
// says later, until somebody gives the policy another one.
func expire(status *v1alpha1.TargetStatus, spec *v1alpha1.MirrorPolicySpec, now time.Time) time.Time {
	var end *metav1.Time
	switch {
	case spec.Expires != nil:
		end = spec.Expires
	case spec.After != nil && status.ActiveSince != nil:
		end = &metav1.Time{Time: status.ActiveSince.Add(spec.After.Duration)}
	}
	changed := !end.Equal(status.ExpiresAt)
	status.ExpiresAt = end
	switch {
	case end == nil:
		status.Expired = nil
		return time.Time{}
	case status.Expired != nil && (!changed || !now.Before(end.Time)):
		return time.Time{}
	case now.Before(end.Time):
		status.Expired = nil
		return end.Time
	default:
		status.Expired = stamp(now)
		return time.Time{}
	}
}

// allowed returns the largest percentage that the policy allows, for kubectl get.
func allowed(status *v1alpha1.TargetStatus, ramp *v1alpha1.Ramp) string {
	switch {
	case status.Expired != nil:
		return "0%"
	case ramp == nil || len(ramp.Steps) == 0:
		return ""
	}
	step := int32(0)
	if status.Step != nil {
		step = *status.Step
	}
	percent := ramp.Steps[step].Percent
	if percent == nil {
		return ""
	}
	return strconv.FormatFloat(*percent, 'f', -1, 64) + "%"
}

func setConditions(status *v1alpha1.TargetStatus, is observed, generation int64, now time.Time) {
	set := func(kind string, is bool, reason, message string) {
		c := metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message,
			ObservedGeneration: generation, LastTransitionTime: *stamp(now),
		}
		if is {
			c.Status = metav1.ConditionTrue
		}
		apimeta.SetStatusCondition(&status.Conditions, c)
	}
	older := fmt.Sprintf("MirrorPolicy %q is older and has this target too", is.older)
	switch {
	case is.older != "":
		set(v1alpha1.ConditionAccepted, false, "Conflicted", older)
		set(v1alpha1.ConditionConflicted, true, "Conflicted", older)
		return
	case !is.found:
		set(v1alpha1.ConditionAccepted, false, "TargetNotFound", "there is no such route with a mirror")
	default:
		set(v1alpha1.ConditionAccepted, true, "Accepted", "the policy applies to the target")
	}
	set(v1alpha1.ConditionConflicted, false, "NoConflict", "no older policy has this target")
}

// stamp returns a time as the API stores it, in whole seconds and never earlier, so that no step ends early.
func stamp(now time.Time) *metav1.Time {
	whole := now.Truncate(time.Second)
	if whole.Before(now) {
		whole = whole.Add(time.Second)
	}
	return &metav1.Time{Time: whole.UTC()}
}
