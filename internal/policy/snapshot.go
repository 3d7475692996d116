// Package policy decides which mirrors of a route are active and which are parked, and which writes are
// denied. Decide takes plain values, no client, clock or logger, so that the webhook, the controller and
// offline tools come to the same decision. docs/rules.md lists the reasons for its decisions.
package policy

import (
	"time"

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
	// WasParked is set for a variant that is Unknown or InGrace, if its mirror is parked in the stored route
	// that this one would replace.
	WasParked bool
	// Reason says why State is not Ready, or would not be without the grace; "" when it is.
	Reason Reason
	// Detail explains the reason to a reader in one clause: `Deployment "httpbin-v2" is scaled to 0`.
	Detail string
	// Exists reports whether the target Service (or host) exists.
	Exists bool
	// External is set for a host that a ServiceEntry defines: its mirrors are left alone.
	External bool
	// ExternalName is set for a Service of type ExternalName.
	ExternalName bool
	// Ports are the Service's ports.
	Ports []Port
	// HasDestinationRule reports whether a DestinationRule for the host is visible to the route; Subsets are
	// the subsets that it names.
	HasDestinationRule bool
	Subsets            []string
	// Ungranted is set for a Service in another namespace if no ReferenceGrant allows the route to use it.
	Ungranted bool
}

// Snapshot holds everything that a decision about one route depends on, apart from the route and the
// configuration.
type Snapshot struct {
	// Variants holds the mirror targets of the route; the key has no port.
	Variants map[route.Target]Variant
	// Loops holds the mirror targets (the key has no port) from which other routes' mirrors lead back to a
	// Service that this route serves, with the Services on the way: "default/b -> default/a".
	Loops map[route.Target]string
	// ManagedBy is the tool that rewrites this route by itself (Flagger, Argo Rollouts), "" when there is
	// none.
	ManagedBy string
	// Recheck is the time until the end of a grace, which changes the snapshot without any event; 0 means no
	// grace.
	Recheck time.Duration
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
