package mirrors

// The touch: a write of one annotation that makes the API server call admission, and the outcome of it.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Toucher makes admission decide on a route again.
type Toucher interface {
	// Touch writes the variants annotation and returns the stored object.
	Touch(ctx context.Context, rt *route.Route, variants string) ([]byte, error)
}

// client touches routes of a real API server. It speaks raw JSON, since a route's Go types may be older than
// the cluster's CRDs.
type client struct{ rest rest.Interface }

// NewToucher returns a Toucher for an API server.
func NewToucher(config *rest.Config) (Toucher, error) {
	config = rest.CopyConfig(config)
	config.ContentType = "application/json"
	config.AcceptContentTypes = "application/json"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	config.WarningHandler = rest.NoWarnings{} // they are those of mirrorgate's own webhook, meant for people
	config.QPS = -1                           // the API server's priority and fairness limits the rate
	c, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return client{c}, nil
}

// Touch sends a JSON merge patch of one annotation. The uid makes sure that it reaches this very object and
// not another one of the same name; a server-side apply would bring a deleted VirtualService back with an
// empty spec.
func (c client) Touch(ctx context.Context, rt *route.Route, variants string) ([]byte, error) {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid":         rt.UID,
			"annotations": map[string]string{route.VariantsAnnotation: variants},
		},
	})
	if err != nil {
		return nil, err
	}
	result := c.rest.Patch(types.MergePatchType).
		AbsPath("/apis/"+rt.APIVersion+"/namespaces/"+rt.Namespace, rt.Kind.Resource(), rt.Name).
		Param("fieldManager", wellknown.FieldManager).
		Body(body).Do(ctx)
	// Only Error decodes the Status of the response; the error that Raw returns has no causes.
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

// carried reports whether the object that a touch returned is as decided. It is not when the webhook is
// unreachable, or answered from a cache that lags behind the controller's.
func (c *Controller) carried(rt *route.Route, raw []byte) (bool, error) {
	stored, err := route.Decode(raw, route.Options{ClusterDomain: c.opts.ClusterDomain})
	if err != nil {
		return false, fmt.Errorf("touch %s: %w", rt.Key, err)
	}
	decision, err := policy.Decide(stored, c.index.Snapshot(stored), c.opts.Policy)
	if err != nil {
		return false, fmt.Errorf("touch %s: %w", rt.Key, err)
	}
	return len(decision.Plan.Operations) == 0, nil
}

// touchFailed returns when to repeat a touch that the API server did not store.
func (c *Controller) touchFailed(rt *route.Route, err error) (reconcile.Result, error) {
	count := func(result string) { c.opts.Metrics.touches.WithLabelValues(result).Inc() }
	switch {
	case gone(err):
		count("gone")
		c.pending.remove(rt.Key)
		return reconcile.Result{}, nil
	case loop.Refused(err):
		count("refused")
		c.opts.Log.Error(err, "The API server refuses to flip a route", "route", rt.String(), "retry", loop.SlowRetry.String())
		c.report(rt, corev1.EventTypeWarning, "FlipRefused", "mirrors cannot be moved: %v", err)
		return reconcile.Result{RequeueAfter: loop.SlowRetry}, nil
	case apierrors.IsConflict(err):
		count("conflict")
	default:
		count("error")
	}
	return reconcile.Result{}, fmt.Errorf("touch %s: %w", rt.Key, err)
}

// gone reports whether the touched route no longer exists: the answer is 404, or 422 on the uid when another
// route has its name.
func gone(err error) bool {
	if apierrors.IsNotFound(err) {
		return true
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return (apierrors.IsInvalid(err) || apierrors.IsConflict(err)) &&
		slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == "metadata.uid" })
}
