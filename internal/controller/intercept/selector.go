package intercept

// How a Service gets another selector. Admission changes it inside a touch, so that the field stays owned by
// the tool that applies the Service. Where admission does not answer, the controller writes the selector, and
// then gives up its ownership of the field.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Services reads and writes the Services of an API server.
type Services interface {
	Get(ctx context.Context, name Name) (*corev1.Service, error)
	// Patch sends a JSON merge patch under the field manager "mirrorgate" and returns the stored Service.
	Patch(ctx context.Context, name Name, body []byte) (*corev1.Service, error)
}

// NewServices returns the Services of an API server.
func NewServices(client corev1client.ServicesGetter) Services { return serviceClient{client} }

type serviceClient struct{ client corev1client.ServicesGetter }

func (c serviceClient) Get(ctx context.Context, name Name) (*corev1.Service, error) {
	return c.client.Services(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
}

func (c serviceClient) Patch(ctx context.Context, name Name, body []byte) (*corev1.Service, error) {
	return c.client.Services(name.Namespace).Patch(ctx, name.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: wellknown.FieldManager})
}

// errNotCarried means that the selector that was stored is not the one that was decided.
var errNotCarried = errors.New("admission set another selector than the controller; the cache of one of them lags behind")

// steer makes a Service lead where d says. The decision may change on the way; d holds the latest one.
func (c *Controller) steer(ctx context.Context, o *corev1.Service, d *interception.Decision) error {
	name := nameOf(o)
	// The API server calls admission even for a patch that changes nothing.
	after, err := c.services.Patch(ctx, name, touchPatch(o))
	if err != nil {
		return c.patchFailed(name, err)
	}
	again, err := c.decide(ctx, after, registeredPoll)
	if err != nil {
		return err
	}
	*d = again
	if agrees(after, d) {
		c.opts.Metrics.touches.WithLabelValues("carried").Inc()
		c.announce(after, d)
		return disown(ctx, c.services, after, after.ManagedFields)
	}
	// Once mirrorgate is being removed, nobody may write a sentinel any more.
	if again, err = c.decide(ctx, after, 0); err != nil {
		return err
	}
	*d = again
	if agrees(after, d) {
		return nil
	}
	written, err := c.services.Patch(ctx, name, selectorPatch(after, d))
	if err != nil {
		return c.patchFailed(name, err)
	}
	if err := disown(ctx, c.services, written, after.ManagedFields); err != nil {
		return err
	}
	if !agrees(written, d) {
		c.opts.Metrics.touches.WithLabelValues("not_carried").Inc()
		return fmt.Errorf("%s: %w", name, errNotCarried)
	}
	c.opts.Metrics.touches.WithLabelValues("written").Inc()
	c.opts.Log.Info("The webhook of Services did not answer a touch; the selector is written without it", "service", name.String())
	c.announce(written, d)
	return nil
}

// patchFailed counts a write that failed. A Service that no longer exists is no error.
func (c *Controller) patchFailed(name Name, err error) error {
	result := "error"
	switch {
	case apierrors.IsNotFound(err):
		result, err = "gone", nil
	case apierrors.IsConflict(err):
		result = "conflict"
	case loop.Refused(err):
		result = "refused"
	}
	c.opts.Metrics.touches.WithLabelValues(result).Inc()
	if err != nil {
		return fmt.Errorf("steer Service %s: %w", name, err)
	}
	return nil
}

// touchPatch returns a merge patch that changes nothing, and fails if another Service has the name by now.
func touchPatch(o *corev1.Service) []byte {
	return body(map[string]any{"metadata": map[string]any{"uid": o.UID}})
}

// selectorPatch returns a merge patch that sets the selector that was decided, and fails if the Service was
// changed after it was read.
func selectorPatch(o *corev1.Service, d *interception.Decision) []byte {
	selector := map[string]any{}
	for key := range o.Spec.Selector {
		selector[key] = nil
	}
	for key, value := range d.Selector {
		selector[key] = value
	}
	var recorded any
	if d.Recorded != "" {
		recorded = d.Recorded
	}
	return body(map[string]any{
		"metadata": map[string]any{
			"uid": o.UID, "resourceVersion": o.ResourceVersion,
			"annotations": map[string]any{wellknown.SelectorAnnotation: recorded},
		},
		"spec": map[string]any{"selector": selector},
	})
}

// disown gives up the ownership of a selector that mirrorgate wrote: managedFields become those of before the
// write, without mirrorgate's entries. If somebody changes the Service meanwhile, the next reconciliation
// does it.
func disown(ctx context.Context, services Services, o *corev1.Service, before []metav1.ManagedFieldsEntry) error {
	kept := slices.DeleteFunc(slices.Clone(before), setsSelector)
	if !ownsSelector(o) || len(kept) == 0 { // the API server would fill an empty list again
		return nil
	}
	patch := body(map[string]any{"metadata": map[string]any{"uid": o.UID, "resourceVersion": o.ResourceVersion, "managedFields": kept}})
	if _, err := services.Patch(ctx, nameOf(o), patch); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("give up the selector of Service %s: %w", nameOf(o), err)
	}
	return nil
}

// body encodes a patch. Maps of texts and structs always can be.
func body(patch map[string]any) []byte {
	raw, _ := json.Marshal(patch)
	return raw
}

// setsSelector reports whether an entry makes mirrorgate the owner of a selector. The tool that applies the
// Service would then get a conflict.
func setsSelector(e metav1.ManagedFieldsEntry) bool {
	return e.Manager == wellknown.FieldManager && e.FieldsV1 != nil && strings.Contains(e.FieldsV1.GetRawString(), `"f:selector"`)
}

func ownsSelector(o *corev1.Service) bool { return slices.ContainsFunc(o.ManagedFields, setsSelector) }

// agrees reports whether a Service is as decided.
func agrees(o *corev1.Service, d *interception.Decision) bool {
	return maps.Equal(o.Spec.Selector, d.Selector) && o.Annotations[wellknown.SelectorAnnotation] == d.Recorded
}
