package webhook

// The webhook of Services: it leads a Service to its proxies and back. It only ever changes the
// selector, and the annotation that keeps the author's.

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/patch"
)

// ServicesPath is the path of the handler on the webhook server.
const ServicesPath = "/mutate-services"

// Fronts tells what the cluster says about a Service and the proxies in front of it.
type Fronts interface {
	// View is about a Service as it would be stored. It fails while not everything is known.
	View(*corev1.Service) (intercept.View, error)
}

// Services steers the selectors of Services that have a proxy in front of them.
type Services struct {
	fronts  Fronts
	metrics *Metrics
}

// NewServices returns a Services; metrics may be nil.
func NewServices(fronts Fronts, metrics *Metrics) *Services {
	if metrics == nil {
		metrics = NewMetrics(nil)
	}
	return &Services{fronts: fronts, metrics: metrics}
}

// Register mounts the handler on a webhook server.
func (s *Services) Register(server interface{ Register(string, http.Handler) }) {
	server.Register(ServicesPath, newReviews(s.Mutator(), newIntake()))
}

// Mutator returns the handler of the mutating webhook. It fails open: after an error or a panic the
// Service is stored as it was written, and the controller mends it.
func (s *Services) Mutator() admission.Handler {
	return admission.HandlerFunc(func(ctx context.Context, req admission.Request) (resp admission.Response) {
		start := time.Now()
		defer func() {
			if p := recover(); p != nil {
				logf.FromContext(ctx).Error(fmt.Errorf("panic: %v", p), "admission failed open", "stage", stageService, "stack", string(debug.Stack()))
				resp = s.failedOpen("panic")
			}
			s.metrics.duration.WithLabelValues(stageService).Observe(time.Since(start).Seconds())
		}()
		resp, err := s.mutate(&req)
		if err != nil {
			logf.FromContext(ctx).Error(err, "admission failed open", "stage", stageService, "namespace", req.Namespace, "name", req.Name)
			return s.failedOpen(cause(err))
		}
		return resp
	})
}

func (s *Services) failedOpen(why string) admission.Response {
	s.metrics.errors.WithLabelValues(stageService, why).Inc()
	resp := allow(policy.Skip, "", policy.Warning("mirrorgate could not decide (%s); the selector of this Service is stored as written", why)).Response
	resp.AuditAnnotations = map[string]string{"decision": "error", "reason": why}
	return resp
}

func (s *Services) mutate(req *admission.Request) (admission.Response, error) {
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
	view, err := s.fronts.View(&object)
	if err != nil {
		return admission.Response{}, err
	}
	d := intercept.Decide(objects.Read(&object), stored, &view)
	s.metrics.steered.WithLabelValues(string(d.Mode), strconv.FormatBool(req.DryRun != nil && *req.DryRun)).Inc()
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

// Admit plays the write of one Service, YAML or JSON, as the API server does. old is the stored Service
// that an update replaces, nil for a create.
func (s *Services) Admit(ctx context.Context, object, old []byte) (Admission, error) {
	raw, err := oneDocument(object)
	if err != nil {
		return Admission{}, fmt.Errorf("object: %w", err)
	}
	var o corev1.Service
	if err := json.Unmarshal(raw, &o); err != nil {
		return Admission{}, fmt.Errorf("object: %w", err)
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: cmp.Or(o.Namespace, metav1.NamespaceDefault), Name: o.Name, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
	}}
	if old != nil {
		req.Operation = admissionv1.Update
		if req.OldObject.Raw, err = oneDocument(old); err != nil {
			return Admission{}, fmt.Errorf("old object: %w", err)
		}
	}
	resp := s.Mutator().Handle(ctx, req)
	stored, err := patch.Apply(raw, resp.Patches)
	return Admission{Object: stored, Warnings: resp.Warnings}, err
}

// selectorEdits make a Service what was decided.
func selectorEdits(o *corev1.Service, d *intercept.Decision) []patch.Operation {
	var edits []patch.Operation
	if !maps.Equal(o.Spec.Selector, d.Selector) {
		edits = append(edits, patch.Add("/spec/selector", d.Selector))
	}
	at := patch.Pointer("/metadata/annotations").Key(wellknown.SelectorAnnotation)
	_, recorded := o.Annotations[wellknown.SelectorAnnotation]
	switch {
	case d.Recorded == o.Annotations[wellknown.SelectorAnnotation] && (d.Recorded != "" || !recorded):
	case d.Recorded == "":
		edits = append(edits, patch.Remove(at))
	case o.Annotations == nil:
		edits = append(edits, patch.Add("/metadata/annotations", map[string]string{wellknown.SelectorAnnotation: d.Recorded}))
	default:
		edits = append(edits, patch.Add(at, d.Recorded))
	}
	return edits
}
