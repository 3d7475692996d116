// Package policy decides which mirrors of a route are active and which are parked, and which writes are
// denied. Decide takes plain values, no client, clock or logger, so that the webhook, the controller and
// offline tools come to the same decision. docs/rules.md lists the reasons for its decisions.
package policy

import (
	"time"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// State is the state of a variant.
type State int

// The states of a variant. Unknown means that the state could not be read, because the API server did not
// answer: mirrors stay as they are.
const (
	Unknown State = iota
	// Absent: no Service, no such subset, no workload, or the workload is being deleted or scaled to 0.
	Absent
	// Present: it exists and nothing is ready.
	Present
	// Ready: at least one ready endpoint.
	Ready
)

func (s State) String() string {
	return [...]string{"Unknown", "Absent", "Present", "Ready"}[s]
}

// Port is a port of a Service.
type Port struct {
	Name   string
	Number int32
}

// Variant is the state of one mirror target in the cluster.
type Variant struct {
	State State
	// InGrace is set for a variant that counts as Ready although it has no ready endpoint, because it lost
	// the last one less than the grace ago: its mirrors stay as they are.
	InGrace bool
	// Reason says why State is not Ready, or would not be without the grace; "" when it is.
	Reason Reason
	// Detail explains the reason to a reader in one clause: `Deployment "httpbin-v2" is scaled to 0`. For an
	// External variant it is what to tell the author about it, "" for nothing.
	Detail string
	// Exists reports whether the target Service (or host) exists.
	Exists bool
	// External is set for a target that mirrorgate does not judge: its mirrors are left alone.
	External bool
	// Ports are the Service's ports.
	Ports []Port
	// LacksSubset is set when a DestinationRule for exactly this host exists, and none that a client of the
	// route uses has the subset. Subsets are some of those that it has.
	LacksSubset bool
	Subsets     []string
	// Ungranted is set for a Service in another namespace if no ReferenceGrant allows the route to use it.
	Ungranted bool
	// Gateway is set when the endpoints are a gateway, where a route can tell copies apart by their host.
	Gateway bool
	// Loop is the gateway that serves the route, if the target is that gateway's own Service: copies come
	// back to the route. "" for any other target.
	Loop string
}

// Snapshot holds everything that a decision about one route depends on, apart from the route and the
// configuration.
type Snapshot struct {
	// Variants holds the mirror targets of the route, each with its port.
	Variants map[route.Target]Variant
	// WasParked holds the ids of the mirrors that are parked in the stored route which this one would
	// replace. It matters for variants that are Unknown or InGrace.
	WasParked map[string]bool
	// ManagedBy is the tool that rewrites this route by itself (Flagger, Argo Rollouts), "" when there is
	// none.
	ManagedBy string
	// LacksMirrors and LacksShares name what serves the route without support for mirrors, or for a share of
	// the traffic: `GatewayClass "a"`. "" where nothing is known to lack them.
	LacksMirrors, LacksShares string
	// Scope holds the MirrorLimits and MirrorPolicies for the route.
	Scope limits.Scope
	// Recheck is the time until the end of a grace, which changes the snapshot without any event; 0 means no
	// grace.
	Recheck time.Duration
}

// Variant returns the variant of a mirror target; the zero value, Unknown, for a target that is not in the
// snapshot.
func (s Snapshot) Variant(t route.Target) Variant { return s.Variants[t] }

// KeepParked notes the parked mirrors of the stored route, nil for none: applying a manifest again must not
// make them active just because the state of the variant is unknown, or because it was ready until just now.
func (s *Snapshot) KeepParked(stored *route.Route) {
	if stored == nil {
		return
	}
	for _, m := range stored.Every {
		if m.Parked {
			if s.WasParked == nil {
				s.WasParked = map[string]bool{}
			}
			s.WasParked[m.ID] = true
		}
	}
}

// Unsure reports whether the snapshot has a variant that is Unknown or InGrace.
func (s Snapshot) Unsure() bool {
	for _, v := range s.Variants {
		if v.InGrace || v.State == Unknown {
			return true
		}
	}
	return false
}

// AssumeApplied makes variants ready that lack an object, as if it was applied already. A variant that
// contradicts objects which are there stays as it is.
func (s Snapshot) AssumeApplied() {
	for target, v := range s.Variants {
		v.Ungranted = false
		switch v.Reason {
		case ServiceNotFound, HostNotFound, DestinationRuleNotFound, WorkloadNotFound:
			v.State, v.Reason, v.Detail = Ready, "", ""
		}
		s.Variants[target] = v
	}
}
