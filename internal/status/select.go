package status

// Which of a cluster's routes are asked for, and which of them have changed.

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Labelled returns a function that reports whether a route has the labels that a selector asks for, nil for an
// empty selector.
func Labelled(ctx context.Context, config *rest.Config, namespace, selector string) (func(route.Key) bool, error) {
	if selector == "" {
		return nil, nil
	}
	if _, err := labels.Parse(selector); err != nil {
		return nil, fmt.Errorf("selector: Invalid value: %q: %w", selector, err)
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	found := map[route.Key]bool{}
	for kind, resource := range map[route.Kind]*feed.Kind{route.HTTPRoute: feed.HTTPRoutes, route.GRPCRoute: feed.GRPCRoutes, route.VirtualService: feed.VirtualServices} {
		list, err := client.Resource(resource.At("v1")).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, o := range list.Items {
			found[route.Key{Kind: kind, Namespace: o.Namespace, Name: o.Name}] = true
		}
	}
	return func(key route.Key) bool { return found[key] }, nil
}

// AllAre reports whether there are routes, and each of their mirrors is active, parked or synced.
func AllAre(routes []Route, condition string) bool {
	for _, r := range routes {
		for _, m := range r.Mirrors {
			if condition != "synced" && m.State != condition {
				return false
			}
		}
		if condition == "synced" && !r.Synced() {
			return false
		}
	}
	return len(routes) > 0
}

// Reasons returns why nothing decides about these routes, each reason once.
func (d Deciding) Reasons(routes []Route) []string {
	reasons := map[string]bool{}
	for _, r := range routes {
		if reason := d[r.Kind.Group()]; reason != "" {
			reasons[reason] = true
		}
	}
	return slices.Sorted(maps.Keys(reasons))
}

// Changes remembers the routes that were printed.
type Changes map[route.Key]Route

// Next returns the routes that are new or differ from the last time.
func (c Changes) Next(routes []Route) (changed []Route) {
	for _, r := range routes {
		if before, known := c[r.key()]; !known || !reflect.DeepEqual(before, r) {
			changed = append(changed, r)
		}
		c[r.key()] = r
	}
	return changed
}
