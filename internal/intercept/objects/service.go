package objects

// From a Service of the API to the plain values that decisions are made of.

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
)

// Read returns the part of a Service that decisions depend on. It shares the maps of o.
func Read(o *corev1.Service) *intercept.Service {
	s := &intercept.Service{
		Name: o.Name, Labels: o.Labels, Annotations: o.Annotations,
		Selector: o.Spec.Selector, Ports: ports(o.Spec.Ports), Type: string(o.Spec.Type), ClusterIP: o.Spec.ClusterIP,
		InternalTrafficPolicy:    string(ptr.Deref(o.Spec.InternalTrafficPolicy, "")),
		ExternalTrafficPolicy:    string(o.Spec.ExternalTrafficPolicy),
		PublishNotReadyAddresses: o.Spec.PublishNotReadyAddresses,
	}
	for i := range o.OwnerReferences {
		of := schema.FromAPIVersionAndKind(o.OwnerReferences[i].APIVersion, o.OwnerReferences[i].Kind)
		s.Owners = append(s.Owners, intercept.Owner{Group: of.Group, Kind: of.Kind})
	}
	return s
}

func ports(from []corev1.ServicePort) []intercept.ServicePort {
	out := make([]intercept.ServicePort, len(from))
	for i := range from {
		out[i] = intercept.ServicePort{Port: from[i].Port, TargetPort: from[i].TargetPort, Protocol: string(from[i].Protocol)}
	}
	return out
}
