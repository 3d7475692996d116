package iter8

// Why a document is not served, or a route not applied.

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
)

// problem keeps a document from being served. An Event reports it, unless the reason is "": then it passes by
// itself.
type problem struct {
	reason, note string
	// route is the stored route that it is about, nil for none.
	route *corev1.ObjectReference
}

func problemf(reason, format string, args ...any) *problem {
	return &problem{reason: reason, note: fmt.Sprintf(format, args...)}
}

func cannotWatch(gvr schema.GroupVersionResource, err error) *problem {
	return problemf("CannotWatch", "%s cannot be watched: %v; docs/iter8.md has the rights that mirrorgate needs", gvr.GroupResource(), err)
}

// The results of applications that failed, as they are counted.
const (
	conflict       = "conflict" // somebody else owns a field
	taken          = "taken"    // the route belongs to somebody else
	refused        = "refused"
	transientError = "error"
)

// failure is why a route was not applied.
type failure struct {
	problem
	result string
	// transient is set for a failure that may pass by itself.
	transient bool
}

func failed(result, reason, format string, args ...any) *failure {
	return &failure{problem: *problemf(reason, format, args...), result: result}
}

func transient(format string, args ...any) *failure {
	f := failed(transientError, "RouteDelayed", format, args...)
	f.transient = true
	return f
}

// applyFailed classifies an error of the API server.
func applyFailed(d *desired, err error) *failure {
	key := d.key()
	var status apierrors.APIStatus
	ofManagers := apierrors.IsConflict(err) && errors.As(err, &status) && status.Status().Details != nil &&
		slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Type == metav1.CauseTypeFieldManagerConflict })
	switch {
	case ofManagers:
		return failed(conflict, "RouteConflict", "%s: somebody else set a field that this document sets, and is not overruled: %v. %s", key, err, d.offer())
	case apierrors.HasStatusCause(err, "NamespaceTerminating"):
		return failed(refused, "", "%s: %v", key, err)
	case loop.Refused(err), strings.Contains(err.Error(), "field not declared in schema"):
		return failed(refused, "RouteRefused", "the API server refuses %s: %v", key, err)
	}
	return transient("%s: %v", key, err)
}
