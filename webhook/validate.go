package webhook

// The validating webhook of routes: it denies contradictions that no later event can repair.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// validate judges the object that would be stored. It denies only contradictions that this write made;
// everything else is a warning.
func (g *Gate) validate(ctx context.Context, req *admission.Request) (outcome, error) {
	rt, done := g.read(req, nil)
	if done != nil {
		if done.tooLong != nil && !g.wasTooLong(req) {
			deny(done, req, []policy.Finding{policy.TooLong(done.tooLong)})
		}
		return *done, nil
	}
	old := g.old(req)
	d, err := g.decide(ctx, stageValidate, old, rt)
	if err != nil {
		return outcome{}, err
	}
	var made, stale []policy.Finding
	if len(d.Findings) > 0 {
		if made, stale, err = g.introduced(ctx, stageValidate, old, d); err != nil {
			return outcome{}, err
		}
	}
	earlier := policy.KnownNotices(stale)
	out := allow(policy.None, d.Reason, slices.Concat(d.Warnings, policy.Warnings(earlier))...)
	out.decision, out.notices = d, slices.Concat(d.Notices, earlier)
	switch {
	case len(made) > 0:
		deny(&out, req, made)
	case len(stale) > 0:
		out.reason = stale[0].Reason
	}
	return out, nil
}

// wasTooLong reports whether the stored route could not be read either. A write of another change passes then.
func (g *Gate) wasTooLong(req *admission.Request) bool {
	if req.Operation != admissionv1.Update {
		return false
	}
	_, err := route.Decode(req.OldObject.Raw, route.Options{ClusterDomain: g.opts.ClusterDomain, Namespace: req.Namespace})
	_, long := errors.AsType[*route.TooLongError](err)
	return long
}

// introduced returns the findings that a write introduced, and those that the stored route had before it.
func (g *Gate) introduced(ctx context.Context, stage string, stored oldRoute, now policy.Decision) (made, stale []policy.Finding, err error) {
	var before policy.Decision
	if old := stored(); old != nil {
		if before, err = g.decide(ctx, stage, stored, old); err != nil {
			return nil, nil, err
		}
	}
	made, stale = policy.Introduced(now, before)
	return made, stale, nil
}

// maxCauses bounds how many findings an answer lists: a route of a megabyte may have thousands.
const maxCauses = 100

// deny answers with the findings in the form that the API server's own validation uses.
func deny(out *outcome, req *admission.Request, findings []policy.Finding) {
	status := &metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Details: &metav1.StatusDetails{Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind},
	}
	var texts []string
	for i, f := range findings {
		if i == maxCauses {
			texts = append(texts, fmt.Sprintf("and %d more", len(findings)-i))
			break
		}
		texts = append(texts, f.Error())
		status.Details.Causes = append(status.Details.Causes, metav1.StatusCause{
			Type:    metav1.CauseTypeFieldValueInvalid,
			Field:   f.Field,
			Message: fmt.Sprintf("Invalid value: %s: %s: %s", f.Value, f.Reason, f.Message),
		})
	}
	status.Message = join(texts)
	out.action, out.reason = policy.Deny, findings[0].Reason
	out.Allowed, out.Result = false, status
}
