package feed

// The kinds of objects that feeds read.

import (
	"encoding/json"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Kind is a kind of object of the API.
type Kind struct {
	Name, Group, Resource string
	// Versions are the API versions that mirrorgate reads, best first. Admission sees routes in v1 alone
	// (matchPolicy Equivalent converts the others), so the controller must not touch routes of another
	// version.
	Versions []string
	// object and list make empty ones of a kind that is read as protobuf.
	object, list func() runtime.Object
	// metadata is set where nothing but the metadata is read.
	metadata bool
}

// The kinds.
var (
	Services       = typed[corev1.Service, corev1.ServiceList]("Service", "", "services")
	Deployments    = typed[appsv1.Deployment, appsv1.DeploymentList]("Deployment", appsv1.GroupName, "deployments")
	StatefulSets   = typed[appsv1.StatefulSet, appsv1.StatefulSetList]("StatefulSet", appsv1.GroupName, "statefulsets")
	DaemonSets     = typed[appsv1.DaemonSet, appsv1.DaemonSetList]("DaemonSet", appsv1.GroupName, "daemonsets")
	ReplicaSets    = typed[appsv1.ReplicaSet, appsv1.ReplicaSetList]("ReplicaSet", appsv1.GroupName, "replicasets")
	EndpointSlices = typed[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList]("EndpointSlice", discoveryv1.GroupName, "endpointslices")
	ConfigMaps     = typed[corev1.ConfigMap, corev1.ConfigMapList]("ConfigMap", "", "configmaps")
	ProxyPods      = typed[corev1.Pod, corev1.PodList]("Pod", "", "pods")

	Pods       = &Kind{Name: "Pod", Resource: "pods", Versions: []string{"v1"}, metadata: true}
	Namespaces = &Kind{Name: "Namespace", Resource: "namespaces", Versions: []string{"v1"}, metadata: true}
	CRDs       = &Kind{
		Name: "CustomResourceDefinition", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions",
		Versions: []string{"v1"}, metadata: true,
	}

	Rollouts           = &Kind{Name: "Rollout", Group: wellknown.ArgoGroup, Resource: "rollouts", Versions: []string{"v1alpha1"}}
	Canaries           = &Kind{Name: "Canary", Group: wellknown.FlaggerGroup, Resource: "canaries", Versions: []string{"v1beta1"}}
	DestinationRules   = &Kind{Name: "DestinationRule", Group: route.IstioGroup, Resource: "destinationrules", Versions: []string{"v1", "v1beta1", "v1alpha3"}}
	ServiceEntries     = &Kind{Name: "ServiceEntry", Group: route.IstioGroup, Resource: "serviceentries", Versions: []string{"v1", "v1beta1", "v1alpha3"}}
	IstioGateways      = &Kind{Name: "Gateway", Group: route.IstioGroup, Resource: "gateways", Versions: []string{"v1", "v1beta1", "v1alpha3"}}
	Gateways           = &Kind{Name: "Gateway", Group: route.GatewayGroup, Resource: "gateways", Versions: []string{"v1", "v1beta1"}}
	GatewayClasses     = &Kind{Name: "GatewayClass", Group: route.GatewayGroup, Resource: "gatewayclasses", Versions: []string{"v1", "v1beta1"}}
	ReferenceGrants    = &Kind{Name: "ReferenceGrant", Group: route.GatewayGroup, Resource: "referencegrants", Versions: []string{"v1", "v1beta1"}}
	HTTPRoutes         = &Kind{Name: "HTTPRoute", Group: route.GatewayGroup, Resource: "httproutes", Versions: []string{"v1"}}
	GRPCRoutes         = &Kind{Name: "GRPCRoute", Group: route.GatewayGroup, Resource: "grpcroutes", Versions: []string{"v1"}}
	BackendTLSPolicies = &Kind{Name: "BackendTLSPolicy", Group: route.GatewayGroup, Resource: "backendtlspolicies", Versions: []string{"v1", "v1alpha3"}}
	MirrorLimits       = &Kind{Name: "MirrorLimit", Group: v1alpha1.GroupVersion.Group, Resource: "mirrorlimits", Versions: []string{"v1alpha1"}}
	MirrorPolicies     = &Kind{Name: "MirrorPolicy", Group: v1alpha1.GroupVersion.Group, Resource: "mirrorpolicies", Versions: []string{"v1alpha1"}}
	VirtualServices    = &Kind{Name: "VirtualService", Group: route.IstioGroup, Resource: "virtualservices", Versions: []string{"v1"}}
)

// typed returns a kind that every cluster has, with the Go types of its objects and lists.
func typed[O, L any, PO interface {
	*O
	runtime.Object
}, PL interface {
	*L
	runtime.Object
}](name, group, resource string) *Kind {
	return &Kind{
		Name: name, Group: group, Resource: resource, Versions: []string{"v1"},
		object: func() runtime.Object { return PO(new(O)) },
		list:   func() runtime.Object { return PL(new(L)) },
	}
}

// New returns an empty object of a kind that is not read as JSON.
func (k *Kind) New() runtime.Object {
	if k.metadata {
		return &metav1.PartialObjectMetadata{}
	}
	return k.object()
}

// Optional reports whether the kind comes from a CustomResourceDefinition, so that a cluster may lack it.
func (k *Kind) Optional() bool { return k.object == nil && !k.metadata }

// At returns the kind's resource in a version.
func (k *Kind) At(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: version, Resource: k.Resource}
}

// Source returns a source of the kind's objects in a version. convert gets them as their Go type, as
// *metav1.PartialObjectMetadata where nothing but the metadata is read, and else as json.RawMessage; it must
// not keep them.
func (k *Kind) Source(client *Client, version string, convert func(object any) any) Source {
	at := resource{k.At(version), client}
	switch {
	case k.metadata:
		return &metadataSource{client: client.Metadata.Resource(at.GroupVersionResource), convert: convert}
	case k.object != nil:
		return &typedSource{resource: at, object: k.object, list: k.list, convert: convert}
	default:
		return &rawSource{resource: at, convert: func(raw []byte) any { return convert(json.RawMessage(raw)) }}
	}
}
