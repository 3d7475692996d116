package webhooktest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mirrorgate/mirrorgate/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cluster = `
apiVersion: v1
kind: Service
metadata: {name: shop-v2, namespace: prod}
spec: {ports: [{port: 80}], selector: {app: shop, version: v2}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v2, namespace: prod}
spec:
  selector: {matchLabels: {app: shop, version: v2}}
  template: {metadata: {labels: {app: shop, version: v2}}}
`

const shop = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: prod}
spec:
  rules:
  - filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: shop-v2, port: 80}, percent: %d}
    backendRefs: [{name: shop-v1, port: 80}]
`

func newCluster(t *testing.T, opts Options, manifests ...string) *Cluster {
	t.Helper()
	var texts [][]byte
	for _, m := range manifests {
		texts = append(texts, []byte(m))
	}
	c, err := New(opts, texts...)
	require.NoError(t, err)
	return c
}

func apply(t *testing.T, c *Cluster, manifest string) []Result {
	t.Helper()
	results, err := c.Apply(t.Context(), []byte(manifest))
	require.NoError(t, err)
	return results
}

// one applies a manifest with one route.
func one(t *testing.T, c *Cluster, manifest string) Result {
	t.Helper()
	results := apply(t, c, manifest)
	require.Len(t, results, 1)
	return results[0]
}

func touch(t *testing.T, c *Cluster) []Result {
	t.Helper()
	results, err := c.Touch(t.Context())
	require.NoError(t, err)
	return results
}

func mirroring(percent int) string { return fmt.Sprintf(shop, percent) }

func TestRouteFollowsItsVariant(t *testing.T) {
	c := newCluster(t, Options{})
	r := one(t, c, mirroring(10))
	assert.Equal(t, Park, r.Action)
	assert.Equal(t, ServiceNotFound, r.Reason)
	assert.Equal(t, []Mirror{{
		Path: "spec.rules[0].filters[0].requestMirror", Target: "shop-v2:80", State: Parked,
		Reason: ServiceNotFound, Detail: `Service "prod/shop-v2" not found`,
	}}, r.Mirrors)
	assert.Equal(t, []string{`ServiceNotFound: mirror to shop-v2:80 is parked: Service "prod/shop-v2" not found (spec.rules[0].filters[0].requestMirror)`}, r.Warnings)
	assert.Contains(t, string(r.Stored), "x-mirrorgate-parked-")
	assert.Equal(t, r.Stored, c.Route("HTTPRoute", "prod", "shop"))

	assert.Empty(t, apply(t, c, cluster), "results are for routes")
	assert.Equal(t, r.Stored, c.Route("HTTPRoute", "prod", "shop"), "nothing moves before the controller touches the route")
	touched := touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, Restore, touched[0].Action)
	assert.Equal(t, VariantReady, touched[0].Reason)
	assert.NotContains(t, string(touched[0].Stored), "x-mirrorgate-parked-")
	assert.Contains(t, string(touched[0].Stored), `"mirrorgate.dev/variants":"shop-v2=Ready"`)
	assert.Empty(t, touch(t, c), "the route is as decided")

	apply(t, c, strings.Replace(cluster, "spec:\n  selector", "spec:\n  replicas: 0\n  selector", 1))
	touched = touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, ScaledToZero, touched[0].Mirrors[0].Reason)
	require.NoError(t, c.Delete("HTTPRoute", "prod", "shop"))
	assert.Nil(t, c.Route("HTTPRoute", "prod", "shop"))
	require.NoError(t, c.Delete("Service", "prod", "shop-v2"))
	assert.Empty(t, touch(t, c))
}

func TestRoutesOfTheFirstManifestsWaitForATouch(t *testing.T) {
	c := newCluster(t, Options{}, mirroring(10))
	assert.NotContains(t, string(c.Route("HTTPRoute", "prod", "shop")), "x-mirrorgate-parked-")
	touched := touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, Park, touched[0].Action)
}

func TestDeniedWriteKeepsTheStoredRoute(t *testing.T) {
	c := newCluster(t, Options{Policy: webhook.Policy{Limits: webhook.Limits{MaxPercent: new(20.0)}}}, cluster)
	r := one(t, c, mirroring(50))
	assert.Equal(t, Deny, r.Action)
	assert.Equal(t, PolicyExceeded, r.Reason)
	assert.True(t, apierrors.IsInvalid(r.Denied))
	assert.Nil(t, r.Stored)
	assert.Nil(t, c.Route("HTTPRoute", "prod", "shop"))

	before := one(t, c, mirroring(10)).Stored
	r = one(t, c, mirroring(60))
	require.Error(t, r.Denied)
	assert.Equal(t, before, r.Stored)
	assert.Equal(t, before, c.Route("HTTPRoute", "prod", "shop"))

	results := apply(t, c, mirroring(70)+"---"+strings.Replace(mirroring(20), "name: shop,", "name: other,", 1))
	require.Len(t, results, 2)
	require.Error(t, results[0].Denied)
	require.NoError(t, results[1].Denied, "a denied route keeps no other from being written")
}

func TestApplyingAManifestAgainChangesNothing(t *testing.T) {
	c := newCluster(t, Options{})
	parked := one(t, c, mirroring(10)).Stored
	r := one(t, c, mirroring(10))
	assert.JSONEq(t, string(parked), string(r.Stored))
	apply(t, c, cluster)
	active := touch(t, c)[0].Stored
	r = one(t, c, mirroring(10))
	assert.JSONEq(t, string(active), string(r.Stored), "the annotation of the touch stays")
	assert.Equal(t, None, r.Action)
	assert.Equal(t, Active, r.Mirrors[0].State)
}

// The match conditions of the webhooks spare such writes.
func TestWriteThatChangesNoSpecHasNoWarnings(t *testing.T) {
	c := newCluster(t, Options{}, cluster)
	post := strings.Replace(mirroring(10), "  - filters", "  - matches: [{method: POST}]\n    filters", 1)
	assert.Len(t, one(t, c, post).Warnings, 1)
	r := one(t, c, strings.Replace(post, "namespace: prod", "namespace: prod, labels: {a: b}", 1))
	assert.Equal(t, Unchanged, r.Reason)
	assert.Empty(t, r.Warnings)
	assert.Len(t, r.Mirrors, 1)
	assert.Contains(t, string(r.Stored), `"labels"`)
	assert.Len(t, one(t, c, strings.Replace(post, "spec:", "spec:\n  hostnames: [a.example]", 1)).Warnings, 1)
}

func TestWarningsAreWhole(t *testing.T) {
	long := strings.Repeat("very-", 12) + "long"
	c := newCluster(t, Options{}, strings.ReplaceAll(strings.Replace(mirroring(10), "prod", "default", 1), "shop-v2", long))
	r := touch(t, c)[0]
	require.Len(t, r.Warnings, 1)
	assert.Equal(t, fmt.Sprintf(`ServiceNotFound: mirror to %s:80 is parked: Service "default/%s" not found (spec.rules[0].filters[0].requestMirror)`, long, long), r.Warnings[0])
}

func TestWarningsOfBothWebhooksAreKept(t *testing.T) {
	c := newCluster(t, Options{}, cluster)
	r := one(t, c, strings.Replace(mirroring(10), "namespace: prod", "namespace: prod, annotations: {mirrorgate.dev/parked: junk}", 1))
	require.Len(t, r.Warnings, 1, "of the mutating webhook, which removes the annotation")
	assert.Contains(t, r.Warnings[0], string(ParkedInvalid))
	assert.NotContains(t, string(r.Stored), "junk")
}

func TestNumbersAndEscapesOutliveParking(t *testing.T) {
	const route = `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"shop","namespace":"prod","annotations":{"a":"\ud83d\ude00 \/"}},
		"spec":{"hosts":["shop"],"http":[{"route":[{"destination":{"host":"shop-v1"},"weight":9007199254740993}],
		"mirror":{"host":"shop-v2"},"mirrorPercentage":{"value":1e-02},"match":[{"uri":{"exact":"\ud83d\ude00 \/ <"}}]}]}}`
	c := newCluster(t, Options{})
	r := one(t, c, route)
	require.Equal(t, Park, r.Action)
	for _, text := range []string{`"\ud83d\ude00 \/ `, `9007199254740993`, `1e-02`} {
		assert.Contains(t, string(r.Stored), text)
	}
	apply(t, c, cluster)
	r = touch(t, c)[0]
	require.Equal(t, Restore, r.Action)
	for _, text := range []string{`"a":"\ud83d\ude00 \/"`, `9007199254740993`, `1e-02`} {
		assert.Contains(t, string(r.Stored), text)
	}
	assert.Contains(t, string(one(t, c, strings.Replace(mirroring(10), "shop-v1, port: 80", "shop-v1, port: 80, weight: 9007199254740993", 1)).Stored), `9007199254740993`)
}

func TestGraceEndsWithTheTimeThatPasses(t *testing.T) {
	c := newCluster(t, Options{UnreadyGrace: 10 * time.Second}, cluster, mirroring(10))
	require.NoError(t, c.SetReady("Deployment", "prod", "shop-v2", false))
	assert.Empty(t, touch(t, c))
	c.Advance(9 * time.Second)
	assert.Empty(t, touch(t, c))
	c.Advance(time.Second)
	touched := touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, NoReadyEndpoints, touched[0].Mirrors[0].Reason)

	c = newCluster(t, Options{}, cluster, mirroring(10))
	require.NoError(t, c.SetReady("Deployment", "prod", "shop-v2", false))
	assert.Len(t, touch(t, c), 1, "the grace is off")
}

const subsets = `
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}], selector: {app: shop}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: %s}
spec: {host: shop.default.svc.%s, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v1}
spec: {template: {metadata: {labels: {app: shop, version: v1}}}}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop-v2}
spec: {workloadRef: {apiVersion: apps/v1, kind: Deployment, name: template-v2}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: template-v2}
spec: {replicas: 0, template: {metadata: {labels: {app: shop, version: v2}}}}
`

const subsetRoute = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec: {hosts: [shop], http: [{route: [{destination: {host: shop, subset: v1}}], mirror: {host: shop, subset: v2}}]}
`

func TestReadinessIsThatOfTheSubset(t *testing.T) {
	c := newCluster(t, Options{}, fmt.Sprintf(subsets, "default", "cluster.local"), subsetRoute)
	require.NoError(t, c.SetReady("Deployment", "default", "shop-v1", false))
	assert.Empty(t, touch(t, c), "the primary's subset does not matter")
	require.NoError(t, c.SetReady("Rollout", "default", "shop-v2", false))
	require.Len(t, touch(t, c), 1)
	require.NoError(t, c.SetReady("Service", "default", "shop", true))
	assert.Equal(t, Restore, touch(t, c)[0].Action, "all workloads of the Service are ready")
}

func TestServiceWithoutASelectorHasAnEndpointOfItsOwn(t *testing.T) {
	external := "{apiVersion: v1, kind: Service, metadata: {name: shop-v2, namespace: prod}, spec: {ports: [{port: 80}]}}"
	c := newCluster(t, Options{}, external)
	assert.Equal(t, WorkloadNotFound, one(t, c, mirroring(10)).Reason)
	require.NoError(t, c.SetReady("Service", "prod", "shop-v2", true))
	assert.Equal(t, Restore, touch(t, c)[0].Action)
	require.NoError(t, c.SetReady("Service", "prod", "shop-v2", false))
	assert.Equal(t, NoReadyEndpoints, touch(t, c)[0].Reason)
}

func TestReadinessThatCannotBeSet(t *testing.T) {
	slice := `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: a, namespace: prod, labels: {kubernetes.io/service-name: shop-v2}},
		endpoints: [{addresses: [192.0.2.1], conditions: {ready: false}}]}`
	c := newCluster(t, Options{}, cluster, slice)
	for name, kind := range map[string]string{"there is no Deployment prod/missing": "Deployment", "there is no Pod prod/missing": "Pod"} {
		require.ErrorContains(t, c.SetReady(kind, "prod", "missing", true), name)
	}
	require.ErrorContains(t, c.SetReady("Deployment", "prod", "shop-v2", true), "Service prod/shop-v2 has an EndpointSlice of its own")
	require.ErrorContains(t, c.SetReady("EndpointSlice", "prod", "a", true), "is no workload with pods")
	require.NoError(t, c.Delete("EndpointSlice", "prod", "a"))
	require.NoError(t, c.SetReady("Deployment", "prod", "shop-v2", true))
	require.NoError(t, c.Delete("Deployment", "prod", "shop-v2"))
	require.ErrorContains(t, c.SetReady("Service", "prod", "shop-v2", true), "selects no workload")
	require.ErrorContains(t, c.Delete("Deployment", "prod", "shop-v2"), "there is no Deployment prod/shop-v2")
}

func TestWorkloadThatComesBackIsReadyAgain(t *testing.T) {
	c := newCluster(t, Options{}, cluster, mirroring(10))
	require.NoError(t, c.SetReady("Deployment", "prod", "shop-v2", false))
	require.NoError(t, c.Delete("Deployment", "prod", "shop-v2"))
	require.Len(t, touch(t, c), 1)
	apply(t, c, cluster)
	assert.Equal(t, Restore, touch(t, c)[0].Action)
}

func TestRoutesThatAreNotAdmittedAreStoredAsWritten(t *testing.T) {
	disabled := "{apiVersion: v1, kind: Namespace, metadata: {name: prod, labels: {mirrorgate.dev/admission: disabled}}}"
	for name, c := range map[string]*Cluster{
		"a namespace that opted out":       newCluster(t, Options{}, disabled),
		"routes that are not looked after": newCluster(t, Options{Routes: []string{"istio"}}),
	} {
		r := one(t, c, mirroring(10))
		assert.Equal(t, None, r.Action, name)
		assert.Empty(t, r.Reason, name)
		assert.Empty(t, r.Mirrors, name)
		assert.NotContains(t, string(r.Stored), "x-mirrorgate-parked-", name)
		assert.Empty(t, touch(t, c), name)
	}
	c := newCluster(t, Options{Routes: []string{"gateway-api"}}, disabled)
	one(t, c, mirroring(10))
	require.NoError(t, c.Delete("Namespace", "", "prod"))
	assert.Len(t, touch(t, c), 1)
}

func TestOptionsOfServe(t *testing.T) {
	for name, tc := range map[string]struct {
		opts         Options
		rule, domain string
		want         State
		reason       Reason
	}{
		"defaults":                      {Options{}, "istio-system", "cluster.local", Active, VariantReady},
		"another root namespace":        {Options{RootNamespace: "mesh"}, "mesh", "cluster.local", Active, VariantReady},
		"not the root namespace":        {Options{RootNamespace: "mesh"}, "istio-system", "cluster.local", Parked, DestinationRuleNotFound},
		"another cluster domain":        {Options{ClusterDomain: "corp.internal"}, "default", "corp.internal", Active, VariantReady},
		"not the cluster domain":        {Options{ClusterDomain: "corp.internal"}, "default", "cluster.local", Parked, DestinationRuleNotFound},
		"variants that are assumed":     {Options{AssumeApplied: true}, "hidden", "cluster.local", Active, VariantReady},
		"variants that are not assumed": {Options{}, "hidden", "cluster.local", Parked, DestinationRuleNotFound},
	} {
		c := newCluster(t, tc.opts, fmt.Sprintf(subsets, tc.rule, tc.domain))
		// Clients in other namespaces, which might find the subset, do not see the route.
		m := one(t, c, strings.Replace(subsetRoute, "spec: {", "spec: {exportTo: [.], ", 1)).Mirrors[0]
		assert.Equal(t, tc.want, m.State, name)
		assert.Equal(t, tc.reason, m.Reason, name)
	}
	c := newCluster(t, Options{Namespace: "prod"}, cluster)
	r := one(t, c, strings.Replace(mirroring(10), ", namespace: prod", "", 1))
	assert.Equal(t, VariantReady, r.Reason)
	assert.NotNil(t, c.Route("HTTPRoute", "prod", "shop"))
	c = newCluster(t, Options{Policy: webhook.Policy{Strict: true}})
	assert.Equal(t, ServiceNotFound, one(t, c, mirroring(10)).Reason)
	require.Nil(t, c.Route("HTTPRoute", "prod", "shop"), "strict")

	_, err := New(Options{Routes: []string{"ingress"}})
	require.EqualError(t, err, `option Routes: "ingress": must be one of [gateway-api istio]`)
	_, err = New(Options{UnreadyGrace: -1})
	require.EqualError(t, err, "option UnreadyGrace: -1ns: must be 0 or more")
}

func TestAssumedVariantIsNotOneThatContradicts(t *testing.T) {
	c := newCluster(t, Options{AssumeApplied: true}, strings.Replace(cluster, "port: 80", "port: 81", 1))
	assert.Equal(t, PortNotFound, one(t, c, mirroring(10)).Reason)
}

func TestManifestsAreReadStrictly(t *testing.T) {
	misspelt := strings.Replace(mirroring(10), "percent:", "percentage:", 1)
	c := newCluster(t, Options{})
	for text, want := range map[string]string{
		misspelt: `HTTPRoute prod/shop: unknown field "spec.rules[0].filters[0].requestMirror.percentage"`,
		cluster + "\n---\n" + strings.Replace(cluster, "template:", "tmplate:", 1): `Deployment prod/shop-v2: unknown field "spec.tmplate"`,
		"{apiVersion: v1, kind: Service, metadata: {namespace: a}}":                "Service a/: metadata.name must be set",
		"{kind: Service}": `read manifest: {"kind":"Service"}: is no object with apiVersion and kind`,
		"just text":       `read manifest: "just text": is no object with apiVersion and kind`,
		"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: mirror}}": "must not be of type",
		"a: [": "read manifest: document 1: ",
	} {
		_, err := c.Apply(t.Context(), []byte(text))
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, c.Delete("Service", "prod", "shop-v2"), "there is no", "nothing is written of a manifest with an error")
	_, err := New(Options{}, []byte(misspelt))
	require.Error(t, err)

	c = newCluster(t, Options{AllowUnknownFields: true})
	assert.Contains(t, string(one(t, c, misspelt).Stored), "percentage")
	assert.Empty(t, apply(t, c, "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a}, any: field}"))
	require.Error(t, c.Delete("Service", "default", "a"), "of an unknown kind")
}

func TestEveryReasonAndActionIsExported(t *testing.T) {
	names := func(file string) (names []string) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				names = append(names, spec.Names[0].Name)
			}
			return true
		})
		return names
	}
	exported := names("reasons.go")
	assert.Subset(t, exported, names("../../internal/policy/reasons.go"))
	assert.Subset(t, exported, []string{"Park", "Restore", "None", "Skip", "Deny"})
}
