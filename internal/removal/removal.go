// Package removal takes mirrorgate out of a cluster: first the webhook
// configurations, so that nothing after them can block a write, then what is left
// in routes.
package removal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

// Removal is what is removed, from where, and how.
type Removal struct {
	Client kubernetes.Interface
	Routes dynamic.Interface
	// Name is that of both webhook configurations.
	Name string
	// Restore writes parked mirrors back into their routes.
	Restore bool
	// DryRun changes nothing.
	DryRun bool
}

// Route is a route with parked mirrors, and what became of them.
type Route struct {
	Kind            route.Kind
	Namespace, Name string
	Says            string
}

// routes are the resources that may hold parked mirrors; the first version that
// is served counts.
var routes = [][]schema.GroupVersionResource{
	{{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}},
	{{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "grpcroutes"}},
	{
		{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"},
		{Group: "networking.istio.io", Version: "v1beta1", Resource: "virtualservices"},
	},
}

// Webhooks deletes both configurations and says whether there was one; what is not there is no error.
// The validating one goes first: it is the one that can block a write.
func (r Removal) Webhooks(ctx context.Context) (found bool, err error) {
	options := metav1.DeleteOptions{}
	if r.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	api := r.Client.AdmissionregistrationV1()
	for _, c := range []struct {
		kind   string
		remove func(context.Context, string, metav1.DeleteOptions) error
	}{
		{"ValidatingWebhookConfiguration", api.ValidatingWebhookConfigurations().Delete},
		{"MutatingWebhookConfiguration", api.MutatingWebhookConfigurations().Delete},
	} {
		err := c.remove(ctx, r.Name, options)
		if err != nil && !apierrors.IsNotFound(err) {
			return found, fmt.Errorf("delete %s %q: %w", c.kind, r.Name, err)
		}
		found = found || err == nil
	}
	return found, nil
}

// Parked goes through all routes with parked mirrors, and restores them if told
// to. One that fails does not keep the others from it.
func (r Removal) Parked(ctx context.Context) ([]Route, error) {
	var found []Route
	var errs []error
	for _, versions := range routes {
		for _, gvr := range versions {
			list, err := r.Routes.Resource(gvr).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("list %s: %w", gvr.Resource, err))
				break
			}
			for i := range list.Items {
				if touched(&list.Items[i]) {
					one, err := r.route(ctx, gvr, &list.Items[i])
					found, errs = append(found, one...), append(errs, err)
				}
			}
			break
		}
	}
	return found, errors.Join(errs...)
}

func touched(u *unstructured.Unstructured) bool {
	notes := u.GetAnnotations()
	return notes[route.ParkedAnnotation] != "" || notes[route.VariantsAnnotation] != ""
}

// route lists what a route has parked, or restores it. A webhook that an API
// server has not yet heard the end of may park it again, so the answer is
// checked, and the write repeated.
func (r Removal) route(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) ([]Route, error) {
	var says string
	var kind route.Kind
	namespace, name := u.GetNamespace(), u.GetName()
	api := r.Routes.Resource(gvr).Namespace(namespace)
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		doc, edits, err := plan(u)
		if err != nil {
			return false, err
		}
		if says == "" {
			kind, says = doc.Kind, targets(doc)
		}
		if !r.Restore || r.DryRun || len(edits) == 1 {
			return true, nil
		}
		body, err := json.Marshal(edits)
		if err != nil {
			return false, err
		}
		after, err := api.Patch(ctx, name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: "mirrorgate-uninstall"})
		if err == nil && !touched(after) {
			return true, nil
		}
		if apierrors.IsNotFound(err) {
			says = ""
			return true, nil
		}
		if u, err = api.Get(ctx, name, metav1.GetOptions{}); err != nil {
			return apierrors.IsNotFound(err), err
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("restore %s %s/%s: %w", gvr.Resource, namespace, name, err)
	}
	if says == "" {
		return nil, nil
	}
	if r.Restore {
		says = "restored " + says
	} else {
		says = "keeps parked " + says
	}
	return []Route{{kind, namespace, name, says}}, nil
}

// plan is what it takes to bring every mirror back and to remove our
// annotations; it fails when the route was written meanwhile, and is one
// operation when there is nothing to do.
func plan(u *unstructured.Unstructured) (*route.Route, []patch.Operation, error) {
	raw, err := u.MarshalJSON()
	if err != nil {
		return nil, nil, err
	}
	doc, err := route.Decode(raw, route.Options{})
	if err != nil {
		return nil, nil, err
	}
	plan, err := doc.Plan(func(*route.Mirror) bool { return false })
	if err != nil {
		return nil, nil, err
	}
	edits := append([]patch.Operation{{Operation: "test", Path: "/metadata/resourceVersion", Value: u.GetResourceVersion()}}, plan.Operations...)
	if u.GetAnnotations()[route.VariantsAnnotation] != "" && len(plan.Misfits) == 0 {
		at := patch.Pointer("/metadata/annotations").Key(route.VariantsAnnotation)
		// First, while the annotations are as they were read.
		edits = slices.Insert(edits, 1, patch.Remove(at))
	}
	for id, why := range plan.Misfits {
		return nil, nil, fmt.Errorf("mirror %s cannot be restored: %s", id, why)
	}
	return doc, edits, nil
}

// targets names the parked mirrors of a route.
func targets(doc *route.Route) string {
	var names []string
	for _, m := range doc.Every {
		if m.Parked {
			names = append(names, m.Target.Name)
		}
	}
	return strings.Join(names, ", ")
}
