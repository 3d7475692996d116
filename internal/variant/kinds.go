package variant

// The kinds of objects a variant's state depends on: one table that the Index,
// the parser and the reflectors share.

import (
	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/route"
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

var kinds = [kindCount]*feed.Kind{
	KindService:         feed.Services,
	KindDeployment:      feed.Deployments,
	KindStatefulSet:     feed.StatefulSets,
	KindDaemonSet:       feed.DaemonSets,
	KindReplicaSet:      feed.ReplicaSets,
	KindPod:             feed.Pods,
	KindEndpointSlice:   feed.EndpointSlices,
	KindRollout:         feed.Rollouts,
	KindDestinationRule: feed.DestinationRules,
	KindServiceEntry:    feed.ServiceEntries,
	KindReferenceGrant:  feed.ReferenceGrants,
	KindHTTPRoute:       feed.HTTPRoutes,
	KindGRPCRoute:       feed.GRPCRoutes,
	KindVirtualService:  feed.VirtualServices,
}

// String returns the kind as the API spells it.
func (k Kind) String() string { return kinds[k].Name }

// Group returns the kind's API group, "" for the core group.
func (k Kind) Group() string { return kinds[k].Group }

// Resource returns the resource name: the plural in lower case.
func (k Kind) Resource() string { return kinds[k].Resource }

// Optional tells whether a CustomResourceDefinition brings the kind, so that a
// cluster may lack it.
func (k Kind) Optional() bool { return k >= KindRollout }

// crd is the name of the kind's CustomResourceDefinition.
func (k Kind) crd() string { return k.Resource() + "." + k.Group() }

// kindOf finds the kind of a group and kind name. Versions do not matter: the
// fields we read are the same in all of them.
func kindOf(group, name string) (Kind, bool) {
	for k, info := range kinds {
		if info.Name == name && info.Group == group {
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
