// Package removal takes mirrorgate out of a cluster: first the webhook configurations, so that nothing after
// them can block a write, then proxies, and then the traces in routes.
package removal

import (
	"bytes"
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

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// fieldManager is the field manager of the writes of an uninstallation.
const fieldManager = "mirrorgate-uninstall"

// Removal removes mirrorgate from the cluster of its clients.
type Removal struct {
	Client kubernetes.Interface
	Routes dynamic.Interface
	// Restore writes parked mirrors back into their routes, RestoreLimited gives limited ones the percentage that they
	// declare.
	Restore, RestoreLimited bool
	// DryRun changes nothing.
	DryRun bool
}

// Route is a route with parked or limited mirrors. Says tells the outcome, in words for the user.
type Route struct {
	Kind            route.Kind
	Namespace, Name string
	Says            string
}

// routes are the resources that may hold them. The first version that is served counts.
var routes = [][]schema.GroupVersionResource{
	{feed.HTTPRoutes.At("v1")},
	{feed.GRPCRoutes.At("v1")},
	{feed.VirtualServices.At("v1"), feed.VirtualServices.At("v1beta1")},
}

// Webhooks deletes all webhook configurations of mirrorgate, those that a crashed `mirrorgate serve
// --webhook-url` left behind too, and returns them. The validating ones go first, since they can block a write.
func (r Removal) Webhooks(ctx context.Context) ([]webhook.Registered, error) {
	found, err := webhook.Configurations(ctx, r.Client)
	if err != nil {
		return nil, err
	}
	for _, c := range found {
		if err := c.Delete(ctx, r.Client, r.DryRun); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Mirrors returns all routes with parked or limited mirrors, and restores those that it should. A failure with one does not
// stop the others.
func (r Removal) Mirrors(ctx context.Context) ([]Route, error) {
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
				if marked(&list.Items[i]) {
					one, err := r.route(ctx, gvr, &list.Items[i])
					found, errs = append(found, one...), append(errs, err)
				}
			}
			break
		}
	}
	return found, errors.Join(errs...)
}

// marked reports whether a route has an annotation or, in its spec, a mark of mirrorgate's. A mirror that was limited in its
// author's own write has the mark alone.
func marked(u *unstructured.Unstructured) bool {
	notes := u.GetAnnotations()
	if notes[route.ParkedAnnotation] != "" || notes[route.VariantsAnnotation] != "" {
		return true
	}
	spec, err := json.Marshal(u.Object["spec"])
	return err == nil && bytes.Contains(spec, []byte(route.LimitedPrefix))
}

// route returns the parked and limited mirrors of a route, and restores those that it should. An API server may call a
// webhook for a while after it was deleted, which parks the mirrors again, so the answer is checked, and the
// write repeated.
func (r Removal) route(ctx context.Context, gvr schema.GroupVersionResource, u *unstructured.Unstructured) ([]Route, error) {
	var says string
	var kind route.Kind
	namespace, name := u.GetNamespace(), u.GetName()
	api := r.Routes.Resource(gvr).Namespace(namespace)
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		rt, edits, err := r.restoration(u)
		if err != nil {
			return false, err
		}
		if says == "" {
			kind, says = rt.Kind, r.says(rt)
		}
		if r.DryRun || len(edits) == 1 {
			return true, nil
		}
		body, err := json.Marshal(edits)
		if err != nil {
			return false, err
		}
		after, err := api.Patch(ctx, name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: fieldManager})
		if err == nil {
			_, left, err := r.restoration(after)
			if err == nil && len(left) == 1 {
				return true, nil
			}
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
	return []Route{{kind, namespace, name, says}}, nil
}

// restoration returns the operations that restore the mirrors that should be, and remove mirrorgate's annotations once no
// mirror needs them. They fail when the route was written meanwhile. When there is nothing to do there is one operation.
func (r Removal) restoration(u *unstructured.Unstructured) (*route.Route, []patch.Operation, error) {
	raw, err := u.MarshalJSON()
	if err != nil {
		return nil, nil, err
	}
	rt, err := route.Decode(raw, route.Options{})
	if err != nil {
		return nil, nil, err
	}
	stay := false
	plan, err := rt.PlanShares(func(m *route.Mirror) (at route.Placement) {
		at.Parked = m.Parked && !r.Restore
		if !r.RestoreLimited {
			at.Share = m.Limit()
		}
		stay = stay || at.Parked || at.Share > 0
		return at
	})
	if err != nil {
		return nil, nil, err
	}
	edits := append([]patch.Operation{{Operation: "test", Path: "/metadata/resourceVersion", Value: u.GetResourceVersion()}}, plan.Operations...)
	if u.GetAnnotations()[route.VariantsAnnotation] != "" && len(plan.Misfits) == 0 && !stay && (r.Restore || r.RestoreLimited) {
		at := patch.Pointer("/metadata/annotations").Key(route.VariantsAnnotation)
		// First, while the annotations are as they were read.
		edits = slices.Insert(edits, 1, patch.Remove(at))
	}
	for id, why := range plan.Misfits {
		return nil, nil, fmt.Errorf("mirror %s cannot be restored: %s", id, why)
	}
	return rt, edits, nil
}

// says names the parked and limited mirrors of a route, and what becomes of them.
func (r Removal) says(rt *route.Route) string {
	var parked, limited, out []string
	for _, m := range rt.Every {
		switch {
		case m.Parked:
			parked = append(parked, m.Target.Name)
		case m.Limit() > 0:
			limited = append(limited, fmt.Sprintf("%s at %s %% of %s %%", m.Target.Name, m.Limit(), route.ShareOf(m.Percentage.Percent())))
		}
	}
	for _, list := range []struct {
		names       []string
		restored    bool
		keeps, back string
	}{{parked, r.Restore, "keeps parked ", "restored "}, {limited, r.RestoreLimited, "keeps limited ", "gave the declared percentage back to "}} {
		switch {
		case len(list.names) == 0:
		case list.restored:
			out = append(out, list.back+strings.Join(list.names, ", "))
		default:
			out = append(out, list.keeps+strings.Join(list.names, ", "))
		}
	}
	return strings.Join(out, "; ")
}
