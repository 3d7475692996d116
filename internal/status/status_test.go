package status

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// cluster is a fake Cluster with routes, and the same variant behind every mirror.
type cluster struct {
	routes  []*route.Route
	variant policy.Variant
	err     error
}

func (c cluster) Routes() iter.Seq[*route.Route] { return slices.Values(c.routes) }

func (c cluster) Resolve(_ context.Context, rt *route.Route) (policy.Snapshot, error) {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}}
	for _, m := range rt.Every {
		snap.Variants[m.Target.WithoutPort()] = c.variant
	}
	return snap, c.err
}

// Gated implements Namespaces for a user who may not read them.
func (cluster) Gated(context.Context, string) (bool, error) { return false, errors.New("forbidden") }

func mirrored(t *testing.T, name, more string) *route.Route {
	t.Helper()
	rt, err := route.Decode([]byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
		"metadata": {"name": "`+name+`", "namespace": "shop"},
		"spec": {"rules": [{"filters": [`+more+`{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "percent": 5}}]}]}}`), route.Options{})
	require.NoError(t, err)
	return rt
}

func table(t *testing.T, c cluster, q Query) string {
	t.Helper()
	routes, err := Of(t.Context(), c, c, q)
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, WriteTable(&b, routes))
	return b.String()
}

func TestTable(t *testing.T) {
	full := strings.Repeat(`{"type": "ExtensionRef"},`, 14) + `{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [` +
		`"a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p"]}},`
	c := cluster{
		routes:  []*route.Route{mirrored(t, "web", ""), mirrored(t, "full", full)},
		variant: policy.Variant{State: policy.Present, Exists: true, Reason: policy.NoReadyEndpoints, Ports: []policy.Port{{Number: 80}}},
	}
	assert.Equal(t, `
NAMESPACE   KIND        NAME   TARGET   PERCENT   STATE    VARIANT   REASON             AS DECIDED
shop        HTTPRoute   full   v2:80    5         active   Present   NoReadyEndpoints   no: WouldNotFit, the list of headers to remove would exceed 16
shop        HTTPRoute   web    v2:80    5         active   Present   NoReadyEndpoints   no: should be parked
`, "\n"+table(t, c, Query{}))
	assert.NotContains(t, table(t, c, Query{Kind: route.HTTPRoute, Namespace: "shop", Name: "web"}), "full")
	for _, q := range []Query{{Kind: route.GRPCRoute}, {Namespace: "other"}, {Name: "we"}} {
		assert.Len(t, strings.Split(table(t, c, q), "\n"), 2, "%v", q)
	}

	c.variant = policy.Variant{Reason: policy.VariantUnknown, Detail: "forbidden"}
	assert.Contains(t, table(t, c, Query{Name: "web"}), "active   Unknown   VariantUnknown   yes", "a mirror whose variant is Unknown stays where it is")

	c.err = errors.New("no answer")
	routes, err := Of(t.Context(), c, c, Query{Name: "web"})
	require.EqualError(t, err, "HTTPRoute shop/web: no answer")
	assert.Empty(t, routes)
}

func TestParseRoute(t *testing.T) {
	for text, want := range map[string]Query{
		"web":           {Name: "web"},
		"httproute/web": {Kind: route.HTTPRoute, Name: "web"},
		"GRPCRoute/web": {Kind: route.GRPCRoute, Name: "web"},
		"vs/web":        {Kind: route.VirtualService, Name: "web"},
		"virtualservices.networking.istio.io/web": {Kind: route.VirtualService, Name: "web"},
	} {
		got, err := ParseRoute(text)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"gateway/web", "httproute/", "/web"} {
		_, err := ParseRoute(text)
		assert.ErrorContains(t, err, text)
	}
}
