package removal

// The conditions that mirrorgate has written to routes.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Statuses takes mirrorgate's entries out of status.parents of every HTTPRoute and GRPCRoute, and out of status.ancestors
// of every BackendTLSPolicy, and returns the routes and policies
// that had one, as KIND NAMESPACE/NAME. The entries of other controllers stay as they are. A failure with one does not
// stop the others.
func (r Removal) Statuses(ctx context.Context) (found []string, err error) {
	for _, kind := range []*feed.Kind{feed.HTTPRoutes, feed.GRPCRoutes, feed.BackendTLSPolicies} {
		for _, version := range kind.Versions {
			names, served, failed := r.statusesOf(ctx, kind, version)
			if found, err = append(found, names...), errors.Join(err, failed); served {
				break
			}
		}
	}
	return found, err
}

func (r Removal) statusesOf(ctx context.Context, kind *feed.Kind, version string) (found []string, served bool, err error) {
	api := r.Routes.Resource(kind.At(version))
	list := "parents"
	if kind == feed.BackendTLSPolicies {
		list = "ancestors"
	}
	var errs []error
	for opts := (metav1.ListOptions{Limit: feed.PageSize}); ; {
		page, err := api.List(ctx, opts)
		if apierrors.IsNotFound(err) {
			return nil, false, nil // no such kind
		}
		if err != nil {
			return found, true, errors.Join(append(errs, fmt.Errorf("list %ss: %w", kind.Name, err))...)
		}
		for i := range page.Items {
			u := &page.Items[i]
			if _, has := othersEntries(u, list); !has {
				continue
			}
			name := kind.Name + " " + u.GetNamespace() + "/" + u.GetName()
			if err := r.clearStatus(ctx, api.Namespace(u.GetNamespace()), u, list); err != nil {
				errs = append(errs, fmt.Errorf("clear the status of %s: %w", name, err))
				continue
			}
			found = append(found, name)
		}
		if opts.Continue = page.GetContinue(); opts.Continue == "" {
			return found, true, errors.Join(errs...)
		}
	}
}

func (r Removal) clearStatus(ctx context.Context, api dynamic.ResourceInterface, u *unstructured.Unstructured, list string) error {
	if r.DryRun {
		return nil
	}
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		others, has := othersEntries(u, list)
		if !has {
			return nil
		}
		body, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": u.GetUID(), "resourceVersion": u.GetResourceVersion()},
			"status":   map[string]any{list: others},
		})
		if err != nil {
			return err
		}
		_, err = api.Patch(ctx, u.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, "status")
		if apierrors.IsConflict(err) {
			live, failed := api.Get(ctx, u.GetName(), metav1.GetOptions{})
			if failed != nil {
				return failed
			}
			u = live
		}
		return err
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// othersEntries returns the entries of a list in an object's status that are not mirrorgate's, and reports whether it
// has one that is.
func othersEntries(u *unstructured.Unstructured, list string) (others []any, has bool) {
	parents, _, _ := unstructured.NestedSlice(u.Object, "status", list)
	others = slices.DeleteFunc(slices.Clone(parents), func(p any) bool {
		entry, _ := p.(map[string]any)
		return entry["controllerName"] == wellknown.ControllerName
	})
	return append([]any{}, others...), len(others) < len(parents)
}
