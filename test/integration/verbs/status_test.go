package verbs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

const httpRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 25}}
    backendRefs: [{name: v1, port: 80}]
`

const virtualService = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mesh}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: v1}}], mirror: {host: v2, subset: blue}, mirrorPercentage: {value: 12.5}}]
`

const subset = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: v2}
spec: {host: v2, subsets: [{name: blue, labels: {version: v2}}, {name: green, labels: {version: green}}]}
`

// rows returns the lines of a table, with one space between columns.
func rows(table string) []string {
	var out []string
	for line := range strings.Lines(table) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return out
}

func status(t *testing.T, kubeconfig string, args ...string) []string {
	t.Helper()
	stdout, stderr, code := run(t, kubeconfig, "", append([]string{"status"}, args...)...)
	require.Equal(t, 0, code, stderr)
	require.Empty(t, stderr)
	return rows(stdout)
}

const header = "NAMESPACE KIND NAME TARGET PERCENT STATE VARIANT REASON AS DECIDED"

func TestStatusFollowsAVariant(t *testing.T) {
	ns := env.Namespace(t)
	apply(t, ns, httpRoute, virtualService)
	assert.Equal(t, []string{
		header,
		ns + " HTTPRoute web v2:80 25 active Absent ServiceNotFound no: should be parked",
		ns + " VirtualService mesh v2/blue 12.5 active Absent ServiceNotFound no: should be parked",
	}, status(t, env.Kubeconfig, "-n", ns), "mirrorgate does not run, so no mirror is parked")

	env.MustKubectl(t, "", "label", "namespace", ns, "mirrorgate.dev/admission=disabled")
	assert.Contains(t, status(t, env.Kubeconfig, "-n", ns),
		ns+" HTTPRoute web v2:80 25 active Absent ServiceNotFound no: the namespace has opted out")
	env.MustKubectl(t, "", "label", "namespace", ns, "mirrorgate.dev/admission-")

	env.Serve(t)
	env.WaitState(t, ns, "httproute", "web", "v2=parked")
	env.WaitState(t, ns, "virtualservice", "mesh", "v2/blue=parked")
	assert.Equal(t, []string{header, ns + " HTTPRoute web v2:80 25 parked Absent ServiceNotFound yes"},
		status(t, env.Kubeconfig, "-n", ns, "httproute/web"))

	apply(t, ns, harness.Workload("v2"))
	env.WaitState(t, ns, "httproute", "web", "v2=active")
	assert.Equal(t, []string{
		header,
		ns + " HTTPRoute web v2:80 25 active Ready VariantReady yes",
		ns + " VirtualService mesh v2/blue 12.5 parked Absent DestinationRuleNotFound yes",
	}, status(t, env.Kubeconfig, "-n", ns))

	apply(t, ns, subset)
	env.WaitState(t, ns, "virtualservice", "mesh", "v2/blue=active")
	all := status(t, env.Kubeconfig, "-A")
	assert.Contains(t, all, ns+" VirtualService mesh v2/blue 12.5 active Ready VariantReady yes")

	env.MustKubectl(t, "", "-n", ns, "scale", "deployment", "v2", "--replicas=0")
	env.WaitState(t, ns, "httproute", "web", "v2=parked")
	stdout, stderr, code := run(t, env.Kubeconfig, "", "status", "-n", ns, "web", "-o", "json")
	require.Equal(t, 0, code, stderr)
	assert.JSONEq(t, fmt.Sprintf(`{"routes": [{
		"kind": "HTTPRoute", "namespace": %q, "name": "web", "asDecided": true, "action": "none", "reason": "ScaledToZero",
		"mirrors": [{
			"field": "spec.rules[0].filters[0].requestMirror", "target": "v2:80", "percent": 25,
			"state": "parked", "wanted": "parked", "variant": "Absent", "reason": "ScaledToZero",
			"detail": "Deployment \"v2\" is scaled to 0"}]}]}`, ns), stdout)
}

const reader = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: ["*"], resources: [%s], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
`

// account makes a ServiceAccount that may get and list only these resources in its namespace, and returns its
// kubeconfig.
func account(t *testing.T, namespace string, resources ...string) string {
	t.Helper()
	apply(t, namespace, fmt.Sprintf(reader, strings.Join(resources, ", ")))
	path, err := env.KubeconfigFor(t.Context(), "system:serviceaccount:"+namespace+":reader")
	require.NoError(t, err)
	return path
}

func TestStatusWithRightsInOneNamespace(t *testing.T) {
	ns, other := env.Namespace(t), env.Namespace(t)
	elsewhere := strings.NewReplacer("name: web", "name: elsewhere", "name: v2", "name: v2, namespace: "+other).Replace(httpRoute)
	apply(t, ns, httpRoute, elsewhere, harness.Workload("v2"))
	apply(t, other, harness.Workload("v2"))
	waitEndpoints(t, ns, "v2")
	mine := account(t, ns, `"*"`)

	stdout, stderr, code := run(t, mine, "", "status", "-n", ns)
	assert.Equal(t, 0, code, stderr)
	assert.Equal(t, []string{
		header,
		ns + " HTTPRoute elsewhere v2:80 25 active Unknown VariantUnknown yes",
		ns + " HTTPRoute web v2:80 25 active Ready VariantReady yes",
	}, rows(stdout))
	assert.Contains(t, stderr, `list services: services is forbidden: User "system:serviceaccount:`+ns+`:reader" cannot list resource "services" in API group "" in the namespace "`+other+`"`)

	stdout, stderr, code = run(t, mine, "", "status", "-A")
	assert.Equal(t, 1, code)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, `cannot list resource "httproutes" in API group "gateway.networking.k8s.io" at the cluster scope`)
	assert.NotContains(t, stderr, "not seen", "one reason suffices when no route is listed")
}

func TestStatusNamesTheResourcesItMayNotRead(t *testing.T) {
	ns := env.Namespace(t)
	apply(t, ns, httpRoute, harness.Workload("v2"))
	waitEndpoints(t, ns, "v2")
	stdout, stderr, code := run(t, account(t, ns, "httproutes", "grpcroutes", "virtualservices", "services", "deployments"), "", "status", "-n", ns)
	assert.Equal(t, 0, code, stderr)
	assert.Contains(t, rows(stdout), ns+" HTTPRoute web v2:80 25 active Unknown VariantUnknown yes", "status cannot tell whether the variant is ready")
	assert.Contains(t, stderr, "endpointslices.discovery.k8s.io is forbidden")
}

func TestStatusOfNothing(t *testing.T) {
	ns := env.Namespace(t)
	stdout, stderr, code := run(t, env.Kubeconfig, "", "status", "-n", ns)
	assert.Equal(t, 0, code)
	assert.Empty(t, stdout)
	assert.Equal(t, fmt.Sprintf("no route in namespace %q has a mirror\n", ns), stderr)

	_, stderr, code = run(t, env.Kubeconfig, "", "status", "-n", ns, "nobody")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, fmt.Sprintf(`no route with mirrors is called "nobody" in namespace %q`, ns))
}
