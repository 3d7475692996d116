package variant

// ReferenceGrants: which routes may mirror to a Service in another namespace.

import (
	grants "github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// grantee is a kind of route in a namespace, to which a ReferenceGrant is given.
type grantee = grants.Source

// crosses reports whether a route needs a ReferenceGrant for a mirror target. VirtualServices know no such
// permission.
func crosses(kind route.Kind, namespace string, target route.Target) bool {
	return kind != route.VirtualService && target.IsService() && target.Namespace != namespace
}

func (i *Index) changeReferenceGrant(old, g *referenceGrant, a *affected) {
	if old != nil {
		removeFrom(i.referenceGrants, old.Namespace, old)
		i.affectGrantees(old, a)
	}
	if g != nil {
		addTo(i.referenceGrants, g.Namespace, g)
		i.affectGrantees(g, a)
	}
}

// affectGrantees adds the routes that mirror into the grant's namespace and are of a kind that it names.
func (i *Index) affectGrantees(g *referenceGrant, a *affected) {
	for _, from := range g.From() {
		for s := range i.routesByName.of(crossingKey(g.Namespace, from)) {
			a.addRoute(s.key())
		}
	}
}
