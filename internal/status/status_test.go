package status

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/manifests"
)

// cluster is a fake Cluster with routes, and the same variant behind every mirror.
type cluster struct {
	routes  []*route.Route
	variant policy.Variant
	scope   limits.Scope
	err     error
}

func (c cluster) Routes() iter.Seq[*route.Route] { return slices.Values(c.routes) }

func (c cluster) Resolve(_ context.Context, rt *route.Route) (policy.Snapshot, error) {
	snap := policy.Snapshot{Variants: map[route.Target]policy.Variant{}, Scope: c.scope}
	for _, m := range rt.Every {
		snap.Variants[m.Target] = c.variant
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
	return tableOf(t, c, nil, q, Format{AllNamespaces: true})
}

func tableOf(t *testing.T, c cluster, deciding Deciding, q Query, format Format) string {
	t.Helper()
	routes, err := Of(t.Context(), c, c, deciding, q)
	require.NoError(t, err)
	require.NoError(t, format.Parse())
	var b strings.Builder
	require.NoError(t, format.Write(&b, routes))
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
NAMESPACE   ROUTE            TARGET   SHARE   STATE    REASON             SYNCED
shop        httproute/full   v2:80    5%      active   NoReadyEndpoints   no: WouldNotFit
shop        httproute/web    v2:80    5%      active   NoReadyEndpoints   no
`, "\n"+table(t, c, Query{}))
	web := Query{Namespace: "shop", Names: []Name{{route.HTTPRoute, "web"}}}
	assert.NotContains(t, table(t, c, web), "full")
	for _, q := range []Query{
		{Names: []Name{{Kind: route.GRPCRoute, Name: "web"}}}, {Namespace: "other"}, {Names: []Name{{Name: "we"}}},
		{Labelled: func(route.Key) bool { return false }},
	} {
		assert.Len(t, strings.Split(table(t, c, q), "\n"), 2, "%v", q)
	}
	assert.Equal(t, "httproute/web   v2:80   5%   active   NoReadyEndpoints   no   -   -   Present   spec.rules[0].filters[0].requestMirror   \n",
		tableOf(t, c, nil, web, Format{Output: "wide", NoHeaders: true}))
	away := Deciding{route.GatewayGroup: "away"}
	assert.Contains(t, tableOf(t, c, away, web, Format{}), "NoReadyEndpoints   no: nothing decides")
	assert.Contains(t, tableOf(t, c, Deciding{route.IstioGroup: "away"}, web, Format{}), "NoReadyEndpoints   no\n")

	c.variant = policy.Variant{Reason: policy.VariantUnknown, Detail: "forbidden"}
	assert.Contains(t, table(t, c, web), "active   VariantUnknown   yes", "a mirror whose variant is Unknown stays where it is")
	assert.Contains(t, tableOf(t, c, away, web, Format{}), "active   VariantUnknown   nothing decides")

	c.err = errors.New("no answer")
	routes, err := Of(t.Context(), c, c, nil, web)
	require.EqualError(t, err, "HTTPRoute shop/web: no answer")
	assert.Empty(t, routes)
}

// A limited mirror shows both percentages, and is not synced while another one is stored than policy wants.
func TestTableOfLimitedMirrors(t *testing.T) {
	ten := 10.0
	limited := `{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-mirrorgate-limited-` + "%s" + `"]}},`
	rt, err := route.Decode([]byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
		"metadata": {"name": "web", "namespace": "shop"},
		"spec": {"rules": [{"filters": [`+fmt.Sprintf(limited, "1e24fc1979-p25-f50000")+
		`{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "fraction": {"numerator": 50000, "denominator": 1000000}}}]}]}}`), route.Options{})
	require.NoError(t, err)
	c := cluster{routes: []*route.Route{rt}, variant: policy.Variant{State: policy.Ready, Exists: true, Ports: []policy.Port{{Number: 80}}}}
	assert.Contains(t, table(t, c, Query{}), "v2:80    5% of 25%   limited   VariantReady   no\n")
	c.scope = limits.Scope{Limits: []limits.Limit{{Name: "production", MaxPercent: &ten, Action: limits.Lower}}}
	assert.Contains(t, table(t, c, Query{}), "v2:80    5% of 25%   limited   OverLimit   no\n")
	ten = 5
	assert.Contains(t, table(t, c, Query{}), "v2:80    5% of 25%   limited   OverLimit   yes\n")
}

// A common terminal of 100 columns shows a table of usual names without a break.
func TestTableFitsATerminal(t *testing.T) {
	c := cluster{
		routes:  []*route.Route{mirrored(t, "checkout-internal", "")},
		variant: policy.Variant{State: policy.Absent, Reason: policy.DestinationRuleNotFound},
	}
	for line := range strings.Lines(table(t, c, Query{})) {
		assert.LessOrEqual(t, len(strings.TrimRight(line, " \n")), 100, line)
	}
}

func TestOutputs(t *testing.T) {
	c := cluster{
		routes:  []*route.Route{mirrored(t, "web", "")},
		variant: policy.Variant{State: policy.Ready, Exists: true, Reason: policy.VariantReady, Ports: []policy.Port{{Number: 80}}},
	}
	for output, want := range map[string]string{
		"name":                                   "httproute.gateway.networking.k8s.io/web\n",
		"jsonpath={.routes[*].mirrors[*].state}": "active",
		"jsonpath={.routes[0].nothing}":          "",
	} {
		assert.Equal(t, want, tableOf(t, c, nil, Query{}, Format{Output: output}), output)
	}
	assert.Contains(t, tableOf(t, c, nil, Query{}, Format{Output: "yaml"}), "routes:\n- action: none\n  asDecided: true\n")
	assert.Contains(t, tableOf(t, c, nil, Query{}, Format{Output: "json"}), `"asDecided": true`)
	for _, output := range []string{"xml", "jsonpath={", "go-template={{.}}"} {
		assert.ErrorContains(t, (&Format{Output: output}).Parse(), "output: ", output)
	}
}

func TestAllAre(t *testing.T) {
	at := func(state, wanted string, undecided bool) []Route {
		return []Route{{AsDecided: state == wanted, Undecided: undecided, Mirrors: []Mirror{{State: state, Wanted: wanted}}}}
	}
	assert.True(t, AllAre(at(active, parked, true), "active"))
	assert.False(t, AllAre(at(parked, parked, false), "active"))
	assert.True(t, AllAre(at(parked, parked, false), "synced"))
	assert.False(t, AllAre(at(active, parked, false), "synced"))
	assert.False(t, AllAre(at(parked, parked, true), "synced"), "nothing keeps it there")
	assert.False(t, AllAre(nil, "synced"))
}

func TestChanges(t *testing.T) {
	printed, web := Changes{}, Route{Kind: route.HTTPRoute, Name: "web", Mirrors: []Mirror{{State: active}}}
	assert.Len(t, printed.Next([]Route{web}), 1)
	assert.Empty(t, printed.Next([]Route{web}))
	web.Mirrors = []Mirror{{State: parked}}
	assert.Len(t, printed.Next([]Route{web}), 1)
}

func TestParseName(t *testing.T) {
	for text, want := range map[string]Name{
		"web":           {Name: "web"},
		"httproute/web": {Kind: route.HTTPRoute, Name: "web"},
		"GRPCRoute/web": {Kind: route.GRPCRoute, Name: "web"},
		"vs/web":        {Kind: route.VirtualService, Name: "web"},
		"virtualservices.networking.istio.io/web": {Kind: route.VirtualService, Name: "web"},
		"virtualservice.networking.istio.io/web":  {Kind: route.VirtualService, Name: "web"},
		"httproute.gateway.networking.k8s.io/web": {Kind: route.HTTPRoute, Name: "web"},
	} {
		got, err := ParseName(text)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"gateway/web", "httproute/", "/web", ""} {
		_, err := ParseName(text)
		assert.ErrorContains(t, err, strconv.Quote(text))
	}
}

// Who decides is known by the webhooks that are registered and the replicas behind them.
func TestWhoDecides(t *testing.T) {
	ctx, ready := t.Context(), true
	client := fake.NewClientset()
	reasons := func() Deciding {
		d, err := WhoDecides(ctx, client)
		require.NoError(t, err)
		return d
	}
	assert.Contains(t, reasons()[route.GatewayGroup], "no webhook of mirrorgate is registered")

	m, _, err := manifests.Webhooks(manifests.GatewayAPI)
	require.NoError(t, err)
	_, err = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, m, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Contains(t, reasons()[route.GatewayGroup], "no replica is ready behind Service mirrorgate-system/mirrorgate")
	assert.Contains(t, reasons()[route.IstioGroup], "no webhook of mirrorgate is registered for networking.istio.io")

	_, err = client.DiscoveryV1().EndpointSlices("mirrorgate-system").Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "mirrorgate"}},
		Endpoints:  []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Empty(t, reasons()[route.GatewayGroup])
}
