// Package policy decides what happens to the mirrors of a route. Decide takes
// plain values, no client, clock or logger, so that the webhook, the controller
// and offline tools come to the same answer.
package policy

import (
	"time"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// State is the state of a variant.
type State int

// The states of a variant. Unknown means that it could not be found out (the
// API server did not answer): mirrors stay where they are.
const (
	Unknown State = iota
	// Absent: no Service, no such subset, no workload, or the workload is being
	// deleted or scaled to 0.
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

// Variant is what the cluster knows about one mirror target.
type Variant struct {
	State State
	// InGrace marks a variant that counts as Ready although its last endpoint is
	// not, because that was less than the grace ago: its mirrors stay where they
	// are.
	InGrace bool
	// WasParked tells, of a variant that is Unknown or InGrace, that its mirror is
	// parked in the stored route that this one would replace.
	WasParked bool
	// Reason tells why State is not Ready, or would not be without the grace; ""
	// when it is.
	Reason Reason
	// Detail is one clause for people: `Deployment "httpbin-v2" is scaled to 0`.
	Detail string
	// Exists tells whether the target Service (or host) exists.
	Exists bool
	// External marks a host that a ServiceEntry defines: it is left alone.
	External bool
	// ExternalName marks a Service of type ExternalName.
	ExternalName bool
	// Ports are the Service's ports.
	Ports []Port
	// HasRules tells whether a DestinationRule for the host is visible to the
	// route; Subsets are the subsets that it names.
	HasRules bool
	Subsets  []string
	// Ungranted is set for a Service in another namespace that no
	// ReferenceGrant opens to the route.
	Ungranted bool
}

// Snapshot is all that a decision about one route depends on, apart from the
// route itself and the configuration.
type Snapshot struct {
	// Variants holds the mirror targets of the route; the key has no port.
	Variants map[route.Target]Variant
	// Loops holds, for a mirror target (key without port) from which other
	// routes' mirrors lead back to a Service that this route serves, the way
	// back: "default/b -> default/a".
	Loops map[route.Target]string
	// ManagedBy names the tool that rewrites this route on its own (Flagger,
	// Argo Rollouts), "" when none does.
	ManagedBy string
	// Recheck is after how long the passing of time alone can change the
	// snapshot, because a grace is over then; 0 is never.
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
