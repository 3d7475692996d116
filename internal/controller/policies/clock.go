package policies

// What the clock makes of one target: plain values in and out.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	// against is the evidence that stops the mirrors, nil for none.
	against *evidence
	// unprogrammed are the parts of the policy that have no effect, with why; known is unset while that is not known yet.
	unprogrammed []string
	known        bool
	// most is the longest time for which the limits let the mirrors copy, 0 for any.
	most time.Duration
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
	fault := steer(&status, policy)
	next := climb(&status, policy.Spec.Ramp, held(policy), is, now)
	halt(&status, policy, is, now)
	if end := expire(&status, &policy.Spec, is.most, now); !end.IsZero() && (next.IsZero() || end.Before(next)) {
		next = end
	}
	status.Percent = allowed(&status, policy.Spec.Ramp)
	setConditions(&status, is, policy.Generation, fault, now)
	return status, next
}

// held returns the index of the step at which somebody holds the ramp, -1 for none or one that there is not.
func held(policy *v1alpha1.MirrorPolicy) int32 {
	n, err := strconv.Atoi(policy.Annotations[v1alpha1.AnnotationStep])
	if err != nil || policy.Spec.Ramp == nil || n < 1 || n > len(policy.Spec.Ramp.Steps) {
		return -1
	}
	return int32(n - 1) //nolint:gosec // the schema allows 32 steps
}

// steer ends the stops that somebody resumed, and returns the faults of the annotations by which people steer, "" for none.
// A stop by hand ends with its annotation, any other one by AnnotationResume alone.
func steer(status *v1alpha1.TargetStatus, policy *v1alpha1.MirrorPolicy) (fault string) {
	until, faults := resumed(policy), []string(nil)
	if text, ok := policy.Annotations[v1alpha1.AnnotationResume]; ok && until.IsZero() {
		faults = append(faults, fmt.Sprintf("annotation %s: %.64q is no time; must be the one in stopped.time", v1alpha1.AnnotationResume, text))
	}
	if text, ok := policy.Annotations[v1alpha1.AnnotationStep]; ok && held(policy) < 0 {
		steps := 0
		if policy.Spec.Ramp != nil {
			steps = len(policy.Spec.Ramp.Steps)
		}
		faults = append(faults, fmt.Sprintf("annotation %s: %.64q is no step; must be a number from 1 to %d, the number of steps", v1alpha1.AnnotationStep, text, steps))
	}
	_, byHand := policy.Annotations[v1alpha1.AnnotationStop]
	if s := status.Stopped; s != nil {
		if s.Reason == v1alpha1.StopByHand && !byHand || !until.Before(s.Time.Time) && (s.Reason != v1alpha1.StopByHand || !byHand) {
			status.Stopped = nil
		}
	}
	return strings.Join(faults, "; ")
}

// resumed returns the time up to which stops are resumed, zero for none.
func resumed(policy *v1alpha1.MirrorPolicy) time.Time {
	until, err := time.Parse(time.RFC3339, policy.Annotations[v1alpha1.AnnotationResume])
	if err != nil {
		return time.Time{}
	}
	return until
}

// halt stops the mirrors, by hand or by evidence. A stop stays, whatever comes later, and has a time of its own: one that
// was resumed never names it, also where a clock has jumped back.
func halt(status *v1alpha1.TargetStatus, policy *v1alpha1.MirrorPolicy, is observed, now time.Time) {
	if status.Stopped != nil {
		return
	}
	stopped := &v1alpha1.Stopped{Time: *stamp(now)}
	text, byHand := policy.Annotations[v1alpha1.AnnotationStop]
	switch {
	case byHand:
		stopped.Reason, stopped.Message = v1alpha1.StopByHand, cut(text)
	case is.against != nil && policy.Spec.Stop != nil && is.older == "":
		stopped.Reason, stopped.Message = is.against.reason, cut(is.against.message)
	default:
		return
	}
	if until := resumed(policy); !until.Before(stopped.Time.Time) && !byHand {
		stopped.Time = *stamp(until.Add(time.Second))
	}
	status.Stopped = stopped
}

// cut returns a text of the length that the API allows.
func cut(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage]
	}
	return strings.ToValidUTF8(text, "")
}

const maxMessage = 1024

// climb takes the next step of a ramp if its time has come, and returns the end of the current one. A step ends only while
// a mirror is active: nobody learns anything from a variant that is away. One that somebody holds does not end.
func climb(status *v1alpha1.TargetStatus, ramp *v1alpha1.Ramp, held int32, is observed, now time.Time) (end time.Time) {
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
	if held >= 0 {
		if *status.Step != held {
			status.Step, status.Since = new(held), stamp(now)
		}
		return time.Time{}
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

// expire notes that the policy's end has come, and returns it while it is ahead. A limit may bring it forward. An end that came stays, whatever the clock
// says later, until somebody gives the policy another one.
func expire(status *v1alpha1.TargetStatus, spec *v1alpha1.MirrorPolicySpec, most time.Duration, now time.Time) time.Time {
	var end *metav1.Time
	switch {
	case spec.Expires != nil:
		end = spec.Expires
	case spec.After != nil && status.ActiveSince != nil:
		end = &metav1.Time{Time: status.ActiveSince.Add(spec.After.Duration)}
	}
	if most > 0 && status.ActiveSince != nil {
		if last := status.ActiveSince.Add(most); end == nil || last.Before(end.Time) {
			end = &metav1.Time{Time: last}
		}
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
	case status.Expired != nil, status.Stopped != nil:
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

func setConditions(status *v1alpha1.TargetStatus, is observed, generation int64, fault string, now time.Time) {
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
	if is.known {
		set(v1alpha1.ConditionProgrammed, len(is.unprogrammed) == 0, programmedReason(is.unprogrammed), cut(cmp.Or(strings.Join(is.unprogrammed, "; "), "everything has effect")))
	}
	older := fmt.Sprintf("MirrorPolicy %q is older and has this target too", is.older)
	switch {
	case is.older != "":
		set(v1alpha1.ConditionAccepted, false, "Conflicted", older)
		set(v1alpha1.ConditionConflicted, true, "Conflicted", older)
		return
	case !is.found:
		set(v1alpha1.ConditionAccepted, false, "TargetNotFound", "there is no such route with a mirror")
	case fault != "":
		set(v1alpha1.ConditionAccepted, true, "AnnotationInvalid", "the policy applies to the target, but for this: "+fault)
	default:
		set(v1alpha1.ConditionAccepted, true, "Accepted", "the policy applies to the target")
	}
	set(v1alpha1.ConditionConflicted, false, "NoConflict", "no older policy has this target")
}

func programmedReason(faults []string) string {
	if len(faults) > 0 {
		return "NoEffect"
	}
	return "Programmed"
}

// stamp returns a time as the API stores it, in whole seconds and never earlier, so that no step ends early.
func stamp(now time.Time) *metav1.Time {
	whole := now.Truncate(time.Second)
	if whole.Before(now) {
		whole = whole.Add(time.Second)
	}
	return &metav1.Time{Time: whole.UTC()}
}
