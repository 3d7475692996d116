package webhook

// The mutating webhook of routes: it parks mirrors whose variants are not ready, and restores the others.

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// mutate moves the mirrors of a route. It leaves alone a write that changes neither the rules nor
// mirrorgate's annotations: to edit the spec in a request for a label could make the API server refuse the
// label.
func (g *Gate) mutate(ctx context.Context, req *admission.Request) (outcome, error) {
	if req.Operation == admissionv1.Update && !byController(req) {
		same, err := route.Unchanged(req.Object.Raw, req.OldObject.Raw)
		if err == nil && same {
			return allow(policy.None, policy.Unchanged), nil
		}
	}
	old := g.old(req)
	rt, done := g.read(req, old)
	if done != nil {
		return *done, nil
	}
	d, err := g.decide(ctx, stageMutate, old, rt)
	if err != nil {
		return outcome{}, err
	}
	out := allow(d.Action, d.Reason, d.Warnings...)
	out.decision, out.notices = d, d.Notices
	switch made, err := g.replaced(ctx, old, d); {
	case err != nil:
		return outcome{}, err
	case len(made) > 0:
		deny(&out, req, made)
		return out, nil
	}
	ops := d.Plan.Operations
	if len(ops) == 0 {
		return out, nil
	}
	if len(d.Plan.Parked) > 0 && rt.FromConfigMap() && byController(req) {
		return notReady(req, d), nil
	}
	if err := patch.Check(req.Object.Raw, ops); err != nil {
		return outcome{}, fmt.Errorf("patch of %s: %w", rt.Key, err)
	}
	out.Patches = ops
	return out, nil
}

// replaced returns the findings about parked mirrors that this write replaces, which strict mode denies. The
// validating webhook cannot tell, because it sees the object without their placeholders.
func (g *Gate) replaced(ctx context.Context, old oldRoute, d policy.Decision) ([]policy.Finding, error) {
	others := func(f policy.Finding) bool { return f.Reason != policy.MirrorReplaced }
	if d.Action == policy.Skip || !slices.ContainsFunc(d.Findings, func(f policy.Finding) bool { return !others(f) }) {
		return nil, nil
	}
	made, _, err := g.introduced(ctx, stageMutate, old, d)
	return slices.DeleteFunc(made, others), err
}

// notReady refuses a route that the controller made from Iter8's documents while a mirror of it has no ready
// variant. The author's intent is in a ConfigMap, so nothing is parked: the controller tries again until its
// cache and this process's agree. Anybody else who writes under its name with such an owner gets no mirror
// past the gate either.
func notReady(req *admission.Request, d policy.Decision) outcome {
	out := allow(policy.Deny, d.Reason)
	out.decision = d
	var texts []string
	for _, v := range d.Verdicts {
		if v.Park {
			texts = append(texts, fmt.Sprintf("%s: %s: %s", v.Mirror.Path, v.Reason, v.Detail))
		}
	}
	out.Allowed = false
	out.Result = &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusConflict, Reason: metav1.StatusReasonConflict,
		Message: "a mirror has no variant that is ready: " + join(texts),
		Details: &metav1.StatusDetails{Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind},
	}
	return out
}
