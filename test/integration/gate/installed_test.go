package gate

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// working are routes whose mirrors work without mirrorgate, each in a way that is easily taken for a fault.
const working = `
apiVersion: v1
kind: Service
metadata: {name: httpbin}
spec: {ports: [{name: http, port: 80}, {name: http-metrics, port: 9090}], selector: {app: httpbin}}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.org}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec: {host: httpbin, subsets: [{name: v1, labels: {version: httpbin-v1}}, {name: v2, labels: {version: httpbin-v2}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin-of-some}
spec: {host: httpbin, workloadSelector: {matchLabels: {app: batch}}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example.org], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: several-ports}
spec:
  hosts: [httpbin]
  http:
  - route: [{destination: {host: httpbin, subset: v1}, weight: 100}]
    mirror: {host: httpbin, subset: v2}
    mirrorPercentage: {value: 10}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: at-a-gateway}
spec:
  hosts: [shop.example.org]
  gateways: [public]
  http:
  - route: [{destination: {host: httpbin-v1}}]
    mirror: {host: httpbin, subset: v2}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: there}
spec: {hosts: [httpbin-v1], http: [{route: [{destination: {host: httpbin-v1}}], mirror: {host: httpbin-v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: back}
spec: {hosts: [httpbin-v2], http: [{route: [{destination: {host: httpbin-v2}}], mirror: {host: httpbin-v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: to-a-service-entry}
spec: {hosts: [httpbin-v1], http: [{route: [{destination: {host: httpbin-v1}}], mirror: {host: api.example.org}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: external-name}
spec: {hosts: [httpbin-v1], http: [{route: [{destination: {host: httpbin-v1}}], mirror: {host: outside}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec: {hosts: [httpbin-v1], http: [{delegate: {name: delegate}, mirrorPercentage: {value: 5}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: delegate}
spec: {http: [{route: [{destination: {host: httpbin-v1}}], mirror: {host: httpbin-v2}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: weight-zero}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 10}}]
    backendRefs: [{name: httpbin-v1, port: 80, weight: 100}, {name: httpbin-v2, port: 80, weight: 0}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: sibling}
spec:
  rules:
  - backendRefs:
    - {name: httpbin-v1, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}]}
    - {name: httpbin-v2, port: 80}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: another-kind}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {group: multicluster.x-k8s.io, kind: ServiceImport, name: httpbin-v2, port: 80}}}]
    backendRefs: [{name: httpbin-v1, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: in-front-of-its-variant}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin-v2, port: 80}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 10}}]
    backendRefs: [{name: httpbin-v1, port: 80}]
`

// TestInstallingParksNoWorkingMirror applies routes whose mirrors work, and starts mirrorgate afterwards: neither
// the controller nor a write of every route moves one of them.
func TestInstallingParksNoWorkingMirror(t *testing.T) {
	ns := env.Namespace(t)
	apply(t, ns, harness.Workload("httpbin-v1"), harness.Workload("httpbin-v2"), working)
	kubectl(t, ns, "wait", "deployment", "--all", "--for=condition=Available", "--timeout=60s")
	routes := []ref{
		{"VirtualService", "several-ports"}, {"VirtualService", "at-a-gateway"}, {"VirtualService", "there"}, {"VirtualService", "back"},
		{"VirtualService", "to-a-service-entry"}, {"VirtualService", "external-name"}, {"VirtualService", "delegate"},
		{"HTTPRoute", "weight-zero"}, {"HTTPRoute", "sibling"}, {"HTTPRoute", "another-kind"}, {"HTTPRoute", "in-front-of-its-variant"},
	}
	before := map[ref]any{}
	for _, r := range routes {
		before[r] = get(t, ns, r).Object["spec"]
	}
	server := env.Serve(t, "--resync", "1s")
	for _, r := range routes {
		kubectl(t, ns, "annotate", r.String(), "mirrorgate.dev/variants=decide")
	}
	kubectl(t, ns, "annotate", "virtualservice/root", "mirrorgate.dev/variants=decide")
	harness.Eventually(t, func() bool {
		return server.Metric(t, "mirrorgate_decisions_total", `operation="update"`, `action="none"`) >= float64(len(routes))
	}, "not every route was decided on")
	for _, r := range routes {
		require.Equal(t, before[r], get(t, ns, r).Object["spec"], r)
	}
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
}
