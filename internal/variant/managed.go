package variant

// Routes that another tool rewrites, so that mirrorgate does not move their mirrors.

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// canary is Flagger's object that owns routes.
type canary struct {
	id
	uid string
}

func (c *canary) equal(other record) bool { return c.uid == other.(*canary).uid }

func (i *Index) changeCanary(old, c *canary, a *affected) {
	if old != nil {
		i.affectOwned(old.uid, a)
	}
	if c != nil {
		i.affectOwned(c.uid, a)
	}
}

// affectOwned adds the routes that name an owner.
func (i *Index) affectOwned(uid string, a *affected) {
	if uid == "" {
		return
	}
	for s := range i.routesByName.of(byOwner.key(uid)) {
		a.addRoute(s.key())
	}
}

// claimedOwner returns the owner of a tool that, as the route says, controls it; nil when there is none.
func claimedOwner(rt *route.Route) *route.Owner {
	for n := range rt.Owners {
		if o := &rt.Owners[n]; o.Controller && o.UID != "" && wellknown.OwnerTool(o.Group, o.Kind) != "" {
			return o
		}
	}
	return nil
}

// managedBy returns the name of the tool that rewrites the route, "" when there is none. Flagger and Argo
// Rollouts are owners of the routes that they make; a Rollout may also name routes that it does not own. An
// owner counts only if it exists in the route's own namespace: anybody can write an owner reference.
func (v *view) managedBy(rt *route.Route) string {
	if o := claimedOwner(rt); o != nil && v.ownerUID(o, rt.Namespace) == o.UID {
		return wellknown.OwnerTool(o.Group, o.Kind)
	}
	if v.base.managedRoutes[rt.Key] > 0 {
		return wellknown.ArgoRollouts
	}
	return ""
}

// ownerUID returns the uid of the object that an owner reference names, "" when there is none.
func (v *view) ownerUID(o *route.Owner, namespace string) string {
	q := ownerQuery(o, namespace)
	switch rec := v.source(q).objects[q.Kind][types.NamespacedName{Namespace: namespace, Name: o.Name}].(type) {
	case *canary:
		return rec.uid
	case *workload:
		return rec.uid
	}
	return ""
}

// ownerQuery returns the query for the owner of a route.
func ownerQuery(o *route.Owner, namespace string) Query {
	kind, _ := kindOf(o.Group, o.Kind)
	return Query{Kind: kind, Namespace: namespace, Name: o.Name}
}
