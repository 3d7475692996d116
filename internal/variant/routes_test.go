package variant

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func TestOnlyRoutesWithMirrorsAreKept(t *testing.T) {
	c := newCluster(t)
	plain := httpRoute("shop/r", "shop/a")
	c.apply(plain)
	assert.Nil(t, c.Route(plain.Key))
	mirrored := httpRoute("shop/r", "shop/a", "shop/b", "shop/c")
	c.apply(mirrored)
	assert.Equal(t, mirrored, c.Route(plain.Key))
	assert.Equal(t, []route.Key{plain.Key}, slices.Collect(c.Keys()))
	assert.Equal(t, []*route.Route{mirrored}, slices.Collect(c.Routes()))
	counts := c.Counts()
	assert.Equal(t, 2, counts.Active[route.HTTPRoute])
	assert.Equal(t, 0, counts.Parked[route.HTTPRoute])
	assert.Equal(t, 1, counts.Objects[KindHTTPRoute])

	c.apply(plain)
	assert.Nil(t, c.Route(plain.Key))
	assertEmpty(t, c.Index)
}

// assertEmpty checks that the secondary indexes are empty.
func assertEmpty(t *testing.T, i *Index) {
	t.Helper()
	assert.Empty(t, i.workloadsByLabel)
	assert.Empty(t, i.namespacesOf)
	assert.Empty(t, i.servicesByLabel)
	assert.Empty(t, i.rolloutsByRef)
	assert.Empty(t, i.slicesByPod)
	assert.Empty(t, i.destinationRules)
	assert.Empty(t, i.serviceEntries)
	assert.Empty(t, i.referenceGrants)
	assert.Empty(t, i.managedRoutes)
	assert.Empty(t, i.routesByName)
	assert.Empty(t, i.scopes.policies)
	assert.Empty(t, i.rulesByPattern)
	assert.Empty(t, i.aliases)
	assert.Empty(t, i.selectingRules)
	assert.Empty(t, i.gateways)
	for _, e := range i.endpoints {
		assert.Empty(t, e.slices)
	}
	for _, kind := range i.objects {
		assert.Empty(t, kind)
	}
}
