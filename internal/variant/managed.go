package variant

// Routes that another tool rewrites, so that mirrorgate leaves them alone.

import (
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// managedBy returns the name of the tool that rewrites the route, "" when there is none. Flagger and Argo
// Rollouts are owners of the routes that they make; a Rollout may also name routes that it does not own.
func (i *Index) managedBy(rt *route.Route) string {
	for _, owner := range rt.Owners {
		if tool := wellknown.OwnerTool(owner.Group, owner.Kind); tool != "" {
			return tool
		}
	}
	if i.managedRoutes[rt.Key] > 0 {
		return wellknown.ArgoRollouts
	}
	return ""
}
