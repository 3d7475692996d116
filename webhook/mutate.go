package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// mutate takes mirrors out of a route and back, as their variants come and go.
// A write that changes neither the rules nor our annotations passes untouched:
// editing the spec in a request for a label could make the API server refuse
// the label.
func (g *Gate) mutate(ctx context.Context, req *admission.Request) (outcome, error) {
	if req.Operation == admissionv1.Update && !touched(req) {
		same, err := route.Unchanged(req.Object.Raw, req.OldObject.Raw)
		if err == nil && same {
			return allow(policy.None, policy.Unchanged), nil
		}
	}
	doc, done := g.read(req)
	if done != nil {
		return *done, nil
	}
	d, err := g.decide(ctx, stageMutate, req, doc)
	if err != nil {
		return outcome{}, err
	}
	out := allow(d.Action, d.Reason, d.Warnings...)
	ops := d.Plan.Operations
	if len(ops) == 0 {
		return out, nil
	}
	if len(d.Plan.Parked) > 0 && doc.FromConfigMap() && touched(req) {
		return notYet(req, d), nil
	}
	if err := patch.Check(req.Object.Raw, ops); err != nil {
		return outcome{}, fmt.Errorf("patch of %s: %w", doc.Key, err)
	}
	out.Patches = ops
	return out, nil
}

// notYet refuses a route that the controller made of Iter8's documents, with a mirror whose
// variant is not ready to us. Its intent is in a ConfigMap, so nothing is parked; the
// controller tries again until our cache has caught up with its own, or its with ours.
// Whoever else writes under its name, and with such an owner, gets no mirror past the gate.
func notYet(req *admission.Request, d policy.Decision) outcome {
	out := allow(policy.Deny, d.Reason)
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

// touched tells whether the controller asks for a decision.
func touched(req *admission.Request) bool {
	var options struct {
		FieldManager string `json:"fieldManager"`
	}
	return json.Unmarshal(req.Options.Raw, &options) == nil && options.FieldManager == FieldManager
}

// validate judges the object that would be stored. It denies what this very
// write makes wrong for good; everything else is a warning.
func (g *Gate) validate(ctx context.Context, req *admission.Request) (outcome, error) {
	doc, done := g.read(req)
	if done != nil {
		return *done, nil
	}
	d, err := g.decide(ctx, stageValidate, req, doc)
	if err != nil {
		return outcome{}, err
	}
	if d.Action == policy.Skip || len(d.Findings) == 0 {
		return allow(policy.None, d.Reason, d.Warnings...), nil
	}
	var before []policy.Finding
	if old := g.readOld(req); old != nil {
		stored, err := g.decide(ctx, stageValidate, req, old)
		if err != nil {
			return outcome{}, err
		}
		before = stored.Findings
	}
	introduced, known := policy.Introduced(d.Findings, before)
	warnings := slices.Concat(d.Warnings, policy.KnownWarnings(known))
	if len(introduced) == 0 {
		return allow(policy.None, known[0].Reason, warnings...), nil
	}
	return denied(req, introduced, warnings), nil
}

func join(texts []string) string { return strings.Join(slices.Compact(texts), "; ") }
