package gate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// grace is the unready grace in the tests that wait for it.
const grace = 4 * time.Second

// transition is a change to a variant, and the state that the mirrors to it must then have.
type transition struct {
	what string
	do   func(t *testing.T)
	// want is the state of all routes, or only of routes if that is set.
	want   string
	routes []ref
	// reason is the reason of the parking, in an Event on the first route.
	reason string
	// late is true when the grace must pass first.
	late bool
}

func play(t *testing.T, ns string, transitions []transition) {
	t.Helper()
	for _, tr := range transitions {
		ok := t.Run(tr.what, func(t *testing.T) {
			routes := tr.routes
			if routes == nil {
				routes = everyKind
			}
			begin := time.Now()
			tr.do(t)
			took := wait(t, ns, tr.want, routes...)
			if tr.want == "parked" {
				if tr.late {
					require.Greater(t, time.Since(begin), grace, "an unready variant is parked only after its grace")
				} else {
					require.Less(t, took, grace+control(t, ns), "a variant that is gone is parked at once")
				}
			}
			if tr.reason != "" {
				harness.Eventually(t, func() bool {
					notes := told(t, ns, routes[0], "MirrorParked")
					return len(notes) > 0 && strings.Contains(notes[len(notes)-1], ": "+tr.reason+": ")
				}, "no Event says %s: %q", tr.reason, told(t, ns, routes[0], "MirrorParked"))
			}
		})
		require.True(t, ok, "the next transitions start from this state")
	}
}

// workloadOf is a workload of another kind that owns the pods of httpbin-v2.
func workloadOf(kind, more string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: %s
metadata: {name: other}
spec:
  selector: {matchLabels: {app: httpbin, version: httpbin-v2}}
  template:
    metadata: {labels: {app: httpbin, version: httpbin-v2}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: httpbin, image: httpbin}]
%s`, kind, more)
}

func testMirrorsFollowTheirVariantThroughEveryTransition(t *testing.T, _ *harness.Server) {
	ns := env.Namespace(t)
	do := func(args ...string) func(*testing.T) {
		return func(t *testing.T) { kubectl(t, ns, args...) }
	}
	with := func(manifests ...string) func(*testing.T) {
		return func(t *testing.T) { apply(t, ns, manifests...) }
	}
	ready := func(is bool) func(*testing.T) {
		return func(t *testing.T) {
			for _, pod := range pods(t, ns) {
				require.NoError(t, env.MakePodReady(t.Context(), ns, pod, is))
			}
		}
	}
	service, deployment := harness.Service("httpbin-v2"), harness.Deployment("httpbin-v2")
	rule := destinationRule("version", "httpbin-v2")
	onlySubset := []ref{subset}

	play(t, ns, []transition{
		{what: "neither Service nor workload exists", do: with(routesOfEveryKind()), want: "parked"},
		{what: "a Service without a workload", do: with(service, rule), want: "parked"},
		{what: "the workload is created", do: with(deployment), want: "active"},

		{what: "Service deleted", do: do("delete", "service", "httpbin-v2"), want: "parked", reason: "ServiceNotFound"},
		{what: "Service back", do: with(service), want: "active"},
		{what: "Deployment deleted", do: do("delete", "deployment", "httpbin-v2"), want: "parked", reason: "WorkloadNotFound"},
		{what: "Deployment back, with pods that are slow to end", want: "active",
			do: with(strings.Replace(deployment, "metadata: {labels: {app: httpbin, version: httpbin-v2}}",
				"metadata: {labels: {app: httpbin, version: httpbin-v2}, finalizers: [example.com/slow]}", 1))},
		{what: "Deployment deleted while its pods still run", do: do("delete", "deployment", "httpbin-v2"), want: "parked", reason: "WorkloadNotFound"},
		{what: "Deployment back again", want: "active", do: func(t *testing.T) {
			for pod := range strings.FieldsSeq(kubectl(t, ns, "get", "pods", "-o", "name")) {
				kubectl(t, ns, "patch", pod, "-p", `{"metadata":{"finalizers":null}}`)
			}
			with(deployment)(t)
		}},
		{what: "scaled to 0", do: do("scale", "deployment", "httpbin-v2", "--replicas=0"), want: "parked", reason: "ScaledToZero"},
		{what: "scaled up", do: do("scale", "deployment", "httpbin-v2", "--replicas=2"), want: "active"},
		{what: "all pods unready", do: ready(false), want: "parked", reason: "NoReadyEndpoints", late: true},
		{what: "gate Present", do: func(t *testing.T) {
			for _, r := range everyKind {
				kubectl(t, ns, "annotate", r.kind, r.name, "mirrorgate.dev/gate=Present")
			}
		}, want: "active"},
		{what: "gate Ready", do: func(t *testing.T) {
			for _, r := range everyKind {
				kubectl(t, ns, "annotate", r.kind, r.name, "mirrorgate.dev/gate-")
			}
		}, want: "parked"},
		{what: "ready again", do: ready(true), want: "active"},

		{what: "selector matches nothing", want: "parked", reason: "WorkloadNotFound",
			do: do("patch", "service", "httpbin-v2", "-p", `{"spec":{"selector":{"version":"v9"}}}`)},
		{what: "selector back", do: do("patch", "service", "httpbin-v2", "-p", `{"spec":{"selector":{"version":"httpbin-v2"}}}`), want: "active"},
		{what: "subset labels match nothing", do: with(destinationRule("version", "v9")), want: "parked", routes: onlySubset, reason: "WorkloadNotFound"},
		{what: "subset labels back", do: with(rule), want: "active"},
		{what: "subset renamed", do: do("patch", "destinationrule", "httpbin", "--type=json", "-p", `[{"op":"replace","path":"/spec/subsets/0/name","value":"v3"}]`),
			want: "parked", routes: onlySubset, reason: "SubsetNotFound"},
		{what: "subset back", do: with(rule), want: "active"},
		{what: "DestinationRule deleted", do: do("delete", "destinationrule", "httpbin"), want: "parked", routes: onlySubset, reason: "DestinationRuleNotFound"},
		{what: "DestinationRule back", do: with(rule), want: "active"},
		{what: "pods lose the subset's label", want: "parked", routes: onlySubset, reason: "WorkloadNotFound", do: func(t *testing.T) {
			with(destinationRule("tier", "one"))(t)
			wait(t, ns, "parked", subset)
			kubectl(t, ns, "patch", "deployment", "httpbin-v2", "-p", `{"spec":{"template":{"metadata":{"labels":{"tier":"one"}}}}}`)
			wait(t, ns, "active", everyKind...)
			kubectl(t, ns, "patch", "deployment", "httpbin-v2", "-p", `{"spec":{"template":{"metadata":{"labels":{"tier":"two"}}}}}`)
		}},
		{what: "subset follows", do: with(rule), want: "active"},
		{what: "the other routes were not affected", do: func(*testing.T) {}, want: "active"},
	})

	t.Run("a blip within the grace moves no mirror", func(t *testing.T) {
		endpointsReady := func(want bool) {
			harness.Eventually(t, func() bool {
				return want == strings.Contains(kubectl(t, ns, "get", "endpointslices", "-o", "jsonpath={.items[*].endpoints[*].conditions.ready}"), "true")
			}, "the endpoints do not become ready=%v", want)
		}
		var before int64
		// On a loaded machine a blip can take longer than the grace, and is none then.
		for tries, blip := 1, grace; blip > grace/2; tries++ {
			require.Less(t, tries, 20, "this machine is too slow to make an endpoint unready and ready within the grace")
			wait(t, ns, "active", everyKind...)
			before = get(t, ns, httpRoute).GetGeneration()
			begin := time.Now()
			ready(false)(t)
			endpointsReady(false)
			ready(true)(t)
			endpointsReady(true)
			blip = time.Since(begin)
		}
		stays(t, grace+time.Second, ns, "active", everyKind...)
		require.Equal(t, before, get(t, ns, httpRoute).GetGeneration(), "the route was not written")
	})
	t.Run("a StatefulSet takes over", func(t *testing.T) {
		before := get(t, ns, httpRoute).GetGeneration()
		apply(t, ns, workloadOf("StatefulSet", "  serviceName: other\n"))
		kubectl(t, ns, "wait", "pod/other-0", "--for=condition=Ready", "--timeout=30s")
		kubectl(t, ns, "delete", "deployment", "httpbin-v2")
		stays(t, time.Second, ns, "active", everyKind...)
		require.Equal(t, before, get(t, ns, httpRoute).GetGeneration(), "there was a workload at every moment")
	})

	play(t, ns, []transition{
		{what: "StatefulSet scaled to 0", do: do("scale", "statefulset", "other", "--replicas=0"), want: "parked", reason: "ScaledToZero"},
		{what: "StatefulSet scaled up", do: do("scale", "statefulset", "other", "--replicas=1"), want: "active"},
		{what: "StatefulSet deleted", do: do("delete", "statefulset", "other"), want: "parked"},
		{what: "DaemonSet", do: with(workloadOf("DaemonSet", "")), want: "active"},
		{what: "DaemonSet deleted", do: do("delete", "daemonset", "other"), want: "parked", reason: "WorkloadNotFound"},
		{what: "ReplicaSet", do: with(workloadOf("ReplicaSet", "")), want: "active"},
		{what: "ReplicaSet deleted", do: do("delete", "replicaset", "other"), want: "parked"},
		{what: "bare Pod", want: "active", do: with(`
apiVersion: v1
kind: Pod
metadata: {name: bare, labels: {app: httpbin, version: httpbin-v2}}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: httpbin, image: httpbin}]}
`)},
		{what: "Pod loses the label", do: do("label", "pod", "bare", "version-"), want: "parked", reason: "WorkloadNotFound"},
		{what: "Pod has the label again", do: do("label", "pod", "bare", "version=httpbin-v2"), want: "active"},
		{what: "Pod deleted", do: do("delete", "pod", "bare"), want: "parked"},
		{what: "Deployment again", do: with(deployment), want: "active"},
		{what: "Deployment being deleted", want: "parked", reason: "WorkloadDeleting", do: func(t *testing.T) {
			kubectl(t, ns, "patch", "deployment", "httpbin-v2", "-p", `{"metadata":{"finalizers":["example.com/slow"]}}`)
			remove(t, ns, "deployment", "httpbin-v2")
		}},
		{what: "Deployment a third time", want: "active", do: func(t *testing.T) {
			kubectl(t, ns, "patch", "deployment", "httpbin-v2", "-p", `{"metadata":{"finalizers":null}}`)
			kubectl(t, ns, "wait", "--for=delete", "deployment/httpbin-v2")
			with(deployment)(t)
		}},
		{what: "Service being deleted", want: "parked", reason: "ServiceDeleting", do: func(t *testing.T) {
			kubectl(t, ns, "patch", "service", "httpbin-v2", "-p", `{"metadata":{"finalizers":["example.com/slow"]}}`)
			remove(t, ns, "service", "httpbin-v2")
		}},
		{what: "Service gone and back", want: "active", do: func(t *testing.T) {
			kubectl(t, ns, "patch", "service", "httpbin-v2", "-p", `{"metadata":{"finalizers":null}}`)
			kubectl(t, ns, "wait", "--for=delete", "service/httpbin-v2")
			with(service)(t)
		}},
	})
}

func testArgoRolloutIsAWorkload(t *testing.T, _ *harness.Server) {
	ns := env.Namespace(t)
	apply(t, ns, routesOfEveryKind(), harness.Service("httpbin-v2"), destinationRule("version", "httpbin-v2"))
	wait(t, ns, "parked", everyKind...)
	apply(t, ns, `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: httpbin}
spec:
  replicas: 1
  template: {metadata: {labels: {app: httpbin, version: httpbin-v2}}}
`)
	// There is no controller of Rollouts: the test makes the pods that it would make.
	uid := kubectl(t, ns, "get", "rollout", "httpbin", "-o", "jsonpath={.metadata.uid}")
	owned := strings.Replace(workloadOf("ReplicaSet", ""), "{name: other}",
		`{name: other, ownerReferences: [{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: httpbin, controller: true, uid: `+uid+`}]}`, 1)
	play(t, ns, []transition{
		{what: "runs", do: func(t *testing.T) { apply(t, ns, owned) }, want: "active"},
		{what: "scaled to 0", want: "parked", reason: "ScaledToZero",
			do: func(t *testing.T) { kubectl(t, ns, "scale", "rollout", "httpbin", "--replicas=0") }},
		{what: "scaled up", want: "active",
			do: func(t *testing.T) { kubectl(t, ns, "scale", "rollout", "httpbin", "--replicas=1") }},
		{what: "deleted", want: "parked", reason: "WorkloadNotFound",
			do: func(t *testing.T) { kubectl(t, ns, "delete", "rollout", "httpbin") }},
	})
}

func testServiceWithoutASelectorIsJudgedByItsEndpointSlices(t *testing.T, _ *harness.Server) {
	ns := env.Namespace(t)
	slice := func(ready bool) string {
		return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand, labels: {kubernetes.io/service-name: httpbin-v2}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [192.0.2.7], conditions: {ready: %v}}]
`, ready)
	}
	routes := []ref{httpRoute, grpcRoute, virtual}
	apply(t, ns, gatewayRoute(httpRoute, "httpbin-v2", ""), gatewayRoute(grpcRoute, "httpbin-v2", ""), virtualService("vs", "httpbin-v2", ""), `
apiVersion: v1
kind: Service
metadata: {name: httpbin-v2}
spec: {ports: [{name: http, port: 80}]}
`)
	play(t, ns, []transition{
		{what: "no slice", do: func(*testing.T) {}, want: "parked", routes: routes},
		{what: "ready", do: func(t *testing.T) { apply(t, ns, slice(true)) }, want: "active", routes: routes},
		{what: "unready", do: func(t *testing.T) { apply(t, ns, slice(false)) }, want: "parked", routes: routes, reason: "NoReadyEndpoints", late: true},
		{what: "ready again", do: func(t *testing.T) { apply(t, ns, slice(true)) }, want: "active", routes: routes},
		{what: "slice deleted", do: func(t *testing.T) { remove(t, ns, "endpointslice", "by-hand") }, want: "parked", routes: routes, reason: "WorkloadNotFound", late: true},
	})
}

func testMirrorToAnotherNamespaceNeedsAGrant(t *testing.T, _ *harness.Server) {
	ns, other := env.Namespace(t), env.Namespace(t)
	apply(t, other, harness.Workload("httpbin-v2"))
	host := "httpbin-v2." + other + ".svc.cluster.local"
	apply(t, ns, gatewayRoute(httpRoute, "httpbin-v2", other), gatewayRoute(grpcRoute, "httpbin-v2", other), virtualService("vs", host, ""))
	wait(t, ns, "active", virtual)
	routes := []ref{httpRoute, grpcRoute}
	grant := func(kinds ...string) func(t *testing.T) {
		return func(t *testing.T) {
			var from []string
			for _, k := range kinds {
				from = append(from, "{group: gateway.networking.k8s.io, kind: "+k+", namespace: "+ns+"}")
			}
			apply(t, other, `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: mirrors}
spec:
  from: [`+strings.Join(from, ", ")+`]
  to: [{group: "", kind: Service, name: httpbin-v2}]
`)
		}
	}
	play(t, ns, []transition{
		{what: "no grant", do: func(*testing.T) {}, want: "parked", routes: routes},
		{what: "granted to both kinds", do: grant("HTTPRoute", "GRPCRoute"), want: "active", routes: routes},
		{what: "revoked for one kind", do: grant("GRPCRoute"), want: "parked", routes: []ref{httpRoute}, reason: "NotGranted"},
		{what: "the other kind keeps its grant", do: func(*testing.T) {}, want: "active", routes: []ref{grpcRoute, virtual}},
		{what: "granted again", do: grant("HTTPRoute", "GRPCRoute"), want: "active", routes: routes},
		{what: "grant deleted", do: func(t *testing.T) { remove(t, other, "referencegrant", "mirrors") }, want: "parked", routes: routes, reason: "NotGranted"},
		{what: "a VirtualService needs no grant", do: func(*testing.T) {}, want: "active", routes: []ref{virtual}},
	})
}

func testHostOfAServiceEntryIsLeftAlone(t *testing.T, _ *harness.Server) {
	ns := env.Namespace(t)
	entry := `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec: {hosts: [mirror.example.org], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
`
	apply(t, ns, virtualService("vs", "mirror.example.org", ""))
	only := []ref{virtual}
	play(t, ns, []transition{
		{what: "no object defines the host", do: func(*testing.T) {}, want: "parked", routes: only},
		{what: "a ServiceEntry does", do: func(t *testing.T) { apply(t, ns, entry) }, want: "active", routes: only},
		{what: "the ServiceEntry is deleted", do: func(t *testing.T) { remove(t, ns, "serviceentry", "outside") }, want: "parked", routes: only, reason: "HostNotFound"},
	})
}
