package variant

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

func entryOf(name, host, exportTo string) string {
	m := meta(name)
	return `{apiVersion: networking.istio.io/v1beta1, kind: ServiceEntry, metadata: {namespace: ` + m.Namespace + `, name: ` + m.Name + `},
spec: {hosts: ["` + host + `"], exportTo: [` + exportTo + `]}}`
}

func TestCovering(t *testing.T) {
	assert.Equal(t, []string{"a.b.c", "*.b.c", "*.c", "*"}, covering("a.b.c"))
	assert.Equal(t, []string{"*.b.c", "*.c", "*"}, covering("*.b.c"))
	assert.Equal(t, []string{"a", "*"}, covering("a"))
	assert.Equal(t, []string{"*"}, covering("*"))
}

// The route is in the namespace web, the Service in shop.
func TestWhichDestinationRuleApplies(t *testing.T) {
	const host = "b.shop.svc.cluster.local"
	cases := map[string]struct {
		rules []any
		want  []string
	}{
		"short name in its own namespace": {[]any{ruleOf("shop/r", "b", "", "s", "")}, []string{"s"}},
		"short name in another namespace": {[]any{ruleOf("web/r", "b", "", "s", "")}, nil},
		"name.namespace is not expanded":  {[]any{ruleOf("shop/r", "b.shop", "", "s", "")}, nil},
		"upper case":                      {[]any{ruleOf("shop/r", "B", "", "s", "")}, []string{"s"}},
		"full name":                       {[]any{ruleOf("web/r", host, "", "s", "")}, []string{"s"}},
		"namespace wildcard":              {[]any{ruleOf("web/r", "*.shop.svc.cluster.local", "", "s", "")}, []string{"s"}},
		"widest wildcard":                 {[]any{ruleOf("web/r", "*.local", "", "s", "")}, []string{"s"}},
		"wildcard of another namespace":   {[]any{ruleOf("web/r", "*.web.svc.cluster.local", "", "s", "")}, nil},
		"exact before wildcard": {[]any{
			ruleOf("shop/r", "*.shop.svc.cluster.local", "", "wild", ""), ruleOf("shop/q", "b", "", "exact", "")}, []string{"exact"}},
		"long wildcard before short": {[]any{
			ruleOf("shop/r", "*.local", "", "short", ""), ruleOf("shop/q", "*.svc.cluster.local", "", "long", "")}, []string{"long"}},
		"several for one host": {[]any{
			ruleOf("shop/r", "b", "", "one", ""), ruleOf("shop/q", host, "", "two", "")}, []string{"one", "two"}},
		"client's namespace first": {[]any{
			ruleOf("shop/r", "b", "", "service", ""), ruleOf("web/r", "*.local", "", "client", ""),
			ruleOf("istio-system/r", host, "", "root", "")}, []string{"client"}},
		"then the Service's": {[]any{
			ruleOf("istio-system/r", host, "", "root", ""), ruleOf("shop/r", "b", "", "service", "")}, []string{"service"}},
		"then the root":              {[]any{ruleOf("istio-system/r", host, "", "root", "")}, []string{"root"}},
		"no other namespace":         {[]any{ruleOf("other/r", host, "", "s", "")}, nil},
		"exported to all":            {[]any{ruleOf("shop/r", "b", `"*"`, "s", "")}, []string{"s"}},
		"exported to the client":     {[]any{ruleOf("shop/r", "b", "x, web", "s", "")}, []string{"s"}},
		"exported to others":         {[]any{ruleOf("shop/r", "b", "x", "s", "")}, nil},
		"private":                    {[]any{ruleOf("shop/r", "b", `"."`, "s", "")}, nil},
		"private to the client":      {[]any{ruleOf("web/r", host, `"."`, "s", "")}, []string{"s"}},
		"invisible, so the next one": {[]any{ruleOf("shop/r", "b", `"."`, "hidden", ""), ruleOf("shop/q", "*.local", "", "s", "")}, []string{"s"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, append(tc.rules, serviceOf("shop/b", "app=b"))...)
			got := c.variant(virtualService("web/v", "v", host+"#none"))
			assert.Equal(t, tc.want, got.Subsets)
			assert.Equal(t, tc.want != nil, got.LacksSubset)
		})
	}
}

func TestHosts(t *testing.T) {
	ext := virtualService("web/v", "v", "api.example.com#s")
	found := policy.Variant{State: policy.Ready, Exists: true, External: true}
	missing := policy.Variant{
		State: policy.Absent, Reason: policy.HostNotFound, Detail: `no ServiceEntry defines host "api.example.com"`,
	}
	cases := map[string]struct {
		objs []any
		want policy.Variant
	}{
		"none":             {nil, missing},
		"exact":            {[]any{entryOf("shop/e", "api.example.com", "")}, found},
		"wildcard":         {[]any{entryOf("shop/e", "*.example.com", "")}, missing},
		"private":          {[]any{entryOf("shop/e", "api.example.com", `"."`)}, missing},
		"exported":         {[]any{entryOf("shop/e", "api.example.com", `web`)}, found},
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
