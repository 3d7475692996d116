package verbs

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

const gatewayForm = `
apiVersion: gateway.networking.k8s.io/v1
kind: KIND
metadata: {name: web}
spec: {rules: [{backendRefs: [{name: v1, port: 80}], filters: FILTERS}]}
`

const istioForm = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: v1}}], MIRROR}]}
`

func gateway(kind, filters string) string {
	return strings.NewReplacer("KIND", kind, "FILTERS", filters).Replace(gatewayForm)
}

func mirror(requestMirror string) string {
	return gateway("HTTPRoute", "[{type: RequestMirror, requestMirror: "+requestMirror+"}]")
}

func istio(mirror string) string { return strings.Replace(istioForm, "MIRROR", mirror, 1) }

// TestLintAgreesWithTheSchemas compares lint with the CRDs of a cluster in which mirrorgate does not serve: a
// mirror that the CRDs refuse, lint refuses too.
func TestLintAgreesWithTheSchemas(t *testing.T) {
	ns := env.Namespace(t)
	v2 := "{backendRef: {name: v2, port: 80}"
	for _, c := range []struct {
		name, manifest string
		// field is the field that both complain about, or "" for a route that both accept.
		field string
	}{
		{"fine", mirror(v2 + ", percent: 100}"), ""},
		{"fine in gRPC", gateway("GRPCRoute", "[{type: RequestMirror, requestMirror: "+v2+", fraction: {numerator: 1, denominator: 1000}}}]"), ""},
		{"fine in Istio", istio("mirror: {host: v2, port: {number: 80}}, mirrorPercentage: {value: 12.5}"), ""},
		{"percent above", mirror(v2 + ", percent: 101}"), "requestMirror.percent"},
		{"percent below", mirror(v2 + ", percent: -1}"), "requestMirror.percent"},
		{"percent not whole", mirror(v2 + ", percent: 1.5}"), "requestMirror.percent"},
		{"percent as a text", mirror(v2 + `, percent: "5"}`), "requestMirror.percent"},
		{"percent in gRPC", gateway("GRPCRoute", "[{type: RequestMirror, requestMirror: "+v2+", percent: 101}}]"), "requestMirror.percent"},
		{"fraction above 1", mirror(v2 + ", fraction: {numerator: 3, denominator: 2}}"), "requestMirror.fraction"},
		{"fraction above its default", mirror(v2 + ", fraction: {numerator: 101}}"), "requestMirror.fraction"},
		{"numerator below", mirror(v2 + ", fraction: {numerator: -1}}"), "requestMirror.fraction.numerator"},
		{"no numerator", mirror(v2 + ", fraction: {denominator: 2}}"), "requestMirror.fraction.numerator"},
		{"denominator 0", mirror(v2 + ", fraction: {numerator: 0, denominator: 0}}"), "requestMirror.fraction.denominator"},
		{"percent and fraction", mirror(v2 + ", percent: 5, fraction: {numerator: 1}}"), "requestMirror"},
		{"no backendRef", mirror("{percent: 5}"), "requestMirror.backendRef"},
		{"no name", mirror("{backendRef: {port: 80}}"), "requestMirror.backendRef.name"},
		{"empty name", mirror(`{backendRef: {name: "", port: 80}}`), "requestMirror.backendRef.name"},
		{"no port", mirror("{backendRef: {name: v2}}"), "requestMirror.backendRef"},
		{"port 0", mirror("{backendRef: {name: v2, port: 0}}"), "requestMirror.backendRef.port"},
		{"port too large", mirror("{backendRef: {name: v2, port: 65536}}"), "requestMirror.backendRef.port"},
		{"namespace", mirror("{backendRef: {name: v2, port: 80, namespace: No_Label}}"), "requestMirror.backendRef.namespace"},
		{"no mirror for the type", gateway("HTTPRoute", "[{type: RequestMirror}]"), "filters[0]"},
		{"another type", gateway("GRPCRoute", "[{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}, requestMirror: "+v2+"}}]"), "filters[0]"},
		{"17 filters", gateway("HTTPRoute", "["+strings.Repeat("{type: RequestMirror, requestMirror: "+v2+", percent: 1}},", 17)+"]"), "filters"},
		{"no host", istio("mirror: {subset: blue}"), "http[0].mirror"},
		{"no destination", istio("mirrors: [{percentage: {value: 5}}]"), "http[0].mirrors[0].destination"},
		{"percentage without value", istio("mirror: {host: v2}, mirrorPercentage: 50"), "http[0].mirrorPercentage"},
		{"percentage as a text", istio(`mirrors: [{destination: {host: v2}, percentage: {value: "50"}}]`), "http[0].mirrors[0].percentage.value"},
		{"port as a text", istio(`mirror: {host: v2, port: {number: "80"}}`), "http[0].mirror.port.number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, refusal, _ := env.Try(t, c.manifest, "-n", ns, "create", "--dry-run=server", "--validate=ignore", "-f", "-")
			stdout, stderr, code := run(t, "", c.manifest, "lint", "-", "--variants-elsewhere", "-o", "json")
			var report struct {
				Findings []struct{ Level, Field string }
			}
			require.NoError(t, json.Unmarshal([]byte(stdout), &report), "%s\n%s", stdout, stderr)
			if c.field == "" {
				assert.Empty(t, refusal)
				assert.Equal(t, 0, code, stdout)
				return
			}
			assert.Contains(t, refusal, c.field, "the API server")
			assert.Equal(t, 1, code, stdout)
			var fields []string
			for _, f := range report.Findings {
				if f.Level == "error" {
					fields = append(fields, f.Field)
				}
			}
			assert.Contains(t, strings.Join(fields, "\n"), c.field, "lint")
		})
	}
}

// TestLintSeesACluster judges a file against the objects that a cluster has, which those of the file replace.
func TestLintSeesACluster(t *testing.T) {
	ns := env.Namespace(t)
	apply(t, ns, harness.Workload("v2"), subset)
	waitForVariant(t, ns)
	before := env.MustKubectl(t, "", "-n", ns, "get", "services,deployments,destinationrules,httproutes,virtualservices,endpointslices", "-o", "yaml")

	lint := func(kubeconfig, manifest string) (stdout, stderr string, code int) {
		return run(t, "", manifest, "lint", "-", "-n", ns, "--kubeconfig", kubeconfig)
	}
	stdout, stderr, code := lint(env.Kubeconfig, httpRoute+"---"+virtualService)
	assert.Equal(t, 0, code, stderr)
	assert.Contains(t, stdout, "2 mirrors in 2 routes: 2 active, 0 parked, 0 denied\n")
	stdout, _, code = run(t, "", httpRoute, "lint", "-", "-n", ns)
	assert.Equal(t, 0, code)
	assert.Contains(t, stdout, "1 mirror in 1 route: 0 active, 1 parked, 0 denied\n", "without the cluster")

	stdout, _, code = lint(env.Kubeconfig, strings.Replace(httpRoute, "port: 80}, percent", "port: 81}, percent", 1))
	assert.Equal(t, 1, code)
	assert.Contains(t, stdout, "PortNotFound")
	stdout, _, code = lint(env.Kubeconfig, strings.Replace(virtualService, "blue", "red", 1))
	assert.Equal(t, 1, code)
	assert.Contains(t, stdout, "SubsetNotFound")
	stdout, _, _ = lint(env.Kubeconfig, httpRoute+"---"+strings.Replace(harness.Workload("v2"), "replicas: 1", "replicas: 0", 1))
	assert.Contains(t, stdout, "ScaledToZero", "the file's Deployment replaces that of the cluster")

	stdout, stderr, code = lint(account(t, ns, "httproutes", "services", "deployments"), httpRoute)
	assert.Equal(t, 0, code, stderr)
	assert.Contains(t, stdout, "VariantUnknown")
	assert.Contains(t, stderr, "endpointslices.discovery.k8s.io is forbidden")

	after := env.MustKubectl(t, "", "-n", ns, "get", "services,deployments,destinationrules,httproutes,virtualservices,endpointslices", "-o", "yaml")
	assert.Equal(t, before, after, "lint only reads")
}
