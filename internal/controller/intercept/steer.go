package intercept

// How a Service gets another selector. Admission does it, inside a touch: then the selector stays the
// applying tool's. Where admission does not answer, the controller writes it, and gives the field back.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Services are those of an API server.
type Services interface {
	Get(ctx context.Context, name Name) (*corev1.Service, error)
	// Patch sends a JSON merge patch under our field manager and returns what is stored.
	Patch(ctx context.Context, name Name, body []byte) (*corev1.Service, error)
}

// NewServices returns those of an API server.
func NewServices(client corev1client.ServicesGetter) Services { return services{client} }

type services struct{ client corev1client.ServicesGetter }

func (s services) Get(ctx context.Context, name Name) (*corev1.Service, error) {
	return s.client.Services(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
}

func (s services) Patch(ctx context.Context, name Name, body []byte) (*corev1.Service, error) {
	return s.client.Services(name.Namespace).Patch(ctx, name.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: wellknown.FieldManager})
}

// errNotCarried is a Service that is not as decided after all.
var errNotCarried = errors.New("admission made the selector another than the controller wants; one of them is behind")

// steer makes a Service lead where it was decided that it should.
func (c *Controller) steer(ctx context.Context, o *corev1.Service, d *interception.Decision) error {
	name := nameOf(o)
	// A touch that changes nothing is admitted all the same.
	after, err := c.services.Patch(ctx, name, Touch(o))
	if err != nil {
		return c.unsteered(name, err)
	}
	again, err := c.decide(ctx, after, asking)
	if err != nil {
		return err
	}
	*d = again
	if agrees(after, d) {
		c.opts.Metrics.touches.WithLabelValues("carried").Inc()
		c.announce(after, d)
		if claims(after) {
			return c.disown(ctx, after, nil)
		}
		return nil
	}
	// Nobody may write a sentinel any more once we are being removed.
	if again, err = c.decide(ctx, after, 0); err != nil {
		return err
	}
	*d = again
	if agrees(after, d) {
		return nil
	}
	written, err := c.services.Patch(ctx, name, Write(after, d))
	if err != nil {
		return c.unsteered(name, err)
	}
	if err := c.disown(ctx, written, after.ManagedFields); err != nil {
		return err
	}
	if !agrees(written, d) {
		c.opts.Metrics.touches.WithLabelValues("not_carried").Inc()
		return fmt.Errorf("%s: %w", name, errNotCarried)
	}
	c.opts.Metrics.touches.WithLabelValues("written").Inc()
	c.opts.Log.Info("the webhook of Services did not answer a touch; the selector is written without it", "service", name.String())
	c.announce(written, d)
	return nil
}

func (c *Controller) unsteered(name Name, err error) error {
	result := "error"
	switch {
	case apierrors.IsNotFound(err):
		result, err = "gone", nil
	case apierrors.IsConflict(err):
		result = "conflict"
	case refuses(err):
		result = "refused"
	}
	c.opts.Metrics.touches.WithLabelValues(result).Inc()
	if err != nil {
		return fmt.Errorf("steer Service %s: %w", name, err)
	}
	return nil
}

// Touch is a merge patch that changes nothing of a Service, and fails if that is another one by now.
func Touch(o *corev1.Service) []byte {
	return body(map[string]any{"metadata": map[string]any{"uid": o.UID}})
}

// Write is a merge patch that makes a Service what was decided, if it still is as it was read.
func Write(o *corev1.Service, d *interception.Decision) []byte {
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

// GiveBack is a merge patch that makes the owners of fields those that there were before a Write; nil
// stands for all but us.
func GiveBack(o *corev1.Service, before []metav1.ManagedFieldsEntry) []byte {
	if before == nil {
		before = o.ManagedFields
	}
	kept := slices.DeleteFunc(slices.Clone(before), claim)
	if len(kept) == 0 {
		return nil // an empty list would be filled again
	}
	return body(map[string]any{"metadata": map[string]any{"uid": o.UID, "resourceVersion": o.ResourceVersion, "managedFields": kept}})
}

// body encodes maps, which cannot fail.
func body(of map[string]any) []byte {
	raw, _ := json.Marshal(of)
	return raw
}

// claim says whether an entry makes a selector ours: whoever applies the Service would be in conflict.
func claim(e metav1.ManagedFieldsEntry) bool {
	return e.Manager == wellknown.FieldManager && e.FieldsV1 != nil && strings.Contains(e.FieldsV1.GetRawString(), `"f:selector"`)
}

func claims(o *corev1.Service) bool { return slices.ContainsFunc(o.ManagedFields, claim) }

// disown gives the selector back. If somebody wrote the Service meanwhile, the next look does it.
func (c *Controller) disown(ctx context.Context, o *corev1.Service, before []metav1.ManagedFieldsEntry) error {
	if !claims(o) {
		return nil
	}
	patch := GiveBack(o, before)
	if patch == nil {
		return nil
	}
	if _, err := c.services.Patch(ctx, nameOf(o), patch); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("give up the selector of Service %s: %w", nameOf(o), err)
	}
	return nil
}
