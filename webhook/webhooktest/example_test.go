package webhooktest_test

import (
	"context"
	"fmt"

	"github.com/mirrorgate/mirrorgate/webhook"
	"github.com/mirrorgate/mirrorgate/webhook/webhooktest"
)

// A unit test of one's own routes: a mirror follows its variant.
func Example() {
	ctx := context.Background()
	c, err := webhooktest.New(webhooktest.Options{}, []byte(`
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
`))
	must(err)
	show := func(results []webhooktest.Result, err error) {
		must(err)
		for _, r := range results {
			fmt.Println(r.Action, r.Mirrors[0].Target, r.Mirrors[0].State, r.Mirrors[0].Reason)
		}
	}

	show(c.Apply(ctx, []byte(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: prod}
spec:
  rules:
  - filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: shop-v2, port: 80}, percent: 10}
    backendRefs: [{name: shop-v1, port: 80}]
`)))
	must(c.SetReady("Deployment", "prod", "shop-v2", false))
	show(c.Touch(ctx))
	must(c.SetReady("Deployment", "prod", "shop-v2", true))
	show(c.Touch(ctx))
	must(c.Delete("Deployment", "prod", "shop-v2"))
	show(c.Touch(ctx))

	// Output:
	// none shop-v2:80 active VariantReady
	// park shop-v2:80 parked NoReadyEndpoints
	// restore shop-v2:80 active VariantReady
	// park shop-v2:80 parked WorkloadNotFound
}

// A table test of a policy.
func Example_policy() {
	const route = `
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
	limits := webhook.Policy{Namespaces: map[string]webhook.Limits{"prod": {MaxPercent: new(20.0)}}}
	for _, tc := range []struct {
		percent int
		want    webhooktest.Action
	}{
		{percent: 10, want: webhooktest.None},
		{percent: 20, want: webhooktest.None},
		{percent: 50, want: webhooktest.Deny},
	} {
		c, err := webhooktest.New(webhooktest.Options{Policy: limits, AssumeApplied: true})
		must(err)
		results, err := c.Apply(context.Background(), fmt.Appendf(nil, route, tc.percent))
		must(err)
		fmt.Println(tc.percent, results[0].Action == tc.want, results[0].Denied)
	}

	// Output:
	// 10 true <nil>
	// 20 true <nil>
	// 50 true spec.rules[0].filters[0].requestMirror.percent: Invalid value: 50: PolicyExceeded: a mirror in namespace "prod" may copy at most 20 % of the traffic
}

// A check of a rendered Helm chart: no route of it is denied, and none waits for an object that it lacks.
func Example_helmChart() {
	rendered := []byte(`# Source: shop/templates/route.yaml
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - route: [{destination: {host: shop-v1}}]
    mirror: {host: shop-v2}
    mirrorPercentage: {value: 5.0}
`) // the output of helm template
	ctx := context.Background()
	c, err := webhooktest.New(webhooktest.Options{Namespace: "prod"})
	must(err)
	results, err := c.Apply(ctx, rendered)
	must(err)
	touched, err := c.Touch(ctx) // mirrors whose variants stand below them in the chart
	must(err)
	for _, r := range append(results, touched...) {
		fmt.Println(r.Kind, r.Namespace+"/"+r.Name, r.Denied)
		for _, m := range r.Mirrors {
			fmt.Println(m.Path, m.State, m.Reason, m.Detail)
		}
	}

	// Output:
	// VirtualService prod/shop <nil>
	// spec.http[0].mirror parked ServiceNotFound Service "prod/shop-v2" not found
}

// must stands for require.NoError of a test.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
