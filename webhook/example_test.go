package webhook_test

import (
	"context"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/webhook"
)

// A platform team tests its routes and policies in go test: the manifests in the repository are the cluster.
func ExampleFromYAML() {
	cluster := []byte(`
apiVersion: v1
kind: Service
metadata: {name: shop-v2, namespace: prod}
spec: {ports: [{port: 80}], selector: {app: shop, version: v2}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v2, namespace: prod}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop, version: v2}}
  template: {metadata: {labels: {app: shop, version: v2}}}
`)
	route := `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: prod}
spec:
  rules:
  - filters:
    - type: RequestMirror
      requestMirror:
        backendRef: {name: shop-v2, port: %d}
        percent: %d
    backendRefs: [{name: shop-v1, port: 80}]
`
	limit := 20.0
	gate, err := webhook.FromYAML(webhook.Options{Policy: webhook.Policy{
		Namespaces: map[string]webhook.Limits{"prod": {MaxPercent: &limit}},
	}}, cluster)
	if err != nil {
		panic(err)
	}

	good, err := gate.Admit(context.Background(), fmt.Appendf(nil, route, 80, 10), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("10 %:", good.Denied)

	bad, err := gate.Admit(context.Background(), fmt.Appendf(nil, route, 81, 50), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("50 %:", bad.Denied)

	// Output:
	// 10 %: <nil>
	// 50 %: spec.rules[0].filters[0].requestMirror.backendRef.port: Invalid value: 81: PortNotFound: Service "prod/shop-v2" has no such port; ports: 80; spec.rules[0].filters[0].requestMirror.percent: Invalid value: 50: PolicyExceeded: a mirror in namespace "prod" may copy at most 20 % of the traffic
}

// A mirror is parked while its variant is missing: the stored route is valid without it, and still names it.
func ExampleGate_Admit() {
	gate, err := webhook.FromYAML(webhook.Options{})
	if err != nil {
		panic(err)
	}
	out, err := gate.Admit(context.Background(), []byte(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - route: [{destination: {host: shop-v1}}]
    mirror: {host: shop-v2}
`), nil)
	if err != nil {
		panic(err)
	}
	stored, err := yaml.JSONToYAML(out.Object)
	if err != nil {
		panic(err)
	}
	fmt.Println(out.Warnings[0])
	fmt.Print(string(stored))

	// Output:
	// ServiceNotFound: mirror to shop-v2 is parked: Service "default/shop-v2" not found (spec.http[0].mirror)
	// apiVersion: networking.istio.io/v1
	// kind: VirtualService
	// metadata:
	//   annotations:
	//     mirrorgate.dev/parked: '{"64a6314dea":{"stanza":{"mirror":{"host":"shop-v2"}}}}'
	//   name: shop
	// spec:
	//   hosts:
	//   - shop
	//   http:
	//   - headers:
	//       request:
	//         remove:
	//         - x-mirrorgate-parked-64a6314dea
	//     route:
	//     - destination:
	//         host: shop-v1
}
