package variant

// The kinds of objects that a variant's state depends on: one table for the Index, the parser and the feeds.

import (
	"github.com/mirrorgate/mirrorgate/internal/feed"
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
	KindNamespace
	KindRollout
	KindCanary
	KindDestinationRule
	KindServiceEntry
	KindReferenceGrant
	KindIstioGateway
	KindGateway
	KindGatewayClass
	KindMirrorLimit
	KindMirrorPolicy
	KindHTTPRoute
	KindGRPCRoute
	KindVirtualService
	kindCount
)

var kinds = [kindCount]*feed.Kind{
	KindService:         feed.Services,
	KindDeployment:      feed.Deployments,
	KindStatefulSet:     feed.StatefulSets,
	KindDaemonSet:       feed.DaemonSets,
	KindReplicaSet:      feed.ReplicaSets,
	KindPod:             feed.Pods,
	KindEndpointSlice:   feed.EndpointSlices,
	KindNamespace:       feed.Namespaces,
	KindRollout:         feed.Rollouts,
	KindCanary:          feed.Canaries,
	KindDestinationRule: feed.DestinationRules,
	KindServiceEntry:    feed.ServiceEntries,
	KindReferenceGrant:  feed.ReferenceGrants,
	KindIstioGateway:    feed.IstioGateways,
	KindGateway:         feed.Gateways,
	KindGatewayClass:    feed.GatewayClasses,
	KindMirrorLimit:     feed.MirrorLimits,
	KindMirrorPolicy:    feed.MirrorPolicies,
	KindHTTPRoute:       feed.HTTPRoutes,
	KindGRPCRoute:       feed.GRPCRoutes,
	KindVirtualService:  feed.VirtualServices,
}

// String returns the kind as the API spells it.
func (k Kind) String() string { return kinds[k].Name }

// Unique returns the kind as the API spells it, with the group where another kind has the same name.
func (k Kind) Unique() string {
	if k == KindIstioGateway {
		return k.String() + "." + k.Group()
	}
	return k.String()
}

// Group returns the kind's API group, "" for the core group.
func (k Kind) Group() string { return kinds[k].Group }

// Resource returns the resource name: the plural in lower case, with the group where another kind has the same.
func (k Kind) Resource() string {
	if k == KindIstioGateway {
		return kinds[k].Resource + "." + kinds[k].Group
	}
	return kinds[k].Resource
}

// Optional reports whether the kind comes from a CustomResourceDefinition, so that a cluster may lack it.
func (k Kind) Optional() bool { return k >= KindRollout }

// ClusterScoped reports whether objects of the kind are in no namespace.
func (k Kind) ClusterScoped() bool {
	return k == KindNamespace || k == KindGatewayClass || k == KindMirrorLimit
}

// crd returns the name of the kind's CustomResourceDefinition.
func (k Kind) crd() string { return kinds[k].Resource + "." + kinds[k].Group }

// kindOf returns the kind with a group and a name, false for one that the Index does not model. The version
// does not matter: the fields that records need are the same in all versions.
func kindOf(group, name string) (Kind, bool) {
	for k, info := range kinds {
		if info.Name == name && info.Group == group {
			return Kind(k), true
		}
	}
	return 0, false
}

// Models reports whether the Index models a kind of an API group, "" for the core group.
func Models(group, kind string) bool {
	_, ok := kindOf(group, kind)
	return ok
}
