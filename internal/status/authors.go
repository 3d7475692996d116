package status

// Who wrote a route, and when its stored form last changed, by the managed fields that the API server keeps.

import (
	"context"
	"encoding/json"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Author is who wrote the rules of a route.
type Author struct {
	Manager string
	// Since is the time of that write, or of mirrorgate's touch if that came later; nil where neither is known.
	Since *time.Time
}

// Authors returns who wrote each route of a namespace, "" for all.
func Authors(ctx context.Context, config *rest.Config, namespace string) (map[route.Key]Author, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	found := map[route.Key]Author{}
	for kind, resource := range map[route.Kind]*feed.Kind{route.HTTPRoute: feed.HTTPRoutes, route.GRPCRoute: feed.GRPCRoutes, route.VirtualService: feed.VirtualServices} {
		list, err := client.Resource(resource.At("v1")).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			o := &list.Items[i]
			found[route.Key{Kind: kind, Namespace: o.Namespace, Name: o.Name}] = authorOf(o.ManagedFields)
		}
	}
	return found, nil
}

// authorOf finds the author in managed fields. Of several owners of the rules the latest counts.
func authorOf(entries []metav1.ManagedFieldsEntry) (a Author) {
	var wrote time.Time
	for _, e := range entries {
		if e.Time == nil || e.Subresource != "" {
			continue
		}
		owns := ownsRules(e.FieldsV1)
		if owns && !e.Time.Time.Before(wrote) {
			a.Manager, wrote = e.Manager, e.Time.Time
		}
		if (owns || e.Manager == wellknown.FieldManager) && (a.Since == nil || e.Time.After(*a.Since)) {
			a.Since = new(e.Time.UTC())
		}
	}
	return a
}

func ownsRules(fields *metav1.FieldsV1) bool {
	if fields == nil {
		return false
	}
	var owned struct {
		Spec map[string]json.RawMessage `json:"f:spec"`
	}
	if json.Unmarshal(fields.GetRawBytes(), &owned) != nil {
		return false
	}
	return owned.Spec["f:rules"] != nil || owned.Spec["f:http"] != nil
}
