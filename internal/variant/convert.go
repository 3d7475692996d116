package variant

// From typed objects to records. A record copies the few values that it needs, so that the object itself can
// be freed.

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

const serviceLabel = discoveryv1.LabelServiceName

// toRecord converts an object of a type that Upsert takes. A kind that the Index does not model gives nil.
func (i *Index) toRecord(obj any) (record, error) {
	switch o := obj.(type) {
	case record:
		return o, nil
	case json.RawMessage:
		return i.parse(o)
	case *unstructured.Unstructured:
		raw, err := o.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("%s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
		return i.parse(raw)
	default:
		return fromTyped(obj), nil
	}
}

// fromTyped converts a typed object, or a pod's metadata; anything else gives nil.
func fromTyped(obj any) record {
	switch o := obj.(type) {
	case *corev1.Service:
		return fromService(o)
	case *appsv1.Deployment:
		return fromWorkload(KindDeployment, o, &o.Spec.Template, o.Spec.Replicas)
	case *appsv1.StatefulSet:
		return fromWorkload(KindStatefulSet, o, &o.Spec.Template, o.Spec.Replicas)
	case *appsv1.DaemonSet:
		return fromWorkload(KindDaemonSet, o, &o.Spec.Template, nil)
	case *appsv1.ReplicaSet:
		w := fromWorkload(KindReplicaSet, o, &o.Spec.Template, o.Spec.Replicas)
		w.controlled = controlledBy(o, KindDeployment, KindRollout)
		return w
	case *corev1.Pod:
		return fromPod(o)
	case *metav1.PartialObjectMetadata:
		if o.Kind == "" || o.Kind == KindPod.String() {
			return fromPod(o)
		}
		if o.Kind == KindNamespace.String() {
			return fromNamespace(o)
		}
	case *discoveryv1.EndpointSlice:
		return fromSlice(o)
	}
	return nil
}

func idOf(kind Kind, o metav1.Object) id {
	return id{kind, types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}}
}

func fromService(o *corev1.Service) *service {
	s := &service{
		id:           idOf(KindService, o),
		selector:     newLabels(o.Spec.Selector),
		externalName: o.Spec.Type == corev1.ServiceTypeExternalName,
		deleting:     o.DeletionTimestamp != nil,
	}
	if s.externalName {
		s.alias = strings.Clone(o.Spec.ExternalName) // Istio takes it as it is, also with a dot at the end
	}
	for _, p := range o.Spec.Ports {
		s.ports = append(s.ports, policy.Port{Name: unique.Make(p.Name).Value(), Number: p.Port})
	}
	return s
}

func fromWorkload(kind Kind, o metav1.Object, template *corev1.PodTemplateSpec, replicas *int32) *workload {
	return &workload{
		id:       idOf(kind, o),
		labels:   newLabels(template.Labels),
		idle:     ptr.Deref(replicas, 1) == 0,
		deleting: o.GetDeletionTimestamp() != nil,
		since:    o.GetCreationTimestamp().Time,
	}
}

// fromPod converts a pod, or its metadata. Readiness comes from EndpointSlices. Whether a controlled pod is
// being deleted matters only for a pod that was read live and stands for its workload: the pods of a deleted
// workload may take minutes to end.
func fromPod(o metav1.Object) *workload {
	return &workload{
		id:         idOf(KindPod, o),
		labels:     newLabels(o.GetLabels()),
		controlled: controlledBy(o, KindReplicaSet, KindStatefulSet, KindDaemonSet),
		deleting:   o.GetDeletionTimestamp() != nil,
		since:      o.GetCreationTimestamp().Time,
	}
}

// controlledBy reports whether a workload of one of these kinds controls the object.
func controlledBy(o metav1.Object, by ...Kind) bool {
	owner := metav1.GetControllerOfNoCopy(o)
	if owner == nil {
		return false
	}
	kind, known := kindOf(groupOf(owner.APIVersion), owner.Kind)
	return known && slices.Contains(by, kind)
}

func fromSlice(o *discoveryv1.EndpointSlice) *slice {
	s := &slice{id: idOf(KindEndpointSlice, o), service: o.Labels[serviceLabel]}
	switch o.AddressType {
	case discoveryv1.AddressTypeIPv6:
		s.family = ipv6
	case discoveryv1.AddressTypeFQDN:
		s.family = fqdn
	}
	for _, p := range o.Ports {
		s.ports = append(s.ports, unique.Make(ptr.Deref(p.Name, "")).Value())
	}
	slices.Sort(s.ports)
	s.ports = slices.Compact(s.ports)
	for n := range o.Endpoints {
		e := &o.Endpoints[n]
		s.total++
		switch {
		case !ptr.Deref(e.Conditions.Ready, true):
			if e.TargetRef != nil && e.TargetRef.Kind == KindPod.String() {
				s.unready = append(s.unready, e.TargetRef.Name)
			}
		case e.TargetRef != nil && e.TargetRef.Kind == KindPod.String():
			s.ready = append(s.ready, e.TargetRef.Name)
		default:
			s.anonymous++
		}
	}
	slices.Sort(s.ready)
	s.ready = slices.Clip(slices.Compact(s.ready))
	// The time stays zero where the annotation is missing or malformed.
	s.changed, _ = time.Parse(time.RFC3339Nano, o.Annotations[corev1.EndpointsLastChangeTriggerTime])
	return s
}
