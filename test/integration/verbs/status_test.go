package verbs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
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

const header = "ROUTE TARGET SHARE STATE REASON SYNCED"

func TestStatusFollowsAVariant(t *testing.T) {
	ns := env.Namespace(t)
	apply(t, ns, httpRoute, virtualService)
	away := func() []string {
		stdout, stderr, code := run(t, env.Kubeconfig, "", "status", "-n", ns)
		require.Equal(t, 0, code, stderr)
		require.Contains(t, stderr, "nothing decides about mirrors: no webhook of mirrorgate is registered for gateway.networking.k8s.io")
		return rows(stdout)
	}
	assert.Equal(t, []string{
		header,
		"httproute/web v2:80 25% active ServiceNotFound no: nothing decides",
		"virtualservice/mesh v2/blue 12.5% active ServiceNotFound no: nothing decides",
	}, away(), "mirrorgate does not run, so no mirror is parked")

	env.MustKubectl(t, "", "label", "namespace", ns, "mirrorgate.dev/admission=disabled")
	assert.Contains(t, away(), "httproute/web v2:80 25% active ServiceNotFound no: opted out")
	env.MustKubectl(t, "", "label", "namespace", ns, "mirrorgate.dev/admission-")
	_, _, code := run(t, env.Kubeconfig, "", "status", "-n", ns, "--exit-code")
	assert.Equal(t, 1, code)

	server := env.Serve(t)
	stdout, stderr, code := run(t, env.Kubeconfig, "", "wait", "-n", ns, "httproute/web", "vs/mesh", "--for=parked", "--timeout=2m")
	require.Equal(t, 0, code, stderr)
	assert.Equal(t, "httproute/web parked\nvirtualservice/mesh parked\n", stdout)
	assert.Equal(t, []string{header, "httproute/web v2:80 25% parked ServiceNotFound yes"},
		status(t, env.Kubeconfig, "-n", ns, "httproute.gateway.networking.k8s.io/web"))
	_, stderr, code = run(t, env.Kubeconfig, "", "status", "-n", ns, "--exit-code")
	assert.Equal(t, 0, code, stderr)
	_, stderr, code = run(t, env.Kubeconfig, "", "wait", "-n", ns, "web", "nobody", "--for=active", "--timeout=1s")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "wait: not active after 1s")
	assert.Contains(t, stderr, `no route with mirrors is called "nobody"`)
	assert.Contains(t, rows(stderr), "httproute/web v2:80 25% parked ServiceNotFound yes")

	apply(t, ns, harness.Workload("v2"))
	env.WaitState(t, ns, "httproute", "web", "v2=active")
	assert.Equal(t, []string{
		header,
		"httproute/web v2:80 25% active VariantReady yes",
		"virtualservice/mesh v2/blue 12.5% parked DestinationRuleNotFound yes",
	}, status(t, env.Kubeconfig, "-n", ns))

	apply(t, ns, subset)
	env.WaitState(t, ns, "virtualservice", "mesh", "v2/blue=active")
	all := status(t, env.Kubeconfig, "-A")
	assert.Contains(t, all, ns+" virtualservice/mesh v2/blue 12.5% active VariantReady yes")
	env.MustKubectl(t, "", "-n", ns, "label", "httproute", "web", "tier=front")
	assert.Equal(t, []string{"httproute/web v2:80 25% active VariantReady yes"}, status(t, env.Kubeconfig, "-n", ns, "-l", "tier=front", "--no-headers"))
	assert.Equal(t, []string{"httproute.gateway.networking.k8s.io/web"}, status(t, env.Kubeconfig, "-n", ns, "-o", "name", "-l", "tier"))

	env.MustKubectl(t, "", "-n", ns, "scale", "deployment", "v2", "--replicas=0")
	env.WaitState(t, ns, "httproute", "web", "v2=parked")
	stdout, stderr, code = run(t, env.Kubeconfig, "", "status", "-n", ns, "web", "-o", "json")
	require.Equal(t, 0, code, stderr)
	stdout = regexp.MustCompile(`"(manager|since)": "[^"]+",\s*`).ReplaceAllString(stdout, "")
	assert.JSONEq(t, fmt.Sprintf(`{"routes": [{
		"kind": "HTTPRoute", "namespace": %q, "name": "web", "asDecided": true, "action": "none", "reason": "ScaledToZero",
		"mirrors": [{
			"field": "spec.rules[0].filters[0].requestMirror", "target": "v2:80", "percent": 25,
			"state": "parked", "wanted": "parked", "stored": 0.0, "wantedPercent": 0.0, "variant": "Absent", "reason": "ScaledToZero",
			"detail": "Deployment \"v2\" is scaled to 0"}]}]}`, ns), stdout)

	server.Stop(t)
	stdout, _, _ = run(t, env.Kubeconfig, "", "status", "-n", ns, "web", "--no-headers")
	assert.Equal(t, []string{"httproute/web v2:80 25% parked ScaledToZero nothing decides"}, rows(stdout), "where it should be, but it would not come back")
}

// TestStatusOfANamespaceKnowsItsGateways: the port of a mirror depends on a gateway in another namespace.
func TestStatusOfANamespaceKnowsItsGateways(t *testing.T) {
	ns, other := env.Namespace(t), env.Namespace(t)
	apply(t, other, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public}
spec: {selector: {istio: ingress}, servers: [{port: {number: 9999, name: http, protocol: HTTP}, hosts: ["*"]}]}
`)
	apply(t, ns, harness.Deployment("v2"), strings.Replace(harness.Service("v2"), "[{name: http, port: 80}]", "[{name: http, port: 80}, {name: more, port: 81}]", 1),
		strings.NewReplacer("{host: v2, subset: blue}", "{host: v2}", "hosts: [web]", "hosts: [web.example.com]\n  gateways: ["+other+"/public]").Replace(virtualService))
	line := func(namespace string) (found string) {
		stdout, _, code := run(t, env.Kubeconfig, "", "status", namespace, "--no-headers")
		require.Equal(t, 0, code)
		for _, row := range rows(stdout) {
			if row, in := strings.CutPrefix(row, ns+" "); in || namespace != "--all-namespaces" {
				found = row
			}
		}
		return found
	}
	harness.Eventually(t, func() bool { return strings.Contains(line("--all-namespaces"), "PortNotFound") }, "the gateway's port is no port of the Service")
	require.Equal(t, line("--all-namespaces"), line("--namespace="+ns))
}

// TestStatusWatches prints a route again when its mirror moves.
func TestStatusWatches(t *testing.T) {
	ns := env.Namespace(t)
	env.Serve(t)
	apply(t, ns, httpRoute)
	cmd := exec.CommandContext(t.Context(), env.Binary, "status", "-n", ns, "-w", "--kubeconfig", env.Kubeconfig)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	next := func() string {
		require.True(t, lines.Scan())
		return strings.Join(strings.Fields(lines.Text()), " ")
	}
	assert.Equal(t, header, next())
	assert.Equal(t, "httproute/web v2:80 25% parked ServiceNotFound yes", next())
	apply(t, ns, harness.Workload("v2"))
	for line := next(); line != "httproute/web v2:80 25% active VariantReady yes"; line = next() {
		assert.NotEqual(t, header, line, "the header comes once")
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
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
	waitForVariant(t, ns)
	mine := account(t, ns, `"*"`)

	stdout, stderr, code := run(t, mine, "", "status", "-n", ns)
	assert.Equal(t, 0, code, stderr)
	assert.Equal(t, []string{
		header,
		"httproute/elsewhere v2:80 25% active VariantUnknown yes",
		"httproute/web v2:80 25% active VariantReady yes",
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
	waitForVariant(t, ns)
	stdout, stderr, code := run(t, account(t, ns, "httproutes", "grpcroutes", "virtualservices", "services", "deployments"), "", "status", "-n", ns)
	assert.Equal(t, 0, code, stderr)
	assert.Contains(t, rows(stdout), "httproute/web v2:80 25% active VariantUnknown yes", "status cannot tell whether the variant is ready")
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
