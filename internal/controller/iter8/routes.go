package iter8

// Routes in the API, as raw JSON: a CRD may know more fields than a Go type.

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

type routes struct{ client dynamic.Interface }

func gvrOf(kind route.Kind) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: kind.Group(), Version: "v1", Resource: kind.Resource()}
}

// resource returns where routes of a kind are, or an error where the cluster has none.
func (routes) resource(k *kinds, kind route.Kind) (schema.GroupVersionResource, error) {
	gvr := gvrOf(kind)
	_, err := k.find(gvr.Resource + "." + gvr.Version + "." + gvr.Group)
	return gvr, err
}

func (r routes) of(key route.Key) dynamic.ResourceInterface {
	return r.client.Resource(gvrOf(key.Kind)).Namespace(key.Namespace)
}

func (r routes) get(ctx context.Context, key route.Key) (*unstructured.Unstructured, error) {
	return r.of(key).Get(ctx, key.Name, metav1.GetOptions{})
}

func (r routes) apply(ctx context.Context, key route.Key, body []byte) (*unstructured.Unstructured, error) {
	return r.of(key).Patch(ctx, key.Name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: wellknown.FieldManager})
}

// release gives up everything that was applied to a route.
func (r routes) release(ctx context.Context, key route.Key, uid types.UID) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": key.Kind.Group() + "/v1", "kind": string(key.Kind),
		"metadata": map[string]any{"name": key.Name, "namespace": key.Namespace, "uid": uid},
	})
	if err != nil {
		return err
	}
	_, err = r.apply(ctx, key, body)
	return err
}

// clean removes our annotations.
func (r routes) clean(ctx context.Context, key route.Key, uid types.UID) (*unstructured.Unstructured, error) {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": uid, "annotations": map[string]any{route.VariantsAnnotation: nil, route.ParkedAnnotation: nil},
	}})
	if err != nil {
		return nil, err
	}
	return r.of(key).Patch(ctx, key.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: wellknown.FieldManager})
}

// withUID makes an application hold for one object alone.
func withUID(body []byte, uid types.UID) []byte {
	var object map[string]any
	if json.Unmarshal(body, &object) != nil {
		return body
	}
	object["metadata"].(map[string]any)["uid"] = string(uid)
	raw, err := json.Marshal(object)
	if err != nil {
		return body
	}
	return raw
}

// managersOf returns who else sets fields of a route's spec.
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

// appliedByUs tells whether a document's route is as one of ours leaves it.
func appliedByUs(object *unstructured.Unstructured) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == wellknown.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply
	})
}

func sets(entry metav1.ManagedFieldsEntry, field string) bool {
	var fields map[string]json.RawMessage
	if entry.FieldsV1 == nil || json.Unmarshal([]byte(entry.FieldsV1.GetRawString()), &fields) != nil {
		return false
	}
	_, ok := fields[field]
	return ok
}
