package variant

// Ports of a destination: where a mirror arrives depends on the port that the client called, if the mirror names
// none or if it goes to an alias.

import (
	"bytes"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// defaultPort is the one at which Istio serves a host that it does not know.
const defaultPort = 80

// arrives reports whether a mirror that names a port, or 0 for none, arrives at a port of its target. A sidecar
// takes the port that its client called, and a gateway the only port of the Service that the mirror names, or its
// own. through are the ports of that Service: those of the target, or of the alias that stands for it.
func (v *view) arrives(c *clients, named int32, through []policy.Port, alias bool, at int32) bool {
	called := func(p policy.Port) bool { return v.calls(c, p.Number) }
	switch {
	case named != 0 && named != at:
		return false
	case named != 0: // a sidecar knows an alias only at the ports that it has
		return !alias || c.gateway || slices.ContainsFunc(through, called)
	case c.gateway && len(through) == 1:
		return through[0].Number == at
	default:
		return v.calls(c, at) && (c.gateway || slices.ContainsFunc(through, func(p policy.Port) bool { return p.Number == at }))
	}
}

// calls reports whether clients call a port, or listen on it as a gateway.
func (v *view) calls(c *clients, port int32) bool {
	if len(c.hosts) > 0 && c.ports == nil && !c.anyPort {
		c.ports, c.anyPort = v.calledPorts(c)
	}
	return c.anyPort || c.ports[port]
}

// calledPorts returns the ports at which sidecars call the hosts of a VirtualService. A Service that is not there
// may come with any port.
func (v *view) calledPorts(c *clients) (ports map[int32]bool, anyPort bool) {
	if len(c.hosts) > maxHosts {
		return nil, true
	}
	ports = map[int32]bool{}
	for _, t := range c.hosts {
		if t.IsService() {
			if s := v.service(types.NamespacedName(t.Service())); s != nil {
				v.addPorts(ports, s.ports)
				continue
			}
		}
		known := v.addCovered(ports, c, hosts.Parse(v.base.hostOf(t)))
		if (t.IsService() && !known) || v.visits > maxRules {
			return nil, true
		}
		ports[defaultPort] = true
	}
	return ports, false
}

func (v *view) addPorts(to map[int32]bool, ports []policy.Port) {
	v.visits += 1 + len(ports)
	for _, p := range ports {
		to[p.Number] = true
	}
}

// addCovered adds the ports of the ServiceEntries for a host that clients see, and those of the Services and
// ServiceEntries that a wildcard covers. It reports whether there is a ServiceEntry.
func (v *view) addCovered(to map[int32]bool, c *clients, p hosts.Pattern) (known bool) {
	add := func(entries []*serviceEntry) {
		for _, e := range entries {
			if c.sees(e) {
				v.addPorts(to, e.ports)
				known = true
			}
		}
	}
	entries := v.source(serviceEntriesQuery()).serviceEntries
	if !p.Wild {
		add(entries[p.Text])
		return known
	}
	for host := range entries {
		if v.visits++; v.visits > maxRules {
			return known
		}
		if p.Covers(host) {
			add(entries[host])
		}
	}
	var host []byte
	for name, rec := range v.base.objects[KindService] {
		if v.visits++; v.visits > maxRules {
			return known
		}
		host = append(append(append(host[:0], name.Name...), '.'), name.Namespace...)
		host = append(append(host, ".svc."...), v.base.opts.ClusterDomain...)
		if bytes.HasSuffix(host, []byte(p.Text)) {
			v.addPorts(to, rec.(*service).ports)
		}
	}
	return known
}

// patternsOf returns the hosts of a VirtualService whose clients' ports may matter for its mirrors.
func (i *Index) patternsOf(rt *route.Route) (patterns []hosts.Pattern) {
	if rt.Kind != route.VirtualService || !slices.Contains(rt.Gateways, route.Mesh) || len(rt.Hosts) > maxHosts {
		return nil
	}
	for _, t := range rt.Hosts {
		if host := i.hostOf(t); hosts.Valid(host) {
			patterns = append(patterns, hosts.Parse(strings.Clone(host)))
		}
	}
	return patterns
}
