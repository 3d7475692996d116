// Package crds starts mirrorgate in a cluster without any kind of route, and installs and removes the kinds.
package crds

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var env *harness.Env

func TestMain(m *testing.M) { harness.Main(m, &env, cluster.Options{CRDs: []string{}}) }

const httpRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]
    backendRefs: [{name: v1, port: 80}]
`

const virtualService = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: v1}}], mirror: {host: v2}}]
`

const rollout = `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: v3}
spec:
  replicas: 1
  selector: {matchLabels: {app: httpbin, version: v3}}
  template: {metadata: {labels: {app: httpbin, version: v3}}}
`

// rolloutRoute mirrors to a variant whose only workload is a Rollout.
var rolloutRoute = strings.NewReplacer("name: web", "name: rolled", "name: v2", "name: v3").Replace(httpRoute)

// readyV3 are the endpoints that a Rollout's pods would have: its controller does not run here.
const readyV3 = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: v3, labels: {kubernetes.io/service-name: v3}}
endpoints: [{addresses: [10.244.9.9], conditions: {ready: true}}]
ports: [{name: http, port: 80}]
`

func TestKindsComeAndGoWithoutARestart(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	status, body := harness.Fetch(t, server.HealthURL+"/readyz")
	require.Equal(t, 200, status, "ready without any of the kinds: %s", body)
	env.MustKubectl(t, harness.Workload("v2"), "-n", ns, "apply", "-f", "-")

	require.NoError(t, env.InstallCRDs(t.Context(), "gateway-api"))
	env.MustKubectl(t, httpRoute, "-n", ns, "apply", "-f", "-")
	env.WaitState(t, ns, "httproute", "web", "v2=active")
	env.MustKubectl(t, "", "-n", ns, "scale", "deployment", "v2", "--replicas=0")
	env.WaitState(t, ns, "httproute", "web", "v2=parked")

	require.NoError(t, env.InstallCRDs(t.Context(), "istio"))
	env.MustKubectl(t, virtualService, "-n", ns, "apply", "-f", "-")
	env.WaitState(t, ns, "virtualservice", "web", "v2=parked")
	env.MustKubectl(t, "", "-n", ns, "scale", "deployment", "v2", "--replicas=1")
	env.WaitState(t, ns, "virtualservice", "web", "v2=active")
	env.WaitState(t, ns, "httproute", "web", "v2=active")

	env.MustKubectl(t, harness.Service("v3")+"---"+readyV3, "-n", ns, "apply", "-f", "-")
	env.MustKubectl(t, rolloutRoute, "-n", ns, "apply", "-f", "-")
	env.WaitState(t, ns, "httproute", "rolled", "v3=parked")
	require.NoError(t, env.InstallCRDs(t.Context(), "argo-rollouts"))
	env.MustKubectl(t, rollout, "-n", ns, "apply", "-f", "-")
	env.WaitState(t, ns, "httproute", "rolled", "v3=active")

	require.NoError(t, env.UninstallCRDs(t.Context(), "istio"))
	env.MustKubectl(t, "", "-n", ns, "scale", "deployment", "v2", "--replicas=0")
	env.WaitState(t, ns, "httproute", "web", "v2=parked")
	status, body = harness.Fetch(t, server.HealthURL+"/readyz")
	require.Equal(t, 200, status, "ready after a kind is gone: %s", body)
	status, body = harness.Fetch(t, server.MetricsURL+"/metrics")
	require.Equal(t, 200, status)
	require.Contains(t, body, `mirrorgate_cache_synced{kind="httproutes"} 1`)
	require.NotContains(t, body, `mirrorgate_cache_synced{kind="virtualservices"}`)

	require.NoError(t, env.InstallCRDs(t.Context(), "istio"))
	env.MustKubectl(t, virtualService, "-n", ns, "apply", "-f", "-")
	env.WaitState(t, ns, "virtualservice", "web", "v2=parked")
}
