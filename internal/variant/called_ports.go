package variant

// Ports of a destination that names none: a sidecar takes the port that its client called, a gateway the only port
// of the Service, or its own.

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// calledPorts returns the ports at which sidecars call the hosts of a VirtualService. Istio serves a host that
// it does not know at port 80 alone; a Service that is not there may come with any port.
func (v *view) calledPorts(a *route.Attachment) (ports map[int32]bool, anyPort bool) {
	ports = map[int32]bool{}
	done := map[route.Target]bool{}
	for _, t := range a.Hosts {
		if done[t] {
			continue
		}
		done[t] = true
		var s *service
		if t.IsService() {
			s = v.service(types.NamespacedName(t.Service()))
		}
		switch {
		case s != nil:
			for _, p := range s.ports {
				ports[p.Number] = true
			}
		case t.IsService(), strings.HasPrefix(t.Name, "*"):
			return nil, true
		default:
			ports[80] = true
			for _, e := range v.source(serviceEntriesQuery()).serviceEntries[t.Name] {
				if v.visits += 1 + len(e.ports); v.visits > maxRules {
					return nil, true
				}
				for _, p := range e.ports {
					ports[p] = true
				}
			}
		}
	}
	return ports, false
}

// reach returns the names of the Service's ports that a mirror without a port goes to from these clients. A
// gateway takes the only port of a Service, whichever it listens on.
func (c *clients) reach(ports []policy.Port) (names []string) {
	for _, p := range ports {
		if c.anyPort || c.ports[p.Number] || (c.gateway && len(ports) == 1) {
			names = append(names, p.Name)
		}
	}
	return names
}
