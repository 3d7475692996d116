package iter8

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// TestVariantComesAndGoes takes variant 2 through every change that can happen to it.
func TestVariantComesAndGoes(t *testing.T) {
	s := serve(t)
	ns := env.Namespace(t)
	apply(t, ns, subject("web", web), policy("p", "v2"), harness.Workload("v2"))
	waitRoute(t, ns, "v2=active")
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=0")
	waitRoute(t, ns)
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=1")
	waitRoute(t, ns, "v2=active")

	// Unready for longer than the grace, which is one second here.
	var pod string
	harness.Eventually(t, func() bool {
		pod = kubectl(t, ns, "get", "pods", "-l", "version=v2", "-o", "jsonpath={.items[0].metadata.name}")
		return pod != ""
	}, "variant 2 has no pod")
	unready := time.Now()
	require.NoError(t, env.MakePodReady(t.Context(), ns, pod, false))
	waitRoute(t, ns)
	require.GreaterOrEqual(t, time.Since(unready), time.Second, "the mirror went before the grace had passed")
	require.NoError(t, env.MakePodReady(t.Context(), ns, pod, true))
	waitRoute(t, ns, "v2=active")

	// Only its Service is deleted, and created again.
	kubectl(t, ns, "delete", "service", "v2")
	waitRoute(t, ns)
	apply(t, ns, harness.Service("v2"))
	waitRoute(t, ns, "v2=active")

	// Nothing changes, so nothing is written.
	still(t, ns, "web", time.Second)
	before := s.Metric(t, "mirrorgate_iter8_applies_total")
	kubectl(t, ns, "label", "deployment", "v2", "a=b")
	kubectl(t, ns, "annotate", "httproute", "web", "team=web")
	still(t, ns, "web", 3*time.Second)
	require.InDelta(t, before, s.Metric(t, "mirrorgate_iter8_applies_total"), 0)

	// A user deletes the route: it is made again.
	kubectl(t, ns, "delete", "httproute", "web")
	waitRoute(t, ns, "v2=active")
	require.Zero(t, s.Metric(t, "mirrorgate_iter8_applies_total", `result="error"`))
	require.Zero(t, s.Metric(t, "mirrorgate_touches_total"))
}

// virtualServices is a routemap as Iter8's chart release writes it, with a second template.
const virtualServices = `
apiVersion: v1
kind: ConfigMap
metadata:
  name: web-routemap
  labels: {app.kubernetes.io/managed-by: iter8, iter8.tools/kind: routemap, iter8.tools/version: v0.18}
data:
  strSpec: |
    versions:
    - resources:
      - {gvrShort: svc, name: v1, namespace: NAMESPACE}
      - {gvrShort: deploy, name: v1, namespace: NAMESPACE}
    - resources:
      - {gvrShort: cm, name: v2-weight-config, namespace: NAMESPACE}
      - {gvrShort: svc, name: v2, namespace: NAMESPACE}
      - {gvrShort: deploy, name: v2, namespace: NAMESPACE}
      weight: 100
    routingTemplates:
      mirror:
        gvrShort: vs
        template: |
          apiVersion: networking.istio.io/v1beta1
          kind: VirtualService
          metadata:
            name: web
            namespace: NAMESPACE
          spec:
            gateways: [mesh]
            hosts: [web.NAMESPACE.svc.cluster.local]
            http:
            - name: web
              route:
              - destination: {host: v1.NAMESPACE.svc.cluster.local, port: {number: 80}}
              {{- if gt (index .Weights 1) 0 }}
              mirror: {host: v2.NAMESPACE.svc.cluster.local, port: {number: 80}}
              mirrorPercentage: {value: {{ index .Weights 1 }}}
              {{- end }}
      split:
        gvrShort: httproute
        template: |
          apiVersion: gateway.networking.k8s.io/v1beta1
          kind: HTTPRoute
          metadata: {name: web, labels: {team: web}}
          spec:
            parentRefs: [{kind: Service, group: "", name: web, port: 80}]
            rules:
            - backendRefs:
              - {name: v1, port: 80, weight: {{ index .Weights 0 }}}
              - {name: v2, port: 80, weight: {{ index .Weights 1 }}}
immutable: true
`

const weightConfig = `
apiVersion: v1
kind: ConfigMap
metadata: {name: v2-weight-config, labels: {iter8.tools/watch: "true"}}
`

func TestRoutemap(t *testing.T) {
	s := serve(t)
	ns := env.Namespace(t)
	apply(t, ns, strings.ReplaceAll(virtualServices, "NAMESPACE", ns))
	waitFor(t, ns, "virtualservice", "web")
	weights := func() (first, second int64) {
		u := env.Get(t, ns, "httproute", "web")
		if u == nil {
			return -1, -1
		}
		rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules")
		backends := rules[0].(map[string]any)["backendRefs"].([]any)
		return backends[0].(map[string]any)["weight"].(int64), backends[1].(map[string]any)["weight"].(int64)
	}
	waitWeights := func(first, second int64) {
		t.Helper()
		harness.Eventually(t, func() bool {
			a, b := weights()
			return a == first && b == second
		}, "the weights do not become %d and %d", first, second)
	}
	waitWeights(1, 0) // no variant exists: the primary gets all traffic
	apply(t, ns, harness.Workload("v1"), harness.Workload("v2"))
	waitFor(t, ns, "virtualservice", "web") // its weight-config does not exist
	apply(t, ns, weightConfig)
	waitFor(t, ns, "virtualservice", "web", "v2=active")
	waitWeights(1, 100)
	kubectl(t, ns, "annotate", "configmap", "v2-weight-config", "iter8.tools/weight=25")
	waitWeights(1, 25)
	u := waitFor(t, ns, "virtualservice", "web", "v2=active")
	http, _, _ := unstructured.NestedSlice(u.Object, "spec", "http")
	require.EqualValues(t, 25, http[0].(map[string]any)["mirrorPercentage"].(map[string]any)["value"])
	kubectl(t, ns, "annotate", "--overwrite", "configmap", "v2-weight-config", "iter8.tools/weight=much")
	waitTold(t, ns, "web-routemap", "WeightInvalid", `cm/v2-weight-config: annotation iter8.tools/weight: "much" must be a whole number from 0`)
	waitWeights(1, 100)
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=0")
	waitFor(t, ns, "virtualservice", "web")
	waitWeights(1, 0)
	kubectl(t, ns, "delete", "configmap", "web-routemap")
	harness.Eventually(t, func() bool {
		return env.Get(t, ns, "httproute", "web") == nil && env.Get(t, ns, "virtualservice", "web") == nil
	}, "routes were not deleted")
	require.Zero(t, s.Metric(t, "mirrorgate_iter8_applies_total", `result="error"`))
}

// TestDocumentThatBecomesWrong leaves its route to the gate that all routes have, and manages it again once
// the document is corrected.
func TestDocumentThatBecomesWrong(t *testing.T) {
	serve(t)
	ns := env.Namespace(t)
	apply(t, ns, subject("web", web), policy("p", "v2"), harness.Workload("v2"))
	uid := waitRoute(t, ns, "v2=active").GetUID()
	apply(t, ns, strings.Replace(policy("p", "v2"), "chart: mirror", "chart: other", 1))
	waitTold(t, ns, "p", "DocumentInvalid", "spec.chart")
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=0")
	env.WaitState(t, ns, "httproute", "web", "v2=parked")
	apply(t, ns, policy("p", "v2"))
	waitRoute(t, ns)
	kubectl(t, ns, "scale", "deployment", "v2", "--replicas=1")
	require.Equal(t, uid, waitRoute(t, ns, "v2=active").GetUID())
}

// TestControllerEndsInTheMiddle changes everything while no controller runs.
func TestControllerEndsInTheMiddle(t *testing.T) {
	s := serve(t)
	ns := env.Namespace(t)
	apply(t, ns, subject("web", web), policy("p", "v2"), harness.Workload("v2"))
	waitRoute(t, ns, "v2=active")
	s.Stop(t)
	before := env.Get(t, ns, "httproute", "web").GetResourceVersion()
	s = serve(t)
	harness.Eventually(t, func() bool { return s.Metric(t, "mirrorgate_iter8_applies_total", `result="applied"`) > 0 }, "the controller does not apply the document")
	require.Equal(t, before, env.Get(t, ns, "httproute", "web").GetResourceVersion(), "a start changes nothing")
	still(t, ns, "web", time.Second)
	s.Stop(t)

	kubectl(t, ns, "delete", "service", "v2")
	kubectl(t, ns, "delete", "deployment", "v2")
	s = serve(t)
	waitRoute(t, ns)
	s.Stop(t)
	kubectl(t, ns, "delete", "configmap", "web", "p") // the garbage collector works without mirrorgate
	harness.Eventually(t, func() bool { return env.Get(t, ns, "httproute", "web") == nil }, "the route was not deleted")
}

// TestTwoReplicas kills the leader.
func TestTwoReplicas(t *testing.T) {
	ns := env.Namespace(t)
	flags := []string{"--leader-elect", "--leader-election-namespace", ns, "--failure-policy", "Ignore"}
	servers := [2]*harness.Server{serve(t, flags...), serve(t, flags...)}
	apply(t, ns, subject("web", web), policy("p", "v2"), harness.Workload("v2"))
	waitRoute(t, ns, "v2=active")
	leads := 0
	if servers[1].Metric(t, "leader_election_master_status") == 1 {
		leads = 1
	}
	require.Positive(t, servers[leads].Metric(t, "mirrorgate_iter8_applies_total"))
	require.Zero(t, servers[1-leads].Metric(t, "mirrorgate_iter8_applies_total"), "only the leader applies")
	env.Crash(t, servers[leads])
	kubectl(t, ns, "delete", "deployment/v2", "service/v2", "--wait=false")
	waitRoute(t, ns)
	apply(t, ns, harness.Workload("v2"))
	waitRoute(t, ns, "v2=active")
}
