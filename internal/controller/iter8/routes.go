package iter8

// Routes of the API server, as raw JSON: a CRD may have more fields than a Go type.

import (
	"context"
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

type routes struct{ objects dynamic.Interface }

func gvrOf(kind route.Kind) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: kind.Group(), Version: "v1", Resource: kind.Resource()}
}

// resource returns the resource of a kind of routes, or an error where the cluster has none.
func (routes) resource(k *kinds, kind route.Kind) (schema.GroupVersionResource, error) {
	gvr := gvrOf(kind)
	_, err := k.find(gvr.Resource + "." + gvr.Version + "." + gvr.Group)
	return gvr, err
}

func (r routes) client(key route.Key) dynamic.ResourceInterface {
	return r.objects.Resource(gvrOf(key.Kind)).Namespace(key.Namespace)
}

func (r routes) get(ctx context.Context, key route.Key) (*unstructured.Unstructured, error) {
	return r.client(key).Get(ctx, key.Name, metav1.GetOptions{})
}

// apply applies a body. With force it takes the fields that somebody else set.
func (r routes) apply(ctx context.Context, key route.Key, body []byte, force bool) (*unstructured.Unstructured, error) {
	return r.client(key).Patch(ctx, key.Name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: wellknown.FieldManager, Force: &force})
}

// release gives up all fields that were applied to a route.
func (r routes) release(ctx context.Context, key route.Key, uid types.UID) error {
	_, err := r.apply(ctx, key, encode(map[string]any{
		"apiVersion": key.Kind.Group() + "/v1", "kind": string(key.Kind),
		"metadata": map[string]any{"name": key.Name, "namespace": key.Namespace, "uid": uid},
	}), false)
	return err
}

// clean removes the annotations that admission writes.
func (r routes) clean(ctx context.Context, key route.Key, uid types.UID) (*unstructured.Unstructured, error) {
	body := encode(map[string]any{"metadata": map[string]any{
		"uid": uid, "annotations": map[string]any{route.VariantsAnnotation: nil, route.ParkedAnnotation: nil},
	}})
	return r.client(key).Patch(ctx, key.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: wellknown.FieldManager})
}

// encode returns the JSON of an object that consists of JSON values, which cannot fail.
func encode(object map[string]any) []byte {
	raw, _ := json.Marshal(object)
	return raw
}

// annotated reports whether a route has annotations that admission writes.
func annotated(object *unstructured.Unstructured) bool {
	annotations := object.GetAnnotations()
	_, parked := annotations[route.ParkedAnnotation]
	_, variants := annotations[route.VariantsAnnotation]
	return parked || variants
}

// managersOf returns the other field managers that set fields of a route's spec.
func managersOf(object *unstructured.Unstructured) []string {
	var names []string
	for _, entry := range object.GetManagedFields() {
		if entry.Manager != wellknown.FieldManager && entry.Subresource == "" && sets(entry, "f:spec") {
			names = append(names, entry.Manager)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// appliedByMirrorgate reports whether mirrorgate has applied a route.
func appliedByMirrorgate(object *unstructured.Unstructured) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == wellknown.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply
	})
}

// sets reports whether an entry owns a field of the object, or fields below it.
func sets(entry metav1.ManagedFieldsEntry, field string) bool {
	var fields map[string]json.RawMessage
	if entry.FieldsV1 == nil || json.Unmarshal([]byte(entry.FieldsV1.GetRawString()), &fields) != nil {
		return false
	}
	_, ok := fields[field]
	return ok
}
