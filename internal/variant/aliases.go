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

// ofAlias returns the variant of a mirror to an ExternalName Service. For Istio one with ports stands for
// another host, which the mesh must know; nothing is known about others.
func (v *view) ofAlias(rt *route.Route, m *route.Mirror, s *service) policy.Variant {
	external := policy.Variant{
		State: policy.Ready, Exists: true, External: true,
		Detail: fmt.Sprintf("Service %q is an ExternalName; the mirror is left alone", s.NamespacedName),
	}
	if rt.Kind != route.VirtualService || len(s.ports) == 0 {
		return external
	}
	if v.serviceEntry(s.alias, v.clients) != nil {
		return external
	}
	to, ok := v.base.aliasOf(s)
	target := v.service(to)
	if !ok || target == nil || target.externalName {
		return absent(policy.HostNotFound, "Service %q stands for host %q, which no Service or ServiceEntry defines", s.NamespacedName, s.alias)
	}
	of := *m
	of.Target.Namespace, of.Target.Name = to.Namespace, to.Name
	variant := v.serviceState(target, rt, &of)
	variant.Exists, variant.Ports = true, slices.Clone(target.ports) // Istio asks for no port of the alias
	return variant
}

// aliasOf returns the Service of the cluster that an ExternalName Service stands for.
func (i *Index) aliasOf(s *service) (types.NamespacedName, bool) {
	name, ok := strings.CutSuffix(s.alias, ".svc."+i.opts.ClusterDomain)
	short, namespace, dotted := strings.Cut(name, ".")
	return types.NamespacedName{Namespace: namespace, Name: short}, s.externalName && ok && dotted && !strings.Contains(namespace, ".")
}
