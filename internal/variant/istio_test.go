package variant

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

func entryOf(name, host, exportTo string) string {
	m := meta(name)
	return `{apiVersion: networking.istio.io/v1beta1, kind: ServiceEntry, metadata: {namespace: ` + m.Namespace + `, name: ` + m.Name + `},
spec: {hosts: ["` + host + `"], exportTo: [` + exportTo + `], ports: [{number: 8000, name: http, protocol: HTTP}, {number: 80, name: http-b, protocol: HTTP}]}}`
}

// The route is in the namespace web and serves clients everywhere, or as exportTo says; the Service is in shop.
func TestSubsetsThatClientsFind(t *testing.T) {
	const host = "b.shop.svc.cluster.local"
	rule := func(name, host, exportTo, subset string) string {
		return ruleOf(name, host, exportTo, subset, "version: v2")
	}
	for name, tc := range map[string]struct {
		exportTo string
		rules    []any
		want     policy.Reason
	}{
		"short name in its own namespace": {"", []any{rule("shop/r", "b", "", "s")}, ""},
		"short name in another namespace": {"", []any{rule("web/r", "b", "", "s")}, policy.DestinationRuleNotFound},
		"name.namespace is not expanded":  {"", []any{rule("shop/r", "b.shop", "", "s")}, policy.DestinationRuleNotFound},
		"capitals":                        {"", []any{rule("shop/r", "B", "", "s")}, policy.DestinationRuleNotFound},
		"a wildcard":                      {"", []any{rule("web/r", "*.shop.svc.cluster.local", "", "s")}, ""},
		"lacking, exact":                  {"", []any{rule("shop/r", "b", "", "x")}, policy.SubsetNotFound},
		"lacking, a wildcard":             {"", []any{rule("istio-system/r", "*.local", "", "x")}, policy.DestinationRuleNotFound},
		"lacking, of a third namespace":   {"", []any{rule("third/r", host, "", "x")}, policy.DestinationRuleNotFound},
		"found by other clients":          {"", []any{rule("web/r", host, "", "x"), rule("shop/r", "b", "", "s")}, ""},
		"found by none of its clients":    {".", []any{rule("web/r", host, "", "x"), rule("shop/r", "b", "", "s")}, policy.SubsetNotFound},
		"found by the Service's own":      {"", []any{rule("shop/r", "b", `"."`, "s")}, ""},
		"private to the Service's own":    {".", []any{rule("shop/r", "b", `"."`, "s")}, policy.DestinationRuleNotFound},
		"exported to the client":          {".", []any{rule("shop/r", "b", "web", "s")}, ""},
		"exported to another client":      {"third", []any{rule("shop/r", "b", "third", "s")}, ""},
		"a third namespace's own":         {"", []any{rule("third/r", host, "", "s")}, ""},
		"a third namespace's, not asked":  {".", []any{rule("third/r", host, "", "s")}, policy.DestinationRuleNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			objs := append(slices.Clone(tc.rules), serviceOf("shop/b", "app=b"), deployment("shop/b", "app=b,version=v2", 1),
				podOf("shop/p", "app=b,version=v2", replicaSet), sliceOf("shop/s", "b", "p"), deployment("third/client", "app=client", 1))
			rt := istioRoute("web/v", `{"hosts": ["v"], "exportTo": [`+quoted(tc.exportTo)+`], "http": [{"mirror": {"host": "`+host+`", "subset": "s"}}]}`)
			got := newCluster(t, objs...).variant(rt)
			assert.Equal(t, tc.want, got.Reason, got.Detail)
			assert.Equal(t, tc.want == policy.SubsetNotFound, got.LacksSubset)
		})
	}
}

// Copies of a client arrive if the same client finds the subset and reaches the port, or finds the ServiceEntry.
func TestOneClientNeedsAllThatAMirrorNames(t *testing.T) {
	rule := func(namespace string) string {
		return `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {namespace: ` + namespace + `, name: r}, spec: {host: "*.local", subsets: [{name: s}]}}`
	}
	b, a := serviceOf("shop/b", "app=b"), serviceOf("web/a", "app=a")
	b.Spec.Ports = []corev1.ServicePort{{Name: "p70", Port: 70}}
	a.Spec.Ports = []corev1.ServicePort{{Name: "p80", Port: 80}}
	slice := sliceOf("shop/s", "b", "p")
	slice.Ports = []discoveryv1.EndpointPort{{Name: new("p70")}}
	mesh := []any{
		a, b, deployment("shop/b", "app=b", 1), podOf("shop/p", "app=b", replicaSet), slice, deployment("ingress/g", "istio=g", 1),
		`{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: ingress, name: g}, spec: {selector: {istio: g}, servers: [{port: {number: 80}}]}}`,
	}
	entry := `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {namespace: third, name: e}, spec: {hosts: [x.local], exportTo: [ingress], ports: [{number: 80}]}}`
	for _, tc := range []struct {
		host, rules string
		ready       bool
	}{
		{"b.shop.svc.cluster.local", "web", false}, // for sidecars, which do not reach the port
		{"b.shop.svc.cluster.local", "ingress", true},
		{"x.local", "web", false}, // for clients that do not find the ServiceEntry
		{"x.local", "ingress", true},
	} {
		rt := istioRoute("web/v", `{"hosts": ["a"], "gateways": ["ingress/g", "mesh"], "http": [{"mirror": {"host": "`+tc.host+`", "subset": "s"}}]}`)
		got := newCluster(t, append(slices.Clone(mesh), entry, rule(tc.rules))...).variant(rt)
		assert.Equal(t, tc.ready, got.State == policy.Ready, "%+v: %s", tc, got.Detail)
	}
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return `"` + text + `"`
}

// istioRoute returns a VirtualService with this spec, in JSON.
func istioRoute(name, spec string) *route.Route {
	return decode(map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metaOf(name), "spec": json.RawMessage(spec),
	})
}

func manyHosts(n int) string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf(`"x%d.org"`, i)
	}
	return strings.Join(hosts, ", ")
}

// A mirror that names no port goes to the port that a sidecar's client calls, and at a gateway to the only port
// of the Service or to that at which the gateway listens.
func TestPortsThatClientsReach(t *testing.T) {
	service := func(name string, ports ...int32) *corev1.Service {
		s := serviceOf(name, "app=b")
		s.Spec.Ports = nil
		for _, p := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Port: p})
		}
		return s
	}
	slice := sliceOf("shop/s", "b", "p")
	slice.Ports = []discoveryv1.EndpointPort{{Name: new("p80")}, {Name: new("p81")}}
	slice70 := sliceOf("shop/s70", "b", "p")
	slice70.Ports = []discoveryv1.EndpointPort{{Name: new("p70")}}
	gateway := func(port string) string {
		return `{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: shop, name: g}, spec: {selector: {istio: g}, servers: [{port: {number: ` + port + `}}]}}`
	}
	entry := `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {namespace: shop, name: e}, spec: {hosts: [x.io], ports: [{number: 81}]}}`
	root := istioRoute("web/root", `{"hosts": ["a.shop.svc.cluster.local"], "http": [{"delegate": {"name": "v", "namespace": "shop"}}]}`)
	for name, tc := range map[string]struct {
		objs []any
		spec string
		want policy.Reason
	}{
		"the port of the host":                      {[]any{service("shop/a", 80), service("shop/b", 80, 90)}, `"hosts": ["a"]`, ""},
		"one of its ports":                          {[]any{service("shop/a", 70, 80), service("shop/b", 80, 90)}, `"hosts": ["a"]`, ""},
		"none, although it has one":                 {[]any{service("shop/a", 90), service("shop/b", 80)}, `"hosts": ["a"]`, policy.PortNotFound},
		"that has no endpoints":                     {[]any{service("shop/a", 90), service("shop/b", 80, 90)}, `"hosts": ["a"]`, policy.NoReadyEndpoints},
		"a host that is not there":                  {[]any{service("shop/b", 80)}, `"hosts": ["a"]`, ""},
		"a host outside, at port 80":                {[]any{service("shop/b", 80)}, `"hosts": ["x.org"]`, ""},
		"a host outside, not at 81":                 {[]any{service("shop/b", 81)}, `"hosts": ["x.org"]`, policy.PortNotFound},
		"the port of a ServiceEntry":                {[]any{service("shop/b", 81), entry}, `"hosts": ["x.io"]`, ""},
		"a wildcard that covers nothing":            {[]any{service("shop/b", 81)}, `"hosts": ["*.x.org"]`, policy.PortNotFound},
		"a wildcard, at port 80":                    {[]any{service("shop/b", 80)}, `"hosts": ["*.x.org"]`, ""},
		"a wildcard that covers a Service":          {[]any{service("shop/a", 70), service("shop/b", 70, 80), slice70}, `"hosts": ["*.shop.svc.cluster.local"]`, ""},
		"a wildcard that covers a ServiceEntry":     {[]any{service("shop/b", 81), entry}, `"hosts": ["*.io"]`, ""},
		"more hosts than are looked at":             {[]any{service("shop/b", 81)}, `"hosts": [` + manyHosts(maxHosts+1) + `]`, ""},
		"a ServiceEntry of others":                  {[]any{service("shop/b", 81), strings.Replace(entry, "hosts", "exportTo: [web], hosts", 1)}, `"hosts": ["x.io"], "exportTo": ["third"]`, policy.PortNotFound},
		"a Service of another cluster":              {[]any{service("shop/b", 81), strings.Replace(entry, "x.io", "a.shop.svc.cluster.local", 1)}, `"hosts": ["a"]`, ""},
		"a Service of another cluster, another one": {[]any{service("shop/b", 82), strings.Replace(entry, "x.io", "a.shop.svc.cluster.local", 1)}, `"hosts": ["a"]`, policy.PortNotFound},
		"a gateway for whose pods it is not":        {[]any{service("shop/a", 70), service("shop/b", 80), gateway("80"), deployment("ingress/g", "istio=g", 1)}, `"hosts": ["a"], "gateways": ["g", "mesh"], "exportTo": ["."]`, policy.PortNotFound},
		"a gateway, the only one":                   {[]any{service("shop/b", 80), gateway("443")}, `"hosts": ["x.org"], "gateways": ["g"]`, ""},
		"a gateway, its own":                        {[]any{service("shop/b", 80, 90), gateway("80")}, `"hosts": ["x.org"], "gateways": ["g"]`, ""},
		"a gateway, none":                           {[]any{service("shop/b", 80, 90), gateway("443")}, `"hosts": ["x.org"], "gateways": ["g"]`, policy.PortNotFound},
		"a gateway that is not there":               {[]any{service("shop/b", 80, 90)}, `"hosts": ["x.org"], "gateways": ["g"]`, ""},
		"the mesh, and a gateway that is not there": {[]any{service("shop/a", 70), service("shop/b", 80, 90)}, `"hosts": ["a"], "gateways": ["g", "mesh"]`, policy.PortNotFound},
		"a gateway and the mesh":                    {[]any{service("shop/a", 80), service("shop/b", 80, 90), gateway("443")}, `"hosts": ["a"], "gateways": ["g", "mesh"]`, ""},
		"a delegate, of its root":                   {[]any{service("shop/a", 80), service("shop/b", 80, 90), root}, `"hosts": []`, ""},
		"a delegate, none of its root":              {[]any{service("shop/a", 70), service("shop/b", 80, 90), root}, `"hosts": []`, policy.PortNotFound},
		"a delegate without a root":                 {[]any{service("shop/b", 80, 90)}, `"hosts": []`, ""},
		"a delegate, not for this root":             {[]any{service("shop/a", 70), service("shop/b", 80, 90), root}, `"hosts": [], "exportTo": ["."]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			objs := append(slices.Clone(tc.objs), deployment("shop/b", "app=b", 1), podOf("shop/p", "app=b", replicaSet), slice)
			rt := istioRoute("shop/v", `{`+tc.spec+`, "http": [{"mirror": {"host": "b"}}]}`)
			got := newCluster(t, objs...).variant(rt)
			assert.Equal(t, tc.want, got.Reason, got.Detail)
		})
	}
}

// The namespace of a gateway's pods is the client, which need not be the Gateway's own.
func TestTheClientOfAGateway(t *testing.T) {
	const host = "b.shop.svc.cluster.local"
	rt := istioRoute("shop/v", `{"hosts": ["x.org"], "gateways": ["g"], "http": [{"mirror": {"host": "`+host+`", "subset": "s"}}]}`)
	c := newCluster(t, serviceOf("shop/b", "app=b"), deployment("shop/b", "app=b", 1), podOf("shop/p", "app=b", replicaSet), sliceOf("shop/s", "b", "p"),
		ruleOf("ingress/r", host, "", "s", ""), rt,
		`{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: shop, name: g}, spec: {selector: {istio: g}, servers: [{port: {number: 8000}}]}}`)
	assert.Equal(t, policy.DestinationRuleNotFound, c.variant(rt).Reason)
	c.notified()
	c.apply(deployment("ingress/g", "istio=g", 1))
	assert.Equal(t, policy.Ready, c.variant(rt).State)
	assert.Equal(t, []string{"VirtualService shop/v"}, c.notified())
	c.apply(deployment("evil/g", "istio=other", 1))
	assert.Empty(t, c.notified())
	c.Delete(KindDeployment, "ingress", "g")
	assert.Equal(t, policy.DestinationRuleNotFound, c.variant(rt).Reason)
	assert.Equal(t, []string{"VirtualService shop/v"}, c.notified())
}

// A route that is bound to a gateway and mirrors to the gateway's own Service gets its copies back.
func TestLoops(t *testing.T) {
	istio := `{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: shop, name: g}, spec: {selector: {istio: g}}}`
	mirrors := func(spec string) *route.Route {
		return istioRoute("shop/v", `{`+spec+`, "http": [{"mirror": {"host": "b"}}]}`)
	}
	gatewayAPI := func(gateway string) *route.Route {
		rt := httpRoute("shop/r", "shop/a", "shop/b")
		rt.Parents = []route.Parent{{Group: route.GatewayGroup, Kind: "Gateway", Namespace: "shop", Name: gateway}}
		return rt
	}
	for name, tc := range map[string]struct {
		selector string
		rt       *route.Route
		gateway  bool
		want     string
	}{
		"its own gateway":              {"istio=g", mirrors(`"hosts": ["x.org"], "gateways": ["g"]`), true, `Gateway "shop/g"`},
		"its own by another label":     {"app=gateway", mirrors(`"hosts": ["x.org"], "gateways": ["g"]`), true, `Gateway "shop/g"`},
		"another gateway":              {"istio=g", mirrors(`"hosts": ["x.org"], "gateways": ["other"]`), true, ""},
		"sidecars":                     {"istio=g", mirrors(`"hosts": ["a"]`), true, ""},
		"no gateway":                   {"app=b", mirrors(`"hosts": ["x.org"], "gateways": ["g"]`), false, ""},
		"of the Gateway API":           {"gateway.networking.k8s.io/gateway-name=g", gatewayAPI("g"), true, `Gateway "shop/g"`},
		"another of the Gateway API":   {"gateway.networking.k8s.io/gateway-name=g", gatewayAPI("h"), true, ""},
		"a parent that is the Service": {"app=b", httpRoute("shop/r", "shop/b", "shop/b"), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := newCluster(t, istio, serviceOf("shop/b", tc.selector), deployment("shop/g", "istio=g,app=gateway", 1)).variant(tc.rt)
			assert.Equal(t, tc.want, got.Loop)
			assert.Equal(t, tc.gateway, got.Gateway)
		})
	}
	// VirtualServices that mirror to each other's host: copies go straight to endpoints.
	there, back := virtualService("shop/w", "b", "a"), virtualService("shop/v", "a", "b")
	assert.Empty(t, newCluster(t, there, serviceOf("shop/a", "app=a"), serviceOf("shop/b", "app=b")).variant(back).Loop)
}

// aliasOf returns an ExternalName Service.
func aliasOf(name, to string, ports ...int32) *corev1.Service {
	s := serviceOf(name, "")
	s.Spec.Type, s.Spec.ExternalName, s.Spec.Ports = corev1.ServiceTypeExternalName, to, nil
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Port: p})
	}
	return s
}

// An ExternalName Service with ports stands for another host, which Istio must know; one without is left alone.
func TestExternalNames(t *testing.T) {
	vs, http := virtualService("shop/v", "a", "e"), httpRoute("shop/r", "shop/a", "shop/e")
	named := istioRoute("shop/v", `{"hosts": ["a"], "http": [{"mirror": {"host": "e", "port": {"number": 8000}}}]}`)
	missing := istioRoute("shop/v", `{"hosts": ["a"], "http": [{"mirror": {"host": "e", "port": {"number": 81}}}]}`)
	gateway := istioRoute("shop/v", `{"hosts": ["a"], "gateways": ["g"], "http": [{"mirror": {"host": "e", "port": {"number": 8000}}}]}`)
	a := serviceOf("shop/a", "app=a") // its clients call port 8000
	for name, tc := range map[string]struct {
		rt       *route.Route
		objs     []any
		external bool
		want     policy.Reason
	}{
		"without ports":                        {vs, []any{aliasOf("shop/e", "x.io")}, true, ""},
		"unknown to the mesh":                  {vs, []any{aliasOf("shop/e", "x.io", 8000)}, false, policy.HostNotFound},
		"a ServiceEntry":                       {vs, []any{aliasOf("shop/e", "x.io", 8000), entryOf("shop/x", "x.io", "")}, true, ""},
		"a ServiceEntry, at none of its ports": {vs, []any{a, aliasOf("shop/e", "x.io", 81), entryOf("shop/x", "x.io", "")}, false, policy.PortNotFound},
		"a ready Service":                      {vs, append(readyObjects(), aliasOf("shop/e", hostOfB, 8000)), false, ""},
		"a missing Service":                    {vs, []any{aliasOf("shop/e", hostOfB, 8000)}, false, policy.HostNotFound},
		"a dot at the end":                     {vs, append(readyObjects(), aliasOf("shop/e", hostOfB+".", 8000)), false, policy.HostNotFound},
		"another alias":                        {vs, append(readyObjects(), aliasOf("shop/e", "f.shop.svc.cluster.local", 8000), aliasOf("shop/f", hostOfB, 8000)), false, policy.HostNotFound},
		"a port that no client calls":          {vs, append(readyObjects(), a, aliasOf("shop/e", hostOfB, 81)), false, policy.PortNotFound},
		"the same, and the mirror names one":   {named, append(readyObjects(), a, aliasOf("shop/e", hostOfB, 81)), false, policy.PortNotFound},
		"the same at a gateway":                {gateway, append(readyObjects(), a, aliasOf("shop/e", hostOfB, 81)), false, ""},
		"a port that only the mirror has":      {missing, append(readyObjects(), a, aliasOf("shop/e", hostOfB, 8000)), false, policy.PortNotFound},
		"a port that only the alias has":       {vs, append(readyObjects(), serviceOf("shop/c", ""), aliasOf("shop/e", "c.shop.svc.cluster.local", 81)), false, policy.PortNotFound},
		"of a HTTPRoute":                       {http, []any{aliasOf("shop/e", "x.io", 8000)}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := newCluster(t, tc.objs...).variant(tc.rt)
			assert.Equal(t, tc.external, got.External)
			assert.Equal(t, tc.want, got.Reason, got.Detail)
		})
	}
}

func TestHosts(t *testing.T) {
	ext := virtualService("web/v", "v", "api.example.com")
	found := policy.Variant{State: policy.Ready, Exists: true, External: true}
	missing := policy.Variant{
		State: policy.Absent, Reason: policy.HostNotFound, Detail: `no ServiceEntry defines host "api.example.com"`,
	}
	cases := map[string]struct {
		objs []any
		want policy.Variant
	}{
		"none":      {nil, missing},
		"exact":     {[]any{entryOf("shop/e", "api.example.com", "")}, found},
		"wildcard":  {[]any{entryOf("shop/e", "*.example.com", "")}, missing},
		"private":   {[]any{entryOf("shop/e", "api.example.com", `"."`)}, found},
		"capitals":  {[]any{entryOf("shop/e", "API.example.com", "")}, missing},
		"of nobody": {[]any{entryOf("shop/e", "api.example.com", `"~"`)}, missing},
		"exported":  {[]any{entryOf("shop/e", "api.example.com", `web`)}, found},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, newCluster(t, tc.objs...).variant(ext))
		})
	}
	c := newCluster(t, entryOf("shop/e", "api.example.com", ""), ruleOf("shop/r", "api.example.com", "", "s", ""))
	got := c.variant(virtualService("web/v", "v", "api.example.com#none"))
	assert.True(t, got.LacksSubset, "DestinationRules apply to the host of a ServiceEntry")
	assert.Equal(t, []string{"s"}, got.Subsets)
}

// A client must call the port at which it finds a ServiceEntry: that others call it, who do not find it, is not enough.
func TestPortsOfServiceEntriesThatSomeClientsFind(t *testing.T) {
	at81 := func(name, host, exportTo string) string {
		return strings.ReplaceAll(entryOf(name, host, exportTo), "80", "81")
	}
	rt := virtualService("web/v", "x.org", "api.example.com")
	for name, tc := range map[string]struct {
		called, found string
		want          policy.Reason
	}{
		"all":               {"", "", ""},
		"all find it":       {"third", "", ""},
		"all call it":       {"", "third", ""},
		"the same":          {"third, web", "third", ""},
		"others":            {"third", "web", policy.PortNotFound},
		"its own namespace": {"shop", "web", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, at81("one/called", "x.org", tc.called), at81("shop/found", "api.example.com", tc.found))
			assert.Equal(t, tc.want, c.variant(rt).Reason)
		})
	}
}

func TestShortHosts(t *testing.T) {
	rt := virtualService("web/v", "v", "b.shop")
	for m := range mirrors(rt) {
		require.True(t, m.ShortHost)
	}
	c := newCluster(t, serviceOf("shop/b", "app=b"))
	assert.False(t, c.variant(rt).External)
	c.apply(entryOf("shop/e", "b.shop", ""))
	assert.True(t, c.variant(rt).External)

	full := virtualService("web/v", "v", "c.shop.svc.cluster.local")
	assert.Equal(t, policy.ServiceNotFound, c.variant(full).Reason)
	c.apply(entryOf("shop/f", "c.shop.svc.cluster.local", ""))
	assert.True(t, c.variant(full).External, "the ServiceEntry is for a Service of another cluster")

	_, findings := of(t, c, istioRoute("web/v", `{"hosts": ["v"], "http": [{"mirror": {"host": "c.shop.svc.cluster.local", "port": {"number": 80}, "subset": "s"}}]}`))
	assert.Empty(t, findings, "its DestinationRule may come, and nothing is known of its ports")
}

func TestClusterDomain(t *testing.T) {
	i, err := FromObjects(Options{ClusterDomain: "corp.internal"}, serviceOf("shop/b", "app=b"))
	require.NoError(t, err)
	raw, err := yamlToJSON(ruleOf("web/r", "b.shop.svc.corp.internal", "", "s", ""))
	require.NoError(t, err)
	require.NoError(t, i.Load(raw))
	c := &cluster{Index: i, t: t}
	assert.True(t, c.variant(virtualService("shop/v", "v", "b")).Exists)
	assert.Empty(t, c.variant(virtualService("shop/v", "v", "b#none")).Subsets)
	rt := virtualService("web/v", "v", "x")
	rt.Rules[0].Mirrors[0].Target = route.Target{Kind: route.TargetService, Namespace: "shop", Name: "b", Subset: "none"}
	assert.Equal(t, []string{"s"}, c.variant(rt).Subsets)
}
