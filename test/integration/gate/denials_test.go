package gate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// targets are the objects that the routes of this file contradict.
const targets = `
apiVersion: v1
kind: Service
metadata: {name: two-ports}
spec: {ports: [{name: http, port: 80}, {name: admin, port: 81}], selector: {app: httpbin, version: httpbin-v2}}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.org}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: two-ports}
spec: {host: two-ports, subsets: [{name: v2, labels: {version: httpbin-v2}}]}
`

const badVirtualService = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad}
spec:
  hosts: [bad.example.com]
  http:
  - route: [{destination: {host: httpbin-v1}}]
    mirror: {host: two-ports, port: {number: 82}, subset: v9}
    mirrorPercentage: {value: 150}
  - route: [{destination: {host: httpbin-v1}}]
    mirror: {host: two-ports}
    mirrors: [{destination: {host: outside}}, {destination: {host: "*"}, percentage: {value: -0.5}}]
  - redirect: {uri: /elsewhere}
    mirror: {host: httpbin-v2}
  - directResponse: {status: 200}
    mirror: {host: httpbin-v2}
  - route: [{destination: {host: httpbin-v1}}]
    mirrorPercentage: {value: 5}
  - route: [{destination: {host: httpbin-v2}}]
    mirror: {host: httpbin-v2.NAMESPACE.svc.cluster.local}
`

const badVirtualServiceSays = `The VirtualService "bad" is invalid: 
* spec.http[0].mirrorPercentage.value: Invalid value: 150: PercentOutOfRange: must be a number from 0 to 100
* spec.http[0].mirror.port.number: Invalid value: 82: PortNotFound: Service "NAMESPACE/two-ports" has no such port; ports: 80 (http), 81 (admin)
* spec.http[0].mirror.subset: Invalid value: "v9": SubsetNotFound: no DestinationRule for host "two-ports" has this subset; subsets: v2
* spec.http[1].mirrors[1].percentage.value: Invalid value: -0.5: PercentOutOfRange: must be a number from 0 to 100
* spec.http[1].mirrors[1].destination: Invalid value: "*": UnsupportedTarget: a mirror needs one host; name a Service
* spec.http[5].mirror: Invalid value: "httpbin-v2.NAMESPACE.svc.cluster.local": MirrorsItself: the rule already sends requests to this target; mirror to another Service, port or subset
* spec.http[1].mirrors: Invalid value: [...]: MirrorConflict: the rule has both mirror and mirrors; move mirror into mirrors`

const badHTTPRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bad}
spec:
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: two-ports, port: 8080}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v1, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: outside, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {group: example.com, kind: Bucket, name: b, port: 80}}}
    backendRefs: [{name: httpbin-v1, port: 80}]
  - backendRefs:
    - name: httpbin-v1
      port: 80
      filters: [{type: RequestMirror, requestMirror: {backendRef: {name: two-ports, port: 8080}}}]
`

const badHTTPRouteSays = `The HTTPRoute "bad" is invalid: 
* spec.rules[0].filters[0].requestMirror.backendRef.port: Invalid value: 8080: PortNotFound: Service "NAMESPACE/two-ports" has no such port; ports: 80 (http), 81 (admin)
* spec.rules[0].filters[1].requestMirror.backendRef: Invalid value: "httpbin-v1:80": MirrorsItself: the rule already sends requests to this target; mirror to another Service, port or subset
* spec.rules[1].backendRefs[0].filters[0].requestMirror.backendRef.port: Invalid value: 8080: PortNotFound: Service "NAMESPACE/two-ports" has no such port; ports: 80 (http), 81 (admin)`

// refusal returns the message that kubectl prints for a denied manifest, without the warnings.
func refusal(t *testing.T, ns, manifest string) string {
	t.Helper()
	_, stderr, err := env.Try(t, strings.ReplaceAll(manifest, "NAMESPACE", ns), "-n", ns, "apply", "-f", "-")
	require.Error(t, err, "not denied: %s", stderr)
	var said []string
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "Warning: ") {
			said = append(said, line)
		}
	}
	return strings.ReplaceAll(strings.TrimSuffix(strings.Join(said, ""), "\n"), ns, "NAMESPACE")
}

// warned applies a manifest and returns the warnings.
func warned(t *testing.T, ns, manifest string) []string {
	t.Helper()
	_, stderr, err := env.Try(t, manifest, "-n", ns, "apply", "-f", "-")
	require.NoError(t, err, stderr)
	var said []string
	for line := range strings.Lines(strings.ReplaceAll(stderr, ns, "NAMESPACE")) {
		said = append(said, strings.TrimPrefix(strings.TrimSpace(line), "Warning: "))
	}
	return said
}

func testDenialNamesFieldValueReasonAndRemedyOfAllFaults(t *testing.T, _ *harness.Server) {
	ns := env.Namespace(t)
	apply(t, ns, targets, harness.Service("httpbin-v1"), harness.Service("httpbin-v2"))
	require.Equal(t, badVirtualServiceSays, refusal(t, ns, badVirtualService))
	require.Equal(t, badHTTPRouteSays, refusal(t, ns, badHTTPRoute))
	require.Equal(t, strings.ReplaceAll(badHTTPRouteSays, "HTTPRoute", "GRPCRoute"), refusal(t, ns, strings.ReplaceAll(badHTTPRoute, "HTTPRoute", "GRPCRoute")))

	t.Run("percentages", func(t *testing.T) {
		share := func(value string) string {
			return strings.Replace(virtualService("share", "httpbin-v2", ""), "{value: 25}", "{value: "+value+"}", 1)
		}
		for _, bad := range []string{"100.0001", "-1", "-0.0001", "1e9", "101"} {
			assert.Contains(t, refusal(t, ns, share(bad)), "spec.http[0].mirrorPercentage.value: Invalid value: ", bad)
			assert.Contains(t, refusal(t, ns, share(bad)), "PercentOutOfRange: must be a number from 0 to 100", bad)
		}
		for _, good := range []string{"0", "100", "0.0001", "1e2"} {
			said := warned(t, ns, share(good))
			assert.Len(t, said, 1, good)
			assert.Contains(t, said[0], `WorkloadNotFound: mirror to httpbin-v2 is parked: no workload in namespace "NAMESPACE" has pods with app=`, good)
		}
		old := strings.Replace(virtualService("share", "httpbin-v2", ""), "mirrorPercentage: {value: 25}", "mirrorPercent: 101", 1)
		assert.Contains(t, refusal(t, ns, old), "spec.http[0].mirrorPercent: Invalid value: 101: PercentOutOfRange: must be a whole number from 0 to 100")
	})
	t.Run("annotations", func(t *testing.T) {
		mirrored := gatewayRoute(ref{"HTTPRoute", "noted"}, "httpbin-v2", "")
		assert.Contains(t, refusal(t, ns, strings.Replace(mirrored, "{name: noted}", "{name: noted, annotations: {mirrorgate.dev/gate: Soon}}", 1)),
			`metadata.annotations[mirrorgate.dev/gate]: Invalid value: "Soon": GateInvalid: supported values: "Ready", "Present", "Never"`)
		forged := strings.Replace(mirrored, "{name: noted}", "{name: noted, annotations: {mirrorgate.dev/parked: '[]'}}", 1)
		assert.Contains(t, strings.Join(warned(t, ns, forged), "\n"), "ParkedInvalid: mirrorgate.dev/parked is replaced", "no mirror needs the annotation")
		forged = strings.Replace(forged, "- filters:\n", "- filters:\n    - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-mirrorgate-parked-0123456789]}}\n", 1)
		assert.Contains(t, refusal(t, ns, strings.Replace(forged, "noted", "forged", 1)),
			"metadata.annotations[mirrorgate.dev/parked]: Invalid value: \"[]\": ParkedInvalid: ", "a mirror would be lost")
	})
}

func TestMirrorThatWasAlreadyBadOnlyWarns(t *testing.T) {
	ns := env.Namespace(t)
	apply(t, ns, targets, harness.Service("httpbin-v1"), badVirtualServiceWith(150))
	env.Serve(t)
	kubectl(t, ns, "label", "virtualservice", "bad", "a=b")
	const stale = "PercentOutOfRange: must be a number from 0 to 100 (spec.http[0].mirrorPercentage.value)"
	require.Contains(t, warned(t, ns, strings.Replace(badVirtualServiceWith(150), "bad.example.com", "other.example.com", 1)), stale)
	require.Equal(t, `The VirtualService "bad" is invalid: spec.http[0].mirrorPercentage.value: Invalid value: 160: PercentOutOfRange: must be a number from 0 to 100`,
		refusal(t, ns, badVirtualServiceWith(160)), "another bad value is a new finding")
	second := badVirtualServiceWith(150) + "  - route: [{destination: {host: httpbin-v1}}]\n    mirror: {host: '*'}\n"
	said := refusal(t, ns, second)
	require.Contains(t, said, "spec.http[1].mirror: Invalid value: \"*\": UnsupportedTarget")
	require.NotContains(t, said, "PercentOutOfRange", "a finding that the stored route already had is no reason to deny")
	require.NotContains(t, warned(t, ns, badVirtualServiceWith(50)), stale)
}

func badVirtualServiceWith(percent int) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad}
spec:
  hosts: [bad.example.com]
  http:
  - route: [{destination: {host: httpbin-v1}}]
    mirror: {host: httpbin-v2}
    mirrorPercentage: {value: %d}
`, percent)
}

func TestStrictDeniesMirrorsThatWouldBeParked(t *testing.T) {
	ns, other := env.Namespace(t), env.Namespace(t)
	env.Serve(t, "--strict")
	require.Contains(t, refusal(t, ns, virtualService("vs", "httpbin-v2", "")),
		`The VirtualService "vs" is invalid: spec.http[0].mirror: Invalid value: "httpbin-v2": ServiceNotFound: Service "NAMESPACE/httpbin-v2" not found`)
	require.Contains(t, refusal(t, ns, gatewayRoute(httpRoute, "httpbin-v2", other)), "NotGranted")
	apply(t, ns, harness.Service("httpbin-v2"))
	require.Contains(t, refusal(t, ns, gatewayRoute(grpcRoute, "httpbin-v2", "")), "WorkloadNotFound")
	require.Contains(t, refusal(t, ns, virtualService("subset", "httpbin-v2", "v2")), "DestinationRuleNotFound")
	apply(t, ns, harness.Deployment("httpbin-v2"))
	kubectl(t, ns, "wait", "deployment/httpbin-v2", "--for=condition=Available", "--timeout=30s")
	harness.Eventually(t, func() bool {
		return create(t, ns, gatewayRoute(httpRoute, "httpbin-v2", "")) == nil
	}, "a Ready variant is denied")
	require.Equal(t, []string{"http:httpbin-v2=active"}, states(t, ns, httpRoute))
	kubectl(t, ns, "scale", "deployment", "httpbin-v2", "--replicas=0")
	wait(t, ns, "parked", httpRoute) // flips are not denied
	require.Contains(t, refusal(t, ns, gatewayRoute(grpcRoute, "httpbin-v2", "")), "ScaledToZero")
}

func TestLimitsOfTheConfigFile(t *testing.T) {
	ns, free := env.Namespace(t), env.Namespace(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte(`
policy:
  limits: {maxPercent: 20, maxMirrors: 1}
  namespaces:
    `+free+`: {maxPercent: 30}
`), 0o600))
	env.Serve(t, "--config", config)
	const over = `Invalid value: 25: PolicyExceeded: a mirror in namespace "NAMESPACE" may copy at most 20 % of the traffic`
	require.Equal(t, `The HTTPRoute "http" is invalid: spec.rules[0].filters[0].requestMirror.percent: `+over, refusal(t, ns, gatewayRoute(httpRoute, "httpbin-v2", "")))
	require.Equal(t, `The VirtualService "vs" is invalid: spec.http[0].mirrorPercentage.value: `+over, refusal(t, ns, virtualService("vs", "httpbin-v2", "")))
	two := strings.Replace(virtualService("two", "a", ""), "    mirror: {host: a}\n    mirrorPercentage: {value: 25}",
		"    mirrors: [{destination: {host: a}, percentage: {value: 1}}, {destination: {host: b}, percentage: {value: 1}}]", 1)
	require.Contains(t, refusal(t, ns, two), `spec.http[0].mirrors[1]: Invalid value: "b": PolicyExceeded: mirrors per rule are limited to 1 in namespace "NAMESPACE"`)
	require.NoError(t, create(t, free, gatewayRoute(httpRoute, "httpbin-v2", "")), "an entry of a namespace replaces the limits")
	require.NoError(t, create(t, free, two))
}

// audited returns mirrorgate's annotations in the API server's audit log of the writes to a route, oldest
// first.
func audited(t *testing.T, ns, name string) []map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(env.Dir, "logs", "kube-apiserver.log"))
	require.NoError(t, err)
	var out []map[string]string
	for line := range strings.Lines(string(raw)) {
		var event struct {
			Kind        string
			ObjectRef   struct{ Namespace, Name string }
			Annotations map[string]string
		}
		if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &event) != nil ||
			event.Kind != "Event" || event.ObjectRef.Namespace != ns || event.ObjectRef.Name != name {
			continue
		}
		ours := map[string]string{}
		for key, value := range event.Annotations {
			if strings.Contains(key, "mirrorgate.dev/") {
				ours[key] = value
			}
		}
		out = append(out, ours)
	}
	return out
}

func testAuditLogHoldsDecisionAndReason(t *testing.T, _ *harness.Server) {
	ns := env.Namespace(t)
	apply(t, ns, gatewayRoute(httpRoute, "httpbin-v2", ""))
	refusal(t, ns, badVirtualServiceWith(150))
	apply(t, ns, harness.Workload("httpbin-v2"))
	wait(t, ns, "active", httpRoute)
	kubectl(t, ns, "label", "httproute", "http", "a=b")

	has := func(name string, want map[string]string) func() bool {
		return func() bool {
			return slices.ContainsFunc(audited(t, ns, name), func(have map[string]string) bool {
				for key, value := range want {
					if have[key] != value {
						return false
					}
				}
				return len(have) >= len(want)
			})
		}
	}
	harness.Eventually(t, has("http", map[string]string{
		"gateway.mutate.mirrorgate.dev/decision": "park", "gateway.mutate.mirrorgate.dev/reason": "ServiceNotFound",
		"gateway.validate.mirrorgate.dev/decision": "none", "gateway.validate.mirrorgate.dev/reason": "ServiceNotFound",
	}), "no park: %v", audited(t, ns, "http"))
	harness.Eventually(t, has("http", map[string]string{
		"gateway.mutate.mirrorgate.dev/decision": "restore", "gateway.mutate.mirrorgate.dev/reason": "VariantReady",
	}), "no restore: %v", audited(t, ns, "http"))
	harness.Eventually(t, has("bad", map[string]string{
		"istio.validate.mirrorgate.dev/decision": "deny", "istio.validate.mirrorgate.dev/reason": "PercentOutOfRange",
	}), "no denial: %v", audited(t, ns, "bad"))
}

// testWritesThatStoreNothingLeaveNoEvent sends dry runs and writes that are denied. A process emits its
// Events in order: once the Event of a later write is there, theirs would be there too.
func testWritesThatStoreNothingLeaveNoEvent(t *testing.T, _ *harness.Server) {
	ns := env.Namespace(t)
	apply(t, ns, targets, gatewayRoute(httpRoute, "httpbin-v2", ""))
	harness.Eventually(t, func() bool { return len(told(t, ns, httpRoute, "MirrorParked")) > 0 }, "no Event about the mirror that was parked in the write")
	apply(t, ns, harness.Workload("httpbin-v2"))
	wait(t, ns, "active", httpRoute)
	before := get(t, ns, httpRoute)

	dry := func(verb, manifest string) {
		_, stderr, err := env.Try(t, manifest, "-n", ns, verb, "--dry-run=server", "-f", "-")
		require.NoError(t, err, stderr)
		require.Contains(t, stderr, "is parked")
	}
	dry("create", virtualService("dry", "httpbin-v3", ""))
	dry("create", gatewayRoute(grpcRoute, "httpbin-v3", ""))
	dry("apply", gatewayRoute(httpRoute, "httpbin-v3", ""))
	dry("replace", gatewayRoute(httpRoute, "httpbin-v3", ""))
	refusal(t, ns, badVirtualService)
	refusal(t, ns, badHTTPRoute)
	refusal(t, ns, strings.ReplaceAll(gatewayRoute(httpRoute, "httpbin-v2", ""), "port: 80", "port: 81"))
	require.Equal(t, before, get(t, ns, httpRoute))

	later := ref{"HTTPRoute", "later"}
	apply(t, ns, gatewayRoute(later, "httpbin-v3", ""))
	harness.Eventually(t, func() bool { return len(told(t, ns, later, "MirrorParked")) > 0 }, "no Event about the later route")
	var list eventsv1.EventList
	require.NoError(t, env.Client(t).List(t.Context(), &list, client.InNamespace(ns)))
	var ours []string
	for _, e := range list.Items {
		if e.ReportingController == "mirrorgate" {
			ours = append(ours, e.Reason+" "+e.Regarding.Kind+"/"+e.Regarding.Name)
		}
	}
	require.ElementsMatch(t, []string{"MirrorParked HTTPRoute/http", "MirrorRestored HTTPRoute/http", "MirrorParked HTTPRoute/later"}, ours, "nothing else")
}
