// Package gate tests, against a real API server, that each mirror follows the state of its variant: through
// every way in which a variant appears and disappears, and through faults of everything that mirrorgate
// depends on and of mirrorgate itself.
package gate

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var env *harness.Env

func TestMain(m *testing.M) {
	policy, err := filepath.Abs("testdata/audit.yaml")
	if err != nil {
		panic(err)
	}
	harness.Main(m, &env, cluster.Options{
		CRDs: []string{"gateway-api", "istio", "argo-rollouts"},
		// The audit log goes to the standard output, and so to the component's log.
		APIServerFlags: []string{"--audit-policy-file=" + policy, "--audit-log-path=-"},
	})
}

// ref names a route in the namespace of a test.
type ref struct{ kind, name string }

func (r ref) String() string { return r.kind + "/" + r.name }

func (r ref) empty(ns string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetKind(r.kind)
	u.SetNamespace(ns)
	u.SetName(r.name)
	switch r.kind {
	case "VirtualService":
		u.SetAPIVersion("networking.istio.io/v1")
	default:
		u.SetAPIVersion("gateway.networking.k8s.io/v1")
	}
	return u
}

// get returns a route, or nil when it does not exist.
func get(t *testing.T, ns string, r ref) *unstructured.Unstructured {
	t.Helper()
	u := r.empty(ns)
	err := env.Client(t).Get(t.Context(), client.ObjectKeyFromObject(u), u)
	if client.IgnoreNotFound(err) == nil && err != nil {
		return nil
	}
	require.NoError(t, err)
	return u
}

// states returns the states of all mirrors of routes, as "http:httpbin-v2=parked".
func states(t *testing.T, ns string, routes ...ref) []string {
	t.Helper()
	var out []string
	for _, r := range routes {
		u := get(t, ns, r)
		if u == nil {
			out = append(out, r.name+":gone")
			continue
		}
		for _, m := range harness.Mirrors(t, u) {
			out = append(out, r.name+":"+m)
		}
	}
	return out
}

// others returns the states of the routes that are not as wanted. Every route of these tests has exactly one
// mirror at all times, so a route without a mirror, with two mirrors or with a mirror to another target is
// wrong too.
func others(t *testing.T, ns, want string, routes ...ref) []string {
	t.Helper()
	require.NotEmpty(t, routes)
	var wrong []string
	for _, r := range routes {
		if got := states(t, ns, r); len(got) != 1 || !strings.HasSuffix(got[0], "="+want) {
			wrong = append(wrong, fmt.Sprintf("%s: %q", r, got))
		}
	}
	return wrong
}

// within waits until the one mirror of every route is as wanted, and returns how long it took.
func within(t *testing.T, limit time.Duration, ns, want string, routes ...ref) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for wrong := others(t, ns, want, routes...); len(wrong) > 0; wrong = others(t, ns, want, routes...) {
		require.Less(t, time.Since(start), limit, "not one %s mirror each: %q", want, wrong)
		<-tick.C
	}
	return time.Since(start)
}

// control returns how long a write takes at present that calls no webhook of mirrorgate. Tests that bound a time
// add it to the bound, so that a loaded machine does not fail them.
func control(t *testing.T, ns string) time.Duration {
	t.Helper()
	start := time.Now()
	kubectl(t, ns, "create", "configmap", fmt.Sprintf("control-%d", start.UnixNano()))
	return time.Since(start)
}

func wait(t *testing.T, ns, want string, routes ...ref) time.Duration {
	t.Helper()
	return within(t, harness.Wait, ns, want, routes...)
}

// stays requires that the mirrors of routes do not move for a while.
func stays(t *testing.T, d time.Duration, ns, want string, routes ...ref) {
	t.Helper()
	end, tick := time.NewTimer(d), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		require.Empty(t, others(t, ns, want, routes...), "mirrors did not stay %s", want)
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// TestLostMirrorIsDetected shows that the waits of these tests do not accept a route without a mirror, or a
// missing route, as a route whose mirror is as wanted.
func TestLostMirrorIsDetected(t *testing.T) {
	ns := env.Namespace(t)
	for name, mirrors := range map[string]string{
		"none": "", "one": "mirrors: [{destination: {host: a}}], ", "two": "mirrors: [{destination: {host: a}}, {destination: {host: b}}], ",
	} {
		require.NoError(t, create(t, ns, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: `+name+`}
spec: {hosts: [a], http: [{`+mirrors+`route: [{destination: {host: b}}]}]}
`))
	}
	one := ref{"VirtualService", "one"}
	require.Empty(t, others(t, ns, "active", one))
	require.Len(t, others(t, ns, "parked", one), 1)
	require.Len(t, others(t, ns, "active", one, ref{"VirtualService", "none"}), 1)
	require.Len(t, others(t, ns, "active", one, ref{"VirtualService", "two"}), 1)
	require.Len(t, others(t, ns, "active", one, ref{"VirtualService", "gone"}), 1)
}

// apply applies manifests with kubectl.
func apply(t *testing.T, ns string, manifests ...string) {
	t.Helper()
	env.MustKubectl(t, strings.Join(manifests, "\n---\n"), "-n", ns, "apply", "-f", "-")
}

// kubectl runs kubectl in the namespace.
func kubectl(t *testing.T, ns string, args ...string) string {
	t.Helper()
	return env.MustKubectl(t, "", append([]string{"-n", ns}, args...)...)
}

// remove deletes one object and does not wait until it is gone.
func remove(t *testing.T, ns, kind, name string) {
	t.Helper()
	kubectl(t, ns, "delete", kind, name, "--wait=false")
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &u.Object), text)
	return u
}

// create creates an object exactly as written, with a Go client.
func create(t *testing.T, ns, text string) error {
	t.Helper()
	u := object(t, text)
	u.SetNamespace(ns)
	return env.Client(t).Create(t.Context(), u)
}

// told returns the notes of a route's Events with the given reason, oldest first.
func told(t *testing.T, ns string, r ref, reason string) []string {
	t.Helper()
	var list eventsv1.EventList
	require.NoError(t, env.Client(t).List(t.Context(), &list, client.InNamespace(ns)))
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	var out []string
	for _, e := range list.Items {
		if e.Regarding.Kind == r.kind && e.Regarding.Name == r.name && e.Reason == reason {
			out = append(out, e.Note)
		}
	}
	return out
}

// The routes of these tests: one of each kind, and a VirtualService with a subset. All mirror to httpbin-v2.
var (
	httpRoute = ref{"HTTPRoute", "http"}
	grpcRoute = ref{"GRPCRoute", "grpc"}
	virtual   = ref{"VirtualService", "vs"}
	subset    = ref{"VirtualService", "subset"}
	everyKind = []ref{httpRoute, grpcRoute, virtual, subset}
)

// gatewayRoute is an HTTPRoute or a GRPCRoute that mirrors 25 % to a Service; namespace may be "".
func gatewayRoute(r ref, service, namespace string) string {
	if namespace != "" {
		namespace = ", namespace: " + namespace
	}
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: %s}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 80%s}, percent: 25}}
    backendRefs: [{name: httpbin-v1, port: 80}]
`, r.kind, r.name, service, namespace)
}

// virtualService is a VirtualService that mirrors 25 % to a host; subset may be "".
func virtualService(name, host, subset string) string {
	if subset != "" {
		subset = ", subset: " + subset
	}
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.example.com]
  http:
  - route: [{destination: {host: httpbin-v1}}]
    mirror: {host: %[2]s%[3]s}
    mirrorPercentage: {value: 25}
`, name, host, subset)
}

// destinationRule makes the pods with a label the subset v2 of httpbin-v2.
func destinationRule(key, value string) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec: {host: httpbin-v2, subsets: [{name: v2, labels: {%s: %s}}]}
`, key, value)
}

// routesOfEveryKind are the manifests of everyKind.
func routesOfEveryKind() string {
	return strings.Join([]string{
		gatewayRoute(httpRoute, "httpbin-v2", ""), gatewayRoute(grpcRoute, "httpbin-v2", ""),
		virtualService("vs", "httpbin-v2", ""), virtualService("subset", "httpbin-v2", "v2"),
	}, "\n---\n")
}

// pods returns the names of the pods of httpbin-v2 that are not being deleted.
func pods(t *testing.T, ns string) []string {
	t.Helper()
	var list corev1.PodList
	require.NoError(t, env.Client(t).List(t.Context(), &list, client.InNamespace(ns), client.MatchingLabels{"version": "httpbin-v2"}))
	var names []string
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			names = append(names, p.Name)
		}
	}
	return names
}
