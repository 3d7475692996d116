package mirrors

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// client touches routes of a real API server. It speaks raw JSON, since a
// route's Go types may be older than the cluster's CRDs.
type client struct{ rest rest.Interface }

// NewToucher returns a Toucher for an API server.
func NewToucher(config *rest.Config) (Toucher, error) {
	config = rest.CopyConfig(config)
	config.ContentType = "application/json"
	config.AcceptContentTypes = "application/json"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	config.WarningHandler = rest.NoWarnings{} // our own warnings, meant for people
	config.QPS = -1                           // priority and fairness of the API server bound us
	c, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return client{c}, nil
}

// Touch sends a JSON merge patch of one annotation. The uid makes sure that it
// reaches this very object and not one of the same name; a server-side apply
// would bring a deleted VirtualService back with an empty spec.
func (c client) Touch(ctx context.Context, doc *route.Route, variants string) ([]byte, error) {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid":         doc.UID,
			"annotations": map[string]string{route.VariantsAnnotation: variants},
		},
	})
	if err != nil {
		return nil, err
	}
	result := c.rest.Patch(types.MergePatchType).
		AbsPath("/apis/"+doc.APIVersion+"/namespaces/"+doc.Namespace, doc.Kind.Resource(), doc.Name).
		Param("fieldManager", wellknown.FieldManager).
		Body(body).Do(ctx)
	// Only Error reads the Status that was sent; that of Raw has no causes.
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

// gone tells whether the route that was to be touched is no more: 404, or 422 on
// the uid when another one has its name.
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
