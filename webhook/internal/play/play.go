// Package play plays the write of one object through admission handlers, as the API server does, for tests
// that have no cluster.
package play

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/patch"
)

// Outcome is the result of one write.
type Outcome struct {
	// Stored is the object as it would be stored, in JSON; nil when the write is denied.
	Stored []byte
	// Warnings are the warnings of all handlers, each once.
	Warnings []string
	// Denied is an *errors.StatusError of k8s.io/apimachinery, nil when the write is allowed.
	Denied error
}

// Write sends a request to the mutating handler, applies its patch, and sends the result to the validating
// handler, which may be nil. The error is about a patch that does not apply.
func Write(ctx context.Context, req admission.Request, mutator, validator admission.Handler) (Outcome, error) {
	resp := mutator.Handle(ctx, req)
	out := Outcome{Warnings: resp.Warnings}
	stored, err := patch.Apply(req.Object.Raw, resp.Patches)
	if err != nil {
		return Outcome{}, err
	}
	if resp.Allowed && validator != nil {
		req.Object.Raw = stored
		resp = validator.Handle(ctx, req)
		for _, w := range resp.Warnings {
			if !slices.Contains(out.Warnings, w) {
				out.Warnings = append(out.Warnings, w)
			}
		}
	}
	if !resp.Allowed {
		out.Denied = &apierrors.StatusError{ErrStatus: *resp.Result}
		return out, nil
	}
	out.Stored = stored
	return out, nil
}

// Request builds the request that the API server would send for a write of an object in JSON. old is the
// stored object that the write replaces, nil for a create; it is an error when old is another object.
func Request(object, old []byte) (admission.Request, error) {
	o, err := read(object)
	if err != nil {
		return admission.Request{}, fmt.Errorf("object: %w", err)
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind:      metav1.GroupVersionKind(o.gvk),
		Resource:  metav1.GroupVersionResource{Group: o.gvk.Group, Version: o.gvk.Version, Resource: strings.ToLower(o.gvk.Kind) + "s"},
		Namespace: o.namespace,
		Name:      o.name,
		Operation: admissionv1.Create,
		Object:    runtime.RawExtension{Raw: object},
	}}
	if old == nil {
		return req, nil
	}
	before, err := read(old)
	if err != nil {
		return admission.Request{}, fmt.Errorf("old object: %w", err)
	}
	if before != o {
		return admission.Request{}, fmt.Errorf("old object: is %s, and the object is %s", before, o)
	}
	req.Operation = admissionv1.Update
	req.OldObject.Raw = old
	return req, nil
}

type identity struct {
	gvk             schema.GroupVersionKind
	namespace, name string
}

func (i identity) String() string {
	return fmt.Sprintf("%s %s %s/%s", i.gvk.GroupVersion(), i.gvk.Kind, i.namespace, i.name)
}

func read(raw []byte) (identity, error) {
	var o metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &o); err != nil {
		return identity{}, err
	}
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return identity{}, err
	}
	return identity{gv.WithKind(o.Kind), cmp.Or(o.Namespace, metav1.NamespaceDefault), cmp.Or(o.Name, o.GenerateName)}, nil
}

// Decision is the decision of a handler of routes, with details for which its answer has no room.
type Decision struct {
	Action policy.Action
	Reason policy.Reason
	// Verdicts hold one verdict for each mirror of the route that the handler was sent.
	Verdicts []policy.Verdict
	// Misfits tells, by the id of a mirror, why it could not move.
	Misfits map[string]string
	// Warnings are not cut to the length that clients show.
	Warnings []string
	// Err is why the handler failed open, nil when it did not.
	Err error
}

type observer struct{}

// Observe returns a context with which handlers pass their decisions to f before they answer.
func Observe(ctx context.Context, f func(Decision)) context.Context {
	return context.WithValue(ctx, observer{}, f)
}

// Observer returns the function that Observe put into a context, nil when there is none.
func Observer(ctx context.Context) func(Decision) {
	f, _ := ctx.Value(observer{}).(func(Decision))
	return f
}
