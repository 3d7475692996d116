package variant

// The kinds of objects a variant's state depends on: one table that the Index,
// the parser and the reflectors share.

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Kind is a kind of object that the Index models. It is a small number because
// every record carries one.
type Kind uint8

// The kinds that the Index models.
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

const appsGroup = "apps"

type kindInfo struct {
	name, group string
	// versions are the API versions that we understand, best first. Routes are
	// gated in v1 alone (matchPolicy Equivalent converts the others), so a route of
	// a cluster without v1 must not be touched either.
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
	KindRollout:         {"Rollout", wellknown.ArgoGroup, []string{"v1alpha1"}},
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

// Resource returns the plural, lower-case resource name.
func (k Kind) Resource() string {
	name := strings.ToLower(kinds[k].name)
	if strings.HasSuffix(name, "y") {
		return name[:len(name)-1] + "ies"
	}
	return name + "s"
}

// at is the kind's resource at a version.
func (k Kind) at(version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group(), Version: version, Resource: k.Resource()}
}

// Optional tells whether a CustomResourceDefinition brings the kind, so that a
// cluster may lack it.
func (k Kind) Optional() bool { return k >= KindRollout }

// crd is the name of the kind's CustomResourceDefinition.
func (k Kind) crd() string { return k.Resource() + "." + k.Group() }

// kindOf finds the kind of a group and kind name. Versions do not matter: the
// fields we read are the same in all of them.
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
