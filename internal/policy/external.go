package policy

// External targets: what mirrorgate knows nothing about, and leaves alone.

import (
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// gateNever is the value of the gate annotation with which mirrors are active whatever the state of their
// variants is, for targets that only the mesh knows.
const gateNever = "Never"

// external reports whether a mirror's target is not judged: nothing is known about targets of other kinds than
// Service.
func external(rt *route.Route, m *route.Mirror, v Variant) bool {
	return v.External || (rt.Kind != route.VirtualService && !m.Target.IsService())
}
