package variant

// Aliases: ExternalName Services with ports, which Istio resolves to what their name stands for.

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// isAlias reports whether a Service stands for another host.
func (s *service) isAlias() bool { return s != nil && s.externalName && len(s.ports) > 0 }

// ofAlias returns the variant of a mirror to an ExternalName Service. For Istio one with ports stands for
// another host, which the mesh must know; nothing is known about others.
func (v *view) ofAlias(rt *route.Route, m *route.Mirror, s *service) policy.Variant {
	if rt.Kind != route.VirtualService || !s.isAlias() {
		return policy.Variant{
			State: policy.Ready, Exists: true, External: true,
			Detail: fmt.Sprintf("Service %q is an ExternalName; the mirror is left alone", s.NamespacedName),
		}
	}
	name, _ := v.base.aliasOf(s)
	target := v.service(name)
	if target == nil || target.externalName {
		if e := v.serviceEntry(s.alias, v.clients); e != nil {
			return v.ofEntry(rt, m, s, e, s.alias)
		}
		return absent(policy.HostNotFound, "Service %q stands for host %q, which no Service or ServiceEntry defines", s.NamespacedName, s.alias)
	}
	of := *m
	of.Target.Namespace, of.Target.Name = name.Namespace, name.Name
	variant := v.bestState(target, s, rt, &of)
	variant.Exists, variant.Ports = true, slices.Clone(target.ports)
	v.noteGateway(rt, target, &variant)
	return variant
}

// aliasOf returns the Service of the cluster that an ExternalName Service stands for.
func (i *Index) aliasOf(s *service) (types.NamespacedName, bool) {
	return i.serviceOf(s.alias)
}

// serviceOf returns the Service of the cluster that a full host names.
func (i *Index) serviceOf(host string) (types.NamespacedName, bool) {
	name, ok := strings.CutSuffix(host, ".svc."+i.opts.ClusterDomain)
	short, namespace, dotted := strings.Cut(name, ".")
	if !ok || !dotted || strings.Contains(namespace, ".") {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: namespace, Name: short}, true
}

// behind returns the name of the Service whose workloads are the variant of mirrors to a Service: its own, or
// that of the Service for which it stands.
func (v *view) behind(name types.NamespacedName) types.NamespacedName {
	if s := v.service(name); s.isAlias() {
		if to, ok := v.base.aliasOf(s); ok {
			return to
		}
	}
	return name
}

// fileAlias enters an alias in the list of its host, or removes it.
func (i *Index) fileAlias(s *service, enter bool) {
	switch {
	case !s.isAlias():
	case enter:
		addTo(i.aliases, s.alias, s)
	default:
		removeFrom(i.aliases, s.alias, s)
	}
}
