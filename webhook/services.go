package webhook

// The mutating webhook of Services: it leads a Service to its proxies and back. It changes only the selector,
// and the annotation that keeps the author's selector.

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/patch"
)

// ServicesPath is the path of the handler on the webhook server.
const ServicesPath = "/mutate-services"

// Parents knows the Services that may have proxies in front of them.
type Parents interface {
	// View returns the state of the cluster around a Service as it would be stored. It is an error while the
	// caches are not complete.
	View(*corev1.Service) (intercept.View, error)
}

// Services leads Services to the proxies in front of them.
type Services struct {
	parents Parents
	metrics *Metrics
}

// NewServices returns a Services; metrics may be nil.
func NewServices(parents Parents, metrics *Metrics) *Services {
	if metrics == nil {
		metrics = NewMetrics(nil)
	}
	return &Services{parents: parents, metrics: metrics}
}

// Register mounts the handler on a webhook server.
func (s *Services) Register(server interface{ Register(string, http.Handler) }) {
	server.Register(ServicesPath, newReviews(s.Mutator(), processLimit))
}

// Mutator returns the handler of the mutating webhook. It fails open: after an error or a panic the Service
// is stored as it was written, and the controller corrects it.
func (s *Services) Mutator() admission.Handler {
	return failOpen{stage: stageService, metrics: s.metrics, stored: "the selector of this Service is", handle: s.mutate}
}

func (s *Services) mutate(_ context.Context, req *admission.Request) (admission.Response, error) {
	var object, old corev1.Service
	if err := json.Unmarshal(req.Object.Raw, &object); err != nil {
		return admission.Response{}, fmt.Errorf("read Service: %w", err)
	}
	if object.DeletionTimestamp != nil {
		return allow(policy.None, policy.Deleting).Response, nil
	}
	object.Namespace = req.Namespace
	var stored *intercept.Service
	if req.Operation == admissionv1.Update {
		if err := json.Unmarshal(req.OldObject.Raw, &old); err != nil {
			return admission.Response{}, fmt.Errorf("read the stored Service: %w", err)
		}
		stored = objects.Read(&old)
	}
	view, err := s.parents.View(&object)
	if err != nil {
		return admission.Response{}, err
	}
	d := intercept.Decide(objects.Read(&object), stored, &view)
	s.metrics.services.WithLabelValues(string(d.Mode), strconv.FormatBool(req.DryRun != nil && *req.DryRun)).Inc()
	var warnings []string
	if d.Lost {
		warnings = append(warnings, policy.Warning("mirrorgate: %s; apply the manifest of this Service again", d.Why))
	}
	resp := allow(policy.None, "", warnings...).Response
	resp.AuditAnnotations = map[string]string{"selector": string(d.Mode)}
	resp.Patches = selectorEdits(&object, &d)
	if err := patch.Check(req.Object.Raw, resp.Patches); err != nil {
		return admission.Response{}, fmt.Errorf("patch of Service %s/%s: %w", object.Namespace, object.Name, err)
	}
	return resp, nil
}

// selectorEdits returns the operations that give a Service the decided selector, and record the author's.
func selectorEdits(o *corev1.Service, d *intercept.Decision) []patch.Operation {
	var edits []patch.Operation
	if !maps.Equal(o.Spec.Selector, d.Selector) {
		edits = append(edits, patch.Add("/spec/selector", d.Selector))
	}
	at := patch.Pointer("/metadata/annotations").Key(wellknown.SelectorAnnotation)
	have, recorded := o.Annotations[wellknown.SelectorAnnotation]
	switch {
	case d.Recorded == have && (d.Recorded != "" || !recorded):
	case d.Recorded == "":
		edits = append(edits, patch.Remove(at))
	case o.Annotations == nil:
		edits = append(edits, patch.Add("/metadata/annotations", map[string]string{wellknown.SelectorAnnotation: d.Recorded}))
	default:
		edits = append(edits, patch.Add(at, d.Recorded))
	}
	return edits
}
