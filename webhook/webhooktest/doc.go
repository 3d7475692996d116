// Package webhooktest tests routes and policies against mirrorgate's admission in go test: without a cluster,
// a network or a clock.
//
// A Cluster holds plain objects and can change. Apply writes objects as kubectl does, routes through both
// webhooks; SetReady and Delete make variants unready and gone; Touch plays the controller. Every write of a
// route has a Result: the decision and its reason, the state of every mirror, the warnings and the denial.
//
//	c, err := webhooktest.New(webhooktest.Options{Policy: policy}, cluster)
//	results, err := c.Apply(ctx, routes)
//	for _, r := range results {
//		require.NoError(t, r.Denied)
//	}
//
// The examples below are a unit test of one's own routes (Example), a table test of a policy (Example_policy)
// and a check of a rendered Helm chart (Example_helmChart).
//
// # Input
//
// Manifests are YAML or JSON, with one object or many. Numbers and escapes stay as they are written. Fields
// that a known kind does not have are errors with their path; objects of unknown kinds are ignored. Known are
// Services, EndpointSlices, Namespaces, workloads (Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets,
// Argo Rollouts), ReferenceGrants, DestinationRules, ServiceEntries, and routes: HTTPRoutes, GRPCRoutes and
// VirtualServices.
//
// Manifests have no status: a workload with replicas counts as ready until SetReady or an EndpointSlice says
// otherwise.
package webhooktest
