package webhooktest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const prod = `
apiVersion: v1
kind: Namespace
metadata: {name: prod, labels: {env: prod}}
`

func limit(bounds string) string {
	return `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorLimit
metadata: {name: production}
spec: {namespaceSelector: {matchLabels: {env: prod}}, ` + bounds + `}
`
}

const ramp = `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: {name: shop, namespace: prod}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop}]
  ramp: {steps: [{percent: 1, for: 10m}, {percent: 5, for: 1h}, {percent: 100}]}
`

// A limit that comes lowers what stands, changes with its objects, and gives everything back when it goes; Git sees no
// difference meanwhile.
func TestLimitsComeAndGo(t *testing.T) {
	c := newCluster(t, Options{}, prod, cluster)
	plain := one(t, c, mirroring(50))
	assert.Equal(t, Active, plain.Mirrors[0].State)

	share := func() string { return string(c.Route("HTTPRoute", "prod", "shop")) }
	apply(t, c, limit("maxPercent: 20"))
	touched := touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, Limit, touched[0].Action)
	assert.Equal(t, OverLimit, touched[0].Reason)
	assert.Equal(t, Limited, touched[0].Mirrors[0].State)
	assert.Equal(t, `MirrorLimit "production" allows 20 % of a rule's requests`, touched[0].Mirrors[0].Detail)
	assert.Contains(t, share(), `"numerator":200000`)
	assert.Contains(t, share(), `"mirrorgate.dev/variants":"shop-v2=Ready@20%"`)

	again := one(t, c, mirroring(50))
	assert.JSONEq(t, string(touched[0].Stored), string(again.Stored), "applied again from Git")
	export := one(t, c, string(again.Stored))
	assert.JSONEq(t, string(touched[0].Stored), string(export.Stored), "an export applied again")
	raised := one(t, c, mirroring(60))
	assert.Contains(t, string(raised.Stored), "-p60-f200000", "Git declares another share")
	lowered := one(t, c, mirroring(10))
	assert.Equal(t, Active, lowered.Mirrors[0].State, "below the limit")
	one(t, c, mirroring(50))

	apply(t, c, ramp)
	touch(t, c)
	assert.Contains(t, share(), `"numerator":10000`, "the first step of a ramp, below the limit")
	require.NoError(t, c.Delete("MirrorPolicy", "prod", "shop"))
	touch(t, c)
	assert.Contains(t, share(), `"numerator":200000`)

	apply(t, c, strings.Replace(prod, "env: prod", "env: test", 1))
	touched = touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, Active, touched[0].Mirrors[0].State, "the namespace is not selected any more")
	spec := func(route []byte) string {
		_, after, _ := strings.Cut(string(route), `"spec":`)
		return strings.TrimSuffix(after, "}")
	}
	assert.JSONEq(t, spec(plain.Stored), spec(touched[0].Stored))
	assert.Empty(t, touch(t, c))
}

// Deny, Warn and Limit, one after the other: a limit that comes later denies nothing that stands, and turning off or down
// passes always.
func TestActionsOfALimit(t *testing.T) {
	c := newCluster(t, Options{}, prod, cluster)
	one(t, c, mirroring(50))
	apply(t, c, limit("maxPercent: 20, action: Deny"))
	assert.Empty(t, touch(t, c), "what stands keeps its share")
	same := one(t, c, strings.Replace(mirroring(50), "name: shop-v1", "name: shop-v3", 1))
	require.NoError(t, same.Denied, "another change of the route")
	assert.Contains(t, strings.Join(same.Warnings, "\n"), "OverLimit")
	more := one(t, c, mirroring(51))
	require.Error(t, more.Denied)
	assert.Equal(t, OverLimit, more.Reason)
	assert.Contains(t, more.Denied.Error(), `spec.rules[0]: Invalid value: 51: OverLimit: MirrorLimit "production" allows 20 % of a rule's requests`)
	require.NoError(t, one(t, c, mirroring(30)).Denied, "less")
	require.NoError(t, one(t, c, mirroring(0)).Denied, "off")
	require.Error(t, one(t, c, mirroring(30)).Denied, "on again")

	apply(t, c, limit("maxPercent: 20, action: Warn"))
	warned := one(t, c, mirroring(30))
	require.NoError(t, warned.Denied)
	assert.Contains(t, strings.Join(warned.Warnings, "\n"), "OverLimit")
	assert.Equal(t, Active, warned.Mirrors[0].State)

	apply(t, c, limit("maxPercent: 20"))
	require.Len(t, touch(t, c), 1)
	assert.Contains(t, string(c.Route("HTTPRoute", "prod", "shop")), `"numerator":200000`)
	apply(t, c, limit("maxMirrors: 0"))
	require.Len(t, touch(t, c), 1)
	assert.Contains(t, string(c.Route("HTTPRoute", "prod", "shop")), "x-mirrorgate-parked-", "none is allowed")
}

// A limit on time parks a mirror until a MirrorPolicy gives it an end, and one on load lowers it while its variant has few
// pods.
func TestLimitsOnTimeAndLoad(t *testing.T) {
	c := newCluster(t, Options{}, prod, cluster)
	one(t, c, mirroring(50))
	apply(t, c, limit("requireExpiry: true"))
	touched := touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, Parked, touched[0].Mirrors[0].State)
	assert.Equal(t, OverLimit, touched[0].Reason)
	apply(t, c, strings.Replace(ramp, "  ramp:", "  after: 72h\n  ramp:", 1))
	touched = touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, RampStep, touched[0].Reason, "it has an end now, and a ramp")
	require.NoError(t, c.Delete("MirrorPolicy", "prod", "shop"))

	apply(t, c, limit("requireExpiry: true, action: Deny"))
	touch(t, c)
	require.Error(t, one(t, c, mirroring(60)).Denied, "more, without an end")
	require.NoError(t, one(t, c, mirroring(40)).Denied, "less")
	require.NoError(t, one(t, c, mirroring(0)).Denied, "off")
	apply(t, c, limit("maxDuration: 168h, action: Warn"))
	assert.Contains(t, strings.Join(one(t, c, mirroring(50)).Warnings, "\n"), "no MirrorPolicy counts the time of this one")

	slice := func(service string, pods int) string {
		endpoints := strings.TrimSuffix(strings.Repeat("{addresses: [10.0.0.1]}, ", pods), ", ")
		return "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: " + service +
			", namespace: prod, labels: {kubernetes.io/service-name: " + service + "}}, ports: [{name: http, port: 80}, {port: 8000}], endpoints: [" + endpoints + "]}"
	}
	apply(t, c, "{apiVersion: v1, kind: Service, metadata: {name: shop-v1, namespace: prod}, spec: {ports: [{port: 80}], selector: {app: shop, version: v1}}}")
	apply(t, c, slice("shop-v1", 10))
	apply(t, c, slice("shop-v2", 1))
	apply(t, c, limit("maxLoad: 200"))
	touched = touch(t, c)
	require.Len(t, touched, 1)
	assert.Equal(t, OverLoad, touched[0].Reason, touched[0].Mirrors)
	assert.Contains(t, string(c.Route("HTTPRoute", "prod", "shop")), `"numerator":200000`)
}
