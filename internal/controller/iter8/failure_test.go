package iter8

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func TestFailedApplicationsAreClassified(t *testing.T) {
	kind := schema.GroupKind{Group: route.GatewayGroup, Kind: "HTTPRoute"}
	resource := schema.GroupResource{Group: route.GatewayGroup, Resource: "httproutes"}
	terminating := apierrors.NewForbidden(resource, "web", errors.New("is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: "NamespaceTerminating"}}
	for name, c := range map[string]struct {
		err            error
		result, reason string
		transient      bool
	}{
		"a conflict of field managers": {apierrors.NewApplyConflict([]metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.rules"}}, "conflict"), "conflict", "RouteConflict", false},
		"a conflict of the uid":        {apierrors.NewConflict(resource, "web", errors.New("uid")), "error", "RouteDelayed", true},
		"a conflict by admission":      {apierrors.NewConflict(resource, "web", errors.New("a mirror has no variant that is ready")), "error", "RouteDelayed", true},
		"invalid":                      {apierrors.NewInvalid(kind, "web", field.ErrorList{field.Invalid(field.NewPath("spec"), 1, "no")}), "refused", "RouteRefused", false},
		"forbidden":                    {apierrors.NewForbidden(resource, "web", errors.New("no")), "refused", "RouteRefused", false},
		"an unknown field":             {errors.New(".spec.a: field not declared in schema"), "refused", "RouteRefused", false},
		"terminating namespace":        {terminating, "refused", "", false},
		"no route":                     {apierrors.NewNotFound(resource, "web"), "error", "RouteDelayed", true},
		"no answer":                    {errors.New("connection refused"), "error", "RouteDelayed", true},
		"a server error":               {apierrors.NewInternalError(errors.New("etcd")), "error", "RouteDelayed", true},
	} {
		f := applyFailed(desiredOf(t, mirrored), c.err)
		assert.Equal(t, []any{c.result, c.reason, c.transient}, []any{f.result, f.reason, f.transient}, name)
	}
}
