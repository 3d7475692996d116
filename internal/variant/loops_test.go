package variant

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func TestLoops(t *testing.T) {
	http := func(name, from, to string) *route.Route {
		return httpRoute("shop/"+name, "shop/"+from, "shop/"+to)
	}
	cases := map[string]struct {
		stored []any
		rt     *route.Route
		want   string
	}{
		"none":                     {[]any{http("r2", "b", "c")}, http("r1", "a", "b"), ""},
		"itself":                   {nil, http("r1", "a", "a"), "shop/a"},
		"back at once":             {[]any{http("r2", "b", "a")}, http("r1", "a", "b"), "shop/b -> shop/a"},
		"in a circle":              {[]any{http("r2", "b", "c"), http("r3", "c", "a")}, http("r1", "a", "b"), "shop/b -> shop/c -> shop/a"},
		"the shortest loop":        {[]any{http("r2", "b", "c"), http("r3", "c", "a"), http("r4", "b", "a")}, http("r1", "a", "b"), "shop/b -> shop/a"},
		"a circle of others":       {[]any{http("r2", "b", "c"), http("r3", "c", "b")}, http("r1", "a", "b"), ""},
		"its own stored version":   {[]any{http("r1", "b", "a")}, http("r1", "a", "b"), ""},
		"own host, VirtualService": {nil, virtualService("shop/v", "a", "a#v2"), ""},
		"own host of another VirtualService": {
			[]any{virtualService("shop/w", "b", "b#v2")}, virtualService("shop/v", "a", "b"), ""},
		"between VirtualServices": {
			[]any{virtualService("shop/w", "b", "a")}, virtualService("shop/v", "a", "b"), "shop/b -> shop/a"},
		"across kinds": {
			[]any{virtualService("shop/w", "b", "a")}, http("r1", "a", "b"), "shop/b -> shop/a"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			loops := newCluster(t, tc.stored...).Snapshot(tc.rt).Loops
			if tc.want == "" {
				assert.Empty(t, loops)
				return
			}
			require.Len(t, loops, 1)
			for _, way := range loops {
				assert.Equal(t, tc.want, way)
			}
		})
	}
}
