package iter8

// The objects that variants consist of, and the routes, reduced to the parts that decide.

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// watched is the part of an object that is kept.
type watched struct {
	metav1.ObjectMeta
	// scales is set for an object with replicas.
	scales, scaledToZero bool
	readyReplicas        int64
	conditions           []condition
	// attachment are the fields of a route that say which clients see it.
	attachment map[string]any
}

type condition struct {
	name   string
	isTrue bool
}

// reduce converts an object to a watched one; it is the transform of the informers.
func reduce(object any) (any, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	o := &watched{ObjectMeta: metav1.ObjectMeta{
		Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
		Generation: u.GetGeneration(), DeletionTimestamp: u.GetDeletionTimestamp(), OwnerReferences: u.GetOwnerReferences(),
	}}
	for _, name := range []string{documents.WeightAnnotation, route.DocumentAnnotation} {
		if value, ok := u.GetAnnotations()[name]; ok {
			metav1.SetMetaDataAnnotation(&o.ObjectMeta, name, value)
		}
	}
	if spec, _ := u.Object["spec"].(map[string]any); o.Annotations[route.DocumentAnnotation] != "" {
		o.attachment = map[string]any{}
		for _, name := range attachmentFields {
			if value, ok := spec[name]; ok {
				o.attachment[name] = runtime.DeepCopyJSONValue(value)
			}
		}
	}
	replicas, found, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	o.scales, o.scaledToZero = found, found && replicas == 0
	o.readyReplicas, _, _ = unstructured.NestedInt64(u.Object, "status", "readyReplicas")
	if scheduled, found, _ := unstructured.NestedInt64(u.Object, "status", "desiredNumberScheduled"); found { // a DaemonSet
		o.scales, o.scaledToZero = true, scheduled == 0
		o.readyReplicas, _, _ = unstructured.NestedInt64(u.Object, "status", "numberReady")
	}
	o.conditions = conditionsOf(u)
	return o, nil
}

// conditionsOf returns the conditions Ready and Available. One of an older generation counts as false.
func conditionsOf(u *unstructured.Unstructured) []condition {
	observed, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var found []condition
	for _, item := range list {
		fields, _ := item.(map[string]any)
		name, _ := fields["type"].(string)
		if name != "Ready" && name != "Available" {
			continue
		}
		generation, ok, _ := unstructured.NestedInt64(fields, "observedGeneration")
		if !ok {
			generation = observed
		}
		current := generation == 0 || generation >= u.GetGeneration()
		found = append(found, condition{name, fields["status"] == "True" && current})
	}
	return found
}
