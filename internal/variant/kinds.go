package variant

// The kinds of objects that a variant's state depends on: one table for the Index, the parser and the feeds.

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Kind is a kind of object that the Index models. It is a small number because every record has one.
type Kind uint8

// The kinds that the Index models. Those from KindRollout on are optional, those from KindHTTPRoute on are
// routes.
const (
	KindService Kind = iota
	KindDeployment
	KindStatefulSet
	KindDaemonSet
	KindReplicaSet
	KindPod
	KindEndpointSlice
	KindRollout
	KindDestinationRule
	KindServiceEntry
	KindReferenceGrant
	KindHTTPRoute
	KindGRPCRoute
	KindVirtualService
	kindCount
)

const (
	appsGroup = "apps"
	argoGroup = "argoproj.io"
)

type kindInfo struct {
	name, group string
	// versions are the API versions that mirrorgate reads, best first. Admission sees routes in v1 alone
	// (matchPolicy Equivalent converts the others), so the controller must not touch routes of another version.
	versions []string
}

var kinds = [kindCount]kindInfo{
	KindService:         {"Service", "", []string{"v1"}},
	KindDeployment:      {"Deployment", appsGroup, []string{"v1"}},
	KindStatefulSet:     {"StatefulSet", appsGroup, []string{"v1"}},
	KindDaemonSet:       {"DaemonSet", appsGroup, []string{"v1"}},
	KindReplicaSet:      {"ReplicaSet", appsGroup, []string{"v1"}},
	KindPod:             {"Pod", "", []string{"v1"}},
	KindEndpointSlice:   {"EndpointSlice", "discovery.k8s.io", []string{"v1"}},
	KindRollout:         {"Rollout", argoGroup, []string{"v1alpha1"}},
	KindDestinationRule: {"DestinationRule", route.IstioGroup, []string{"v1", "v1beta1", "v1alpha3"}},
	KindServiceEntry:    {"ServiceEntry", route.IstioGroup, []string{"v1", "v1beta1", "v1alpha3"}},
	KindReferenceGrant:  {"ReferenceGrant", route.GatewayGroup, []string{"v1", "v1beta1"}},
	KindHTTPRoute:       {"HTTPRoute", route.GatewayGroup, []string{"v1"}},
	KindGRPCRoute:       {"GRPCRoute", route.GatewayGroup, []string{"v1"}},
	KindVirtualService:  {"VirtualService", route.IstioGroup, []string{"v1"}},
}

// String returns the kind as the API spells it.
func (k Kind) String() string { return kinds[k].name }

// Group returns the kind's API group, "" for the core group.
func (k Kind) Group() string { return kinds[k].group }

// Resource returns the resource name: the plural in lower case.
func (k Kind) Resource() string {
	name := strings.ToLower(kinds[k].name)
	if strings.HasSuffix(name, "y") {
		return name[:len(name)-1] + "ies"
	}
	return name + "s"
}

// at returns the kind's resource in a version.
func (k Kind) at(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group(), Version: version, Resource: k.Resource()}
}

// Optional reports whether the kind comes from a CustomResourceDefinition, so that a cluster may lack it.
func (k Kind) Optional() bool { return k >= KindRollout }

// crd returns the name of the kind's CustomResourceDefinition.
func (k Kind) crd() string { return k.Resource() + "." + k.Group() }

// kindOf returns the kind with a group and a name, false for one that the Index does not model. The version
// does not matter: the fields that records need are the same in all versions.
func kindOf(group, name string) (Kind, bool) {
	for k, info := range kinds {
		if info.name == name && info.group == group {
			return Kind(k), true
		}
	}
	return 0, false
}

func kindOfRoute(k route.Kind) Kind {
	switch k {
	case route.HTTPRoute:
		return KindHTTPRoute
	case route.GRPCRoute:
		return KindGRPCRoute
	default:
		return KindVirtualService
	}
}
