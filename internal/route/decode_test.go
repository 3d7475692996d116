package route

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHosts(t *testing.T) {
	service := func(namespace, name string) Target {
		return Target{Kind: TargetService, Namespace: namespace, Name: name}
	}
	host := func(name string) Target { return Target{Kind: TargetHost, Name: name} }
	for _, tc := range []struct {
		host, domain string
		want         Target
		short        bool
	}{
		{host: "v2", want: service("shop", "v2")},
		{host: "V2", want: host("V2")},
		{host: "v2.Other.svc.cluster.local", want: host("v2.Other.svc.cluster.local")},
		{host: "v2.other.svc.cluster.local", want: service("other", "v2")},
		{host: "v2.other.svc.example.org", domain: "example.org", want: service("other", "v2")},
		{host: "v2.other.svc.cluster.local", domain: "example.org", want: host("v2.other.svc.cluster.local")},
		{host: "v2.other", want: host("v2.other"), short: true},
		{host: "v2.other.svc", want: host("v2.other.svc"), short: true},
		{host: "example.com", want: host("example.com"), short: true},
		{host: "api.example.com", want: host("api.example.com")},
		{host: "v2.svc", want: host("v2.svc")},
		{host: "v2.svc.cluster.local", want: host("v2.svc.cluster.local")},
		{host: ".svc.cluster.local", want: host(".svc.cluster.local")},
		{host: ".other", want: host(".other")},
		{host: "v2.", want: host("v2.")},
		{host: ".", want: host(".")},
		{host: "", want: host("")},
		{host: "*", want: host("*")},
		{host: "*.example.com", want: host("*.example.com")},
		{host: "*.svc.cluster.local", want: host("*.svc.cluster.local")},
	} {
		t.Run(tc.host, func(t *testing.T) {
			if tc.domain == "" {
				tc.domain = DefaultClusterDomain
			}
			got, short := hostTarget(tc.host, "shop", tc.domain)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.short, short)
		})
	}
}

func TestDecodeReadsServesAndOwners(t *testing.T) {
	rt := decode(t, fromYAML(t, `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata:
  name: web
  namespace: shop
  uid: "1"
  resourceVersion: "2"
  deletionTimestamp: "2026-01-01T00:00:00Z"
  ownerReferences: [{apiVersion: flagger.app/v1beta1, kind: Canary, name: web, uid: 1-2, controller: true}, {apiVersion: v1, kind: Pod, name: a}]
spec:
  parentRefs:
  - {name: gateway}
  - {group: "", kind: Service, name: web}
  - {group: "", kind: Service, name: web, namespace: other}
  - {kind: Gateway, name: gateway}
  - {group: example.com, kind: Service, name: web}
  hostnames: [web.example.com, web-shadow.example.com]
`), nil)
	assert.Equal(t, []Parent{
		{GatewayGroup, "Gateway", "shop", "gateway"}, {"", "Service", "shop", "web"}, {"", "Service", "other", "web"},
		{GatewayGroup, "Gateway", "shop", "gateway"}, {"example.com", "Service", "shop", "web"},
	}, rt.Parents)
	assert.Equal(t, []Owner{{"flagger.app", "Canary", "web", "1-2", true}, {"v1", "Pod", "a", "", false}}, rt.Owners)
	assert.True(t, rt.TellsCopies, "a hostname ends in -shadow")
	assert.Equal(t, "HTTPRoute shop/web", rt.String())
	assert.True(t, rt.Deleting)
	assert.Equal(t, []string{"1", "2", "gateway.networking.k8s.io/v1beta1"}, []string{rt.UID, rt.ResourceVersion, rt.APIVersion})

	rt = decode(t, fromYAML(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {generateName: web-, namespace: shop}
spec:
  hosts: [web.shop.svc.cluster.local, api.example.com, "*", web.other, WEB]
  gateways: [mesh, public, ./own, edge/public, public.edge, public.edge.svc.cluster.local]
  exportTo: [., edge, "*"]
  http: [{delegate: {name: a}}, {delegate: {name: b, namespace: other}}, {delegate: {}}, {}]
`), nil)
	assert.Equal(t, []Target{
		{Kind: TargetService, Namespace: "shop", Name: "web"}, {Kind: TargetHost, Name: "api.example.com"}, {Kind: TargetHost, Name: "*"},
		{Kind: TargetHost, Name: "web.other"},
	}, rt.Hosts, "Istio does not expand web.other; web is there once")
	assert.Equal(t, []string{"mesh", "shop/public", "shop/own", "edge/public"}, rt.Gateways)
	assert.Equal(t, []string{"shop", "edge", "*"}, rt.ExportTo)
	assert.Equal(t, []ServiceName{{"shop", "a"}, {"other", "b"}}, rt.Delegates)
	assert.False(t, rt.TellsCopies)
	assert.False(t, rt.IsDelegate())
	assert.Equal(t, "web-", rt.Name)
}

func TestKinds(t *testing.T) {
	for kind, want := range map[Kind]string{
		HTTPRoute: "httproutes.gateway.networking.k8s.io", GRPCRoute: "grpcroutes.gateway.networking.k8s.io",
		VirtualService: "virtualservices.networking.istio.io",
	} {
		assert.Equal(t, want, kind.Resource()+"."+kind.Group())
	}
	target := Target{Kind: TargetService, Namespace: "shop", Name: "v2", Port: 80, Subset: "x"}
	assert.Equal(t, "shop/v2", target.Service().String())
	assert.Equal(t, Target{Kind: TargetService, Namespace: "shop", Name: "v2", Subset: "x"}, target.WithoutPort())
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:     "decode route: unexpected EOF",
		`{"`:   "decode route: unexpected EOF after offset 2",
		`5`:    "decode route: must not be of type number",
		`null`: "decode route: metadata.name is missing",
		`{"metadata":{"name":"a"},"kind":"HTTPRoute","apiVersion":"v1"}`:                                                         "v1 HTTPRoute: not an HTTPRoute, a GRPCRoute or a VirtualService",
		`{"metadata":{"name":"a"},"kind":"HTTPRoute","apiVersion":"networking.istio.io/v1"}`:                                     "networking.istio.io/v1 HTTPRoute: not an HTTPRoute, a GRPCRoute or a VirtualService",
		`{"metadata":{"name":"a","annotations":{"a":1}}}`:                                                                        "decode route: metadata.annotations.a must not be of type number",
		`{"metadata":{"name":"a"},"spec":{"rules":{}}}`:                                                                          "decode route: spec.rules must not be of type object",
		`{"metadata":{"name":"a"},"spec":{"rules":[],"rules":[]}}`:                                                               `decode route: duplicate object member name "rules" within "/spec"`,
		`{"metadata":{"name":"a"},"spec":{"rules":[{"filters":[{"type":"a","type":"b"}]}]}}`:                                     `decode route: duplicate object member name "type" within "/spec/rules/0/filters/0"`,
		`{"metadata":{"name":"a"},"spec":{"http":[{"mirrors":{}}]}}`:                                                             "decode route: spec.http[0].mirrors must not be of type object",
		`{"metadata":{"name":"a"},"kind":"HTTPRoute","apiVersion":"gateway.networking.k8s.io/v1","spec":{"rules":[{}]}} garbage`: "decode route: invalid character 'g' after top-level value after offset 111",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := Decode([]byte(text), Options{})
			require.EqualError(t, err, want)
		})
	}
}

func TestConcerns(t *testing.T) {
	istio := func(http, annotations string) []byte {
		return []byte(fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"a","annotations":{%s}},"spec":{"http":[%s]}}`, annotations, http))
	}
	placeholder := `{"headers":{"request":{"remove":["` + PlaceholderPrefix + `0123456789"]}}}`
	for name, tc := range map[string]struct {
		raw      []byte
		concerns bool
		previous bool // the previous version of the route is read
	}{
		"nothing":                       {istio(`{}`, ``), false, false},
		"a mirror":                      {istio(`{"mirror":{"host":"v2"}}`, ``), true, false},
		"a percentage":                  {istio(`{"mirror_percent":5}`, ``), true, false},
		"a placeholder":                 {istio(placeholder, ``), true, true},
		"a name that is no placeholder": {istio(strings.Replace(placeholder, "0123456789", "xyz", 1), ``), false, false},
		"a gate":                        {istio(``, `"mirrorgate.dev/gate":"Ready"`), true, false},
		"a touch":                       {istio(``, `"mirrorgate.dev/variants":"v2=Ready"`), true, false},
		"another annotation":            {istio(``, `"mirrorgate.dev/else":"mirror"`), false, false},
		"an annotation":                 {istio(``, `"mirrorgate.dev/parked":"{}"`), true, false},
		"an empty annotation":           {istio(``, `"mirrorgate.dev/parked":""`), true, false},
		"an annotation lost its entry":  {istio(placeholder, `"mirrorgate.dev/parked":"{}"`), true, true},
		"an annotation that is broken":  {istio(``, `"mirrorgate.dev/parked":"{"`), true, false},
		"an annotation with its entry": {
			istio(placeholder, `"mirrorgate.dev/parked":"{\"0123456789\":{\"element\":{\"destination\":{\"host\":\"v2\"}}}}"`), true, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			read := false
			rt, err := Decode(tc.raw, Options{Previous: func() *Route { read = true; return nil }})
			require.NoError(t, err)
			assert.Equal(t, tc.concerns, rt.Concerns())
			assert.Equal(t, tc.previous, read)
			if tc.concerns {
				assert.True(t, MayMirror(tc.raw))
			}
		})
	}
	assert.False(t, MayMirror(istio(`{}`, ``)))
}

func TestUnchanged(t *testing.T) {
	base := `{"metadata":{"annotations":{"a":"b","mirrorgate.dev/gate":"Ready"},"labels":{}},"spec":{"rules":[1],"hosts":[]},"status":{}}`
	for text, same := range map[string]bool{
		base: true,
		strings.Replace(base, `"a":"b"`, `"a":"c"`, 1):                             true,
		strings.Replace(base, `"labels":{}`, `"labels":{"a":"b"}`, 1):              true,
		strings.Replace(base, `"hosts":[]`, `"hosts":["a"]`, 1):                    true,
		strings.Replace(base, `"status":{}`, `"status":5`, 1):                      true,
		strings.Replace(base, `[1]`, `[2]`, 1):                                     false,
		strings.Replace(base, `"rules"`, `"http"`, 1):                              false,
		strings.Replace(base, `Ready`, `Present`, 1):                               false,
		strings.Replace(base, `"a":"b"`, `"mirrorgate.dev/parked":"{}"`, 1):        false,
		strings.Replace(base, `"a":"b"`, `"mirrorgate.dev/variants":"a=Ready"`, 1): false,
		strings.Replace(base, `"a":"b"`, `"mirrorgate.dev/else":"a"`, 1):           true,
	} {
		got, err := Unchanged([]byte(base), []byte(text))
		require.NoError(t, err)
		assert.Equal(t, same, got, text)
	}
	_, err := Unchanged([]byte(base), []byte(`[]`))
	require.Error(t, err)
}
