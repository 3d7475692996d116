// Package dataplane feeds the model of the data plane with objects from a real API server: routes with the
// defaults of their CRD, and EndpointSlices that the real controller made. It also checks that the API server
// accepts the conditions that the model writes.
package dataplane

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var env *harness.Env

func TestMain(m *testing.M) {
	harness.Main(m, &env, cluster.Options{Users: []cluster.User{{Name: "proxy"}}})
}

// workload is a Deployment whose port has a name, as which Services refer to it.
func workload(name string) string {
	return strings.Replace(harness.Deployment(name), "image: httpbin}", "image: httpbin, ports: [{name: web, containerPort: 8080}]}", 1)
}

// service is a Service for the pods of such a Deployment, or for those that the selector names.
func service(name, selector string, port int, labels string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, labels: {%s}}
spec: {ports: [{name: http, port: %d, targetPort: web}], selector: {%s}}
---
`, name, labels, port, selector)
}

// httpRoute omits every field that has a default.
const httpRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin}
spec:
  parentRefs: [{group: "", kind: Service, namespace: %s, name: httpbin, port: 8000}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: httpbin-v2, port: 80}}}]
    backendRefs: [{name: httpbin, port: 8000}]
`

// items returns the objects of a resource in a namespace, as JSON.
func items(t *testing.T, namespace, resource string) []json.RawMessage {
	t.Helper()
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	require.NoError(t, json.Unmarshal([]byte(env.MustKubectl(t, "", "-n", namespace, "get", resource, "-o", "json")), &list))
	return list.Items
}

func typed[T any](t *testing.T, raw []json.RawMessage) (out []any) {
	t.Helper()
	for _, r := range raw {
		object := new(T)
		require.NoError(t, json.Unmarshal(r, object))
		out = append(out, object)
	}
	return out
}

// feed makes the namespaces the only ones that the Index knows.
func feed(t *testing.T, x *dataplane.Index, namespaces ...string) {
	t.Helper()
	var services, slices, routes []any
	for _, ns := range namespaces {
		services = append(services, typed[corev1.Service](t, items(t, ns, "services"))...)
		slices = append(slices, typed[discoveryv1.EndpointSlice](t, items(t, ns, "endpointslices"))...)
		for _, raw := range items(t, ns, "httproutes") {
			routes = append(routes, raw)
		}
	}
	require.NoError(t, x.Replace(dataplane.KindService, services...))
	require.NoError(t, x.Replace(dataplane.KindEndpointSlice, slices...))
	require.NoError(t, x.Replace(dataplane.KindHTTPRoute, routes...))
}

// write writes the Index's conditions of a route into its status, which the CRD must accept, and returns the
// stored conditions.
func write(t *testing.T, x *dataplane.Index, namespace string) (conditions []string) {
	t.Helper()
	parents, generation := x.Status(dataplane.RouteName{Kind: dataplane.KindHTTPRoute, Name: types.NamespacedName{Namespace: namespace, Name: "httpbin"}})
	for p := range parents {
		for c := range parents[p].Conditions {
			parents[p].Conditions[c].LastTransitionTime = metav1.NewTime(time.Now())
		}
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"parents": parents}})
	require.NoError(t, err)
	env.MustKubectl(t, "", "-n", namespace, "patch", "httproute", "httpbin", "--subresource=status", "--type=merge", "-p", string(patch))
	stored := env.Get(t, namespace, "httproute", "httpbin")
	assert.Equal(t, stored.GetGeneration(), generation)
	var status struct {
		Status struct {
			Parents []dataplane.ParentStatus `json:"parents"`
		} `json:"status"`
	}
	raw, err := stored.MarshalJSON()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &status))
	for _, p := range status.Status.Parents {
		for _, c := range p.Conditions {
			assert.Equal(t, generation, c.ObservedGeneration)
			conditions = append(conditions, fmt.Sprintf("%s=%s:%s", c.Type, c.Status, c.Reason))
		}
	}
	return conditions
}

// The objects of a real API server become a table, their conditions are written, and writing them changes
// nothing else. A route of another namespace gets a condition that says so, and has no effect on traffic.
func TestModel(t *testing.T) {
	ns, other := env.Namespace(t), env.Namespace(t)
	parent := types.NamespacedName{Namespace: ns, Name: "httpbin"}
	const enabled = `mirrorgate.dev/proxy: enabled`
	env.MustKubectl(t, workload("v1")+"---"+workload("v2")+"---"+
		service("httpbin", "app: "+wellknown.Sentinel("httpbin"), 8000, enabled)+
		service(wellknown.OriginName("httpbin"), "app: httpbin, version: v1", 8000, "")+
		service("httpbin-v2", "app: httpbin, version: v2", 80, "")+
		fmt.Sprintf(httpRoute, ns), "-n", ns, "apply", "-f", "-")
	x := dataplane.NewIndex(dataplane.Options{})
	var changes []*dataplane.Change
	x.Subscribe(func(c *dataplane.Change) { changes = append(changes, c) })
	address := func(service string, port int) string {
		p, _ := x.Port(dataplane.Backend{Parent: parent, Service: ns + "/" + service}, port)
		if len(p.Endpoints) == 1 && p.Endpoints[0].Ready == nil {
			return p.Endpoints[0].Address
		}
		return ""
	}
	harness.Eventually(t, func() bool {
		feed(t, x, ns)
		return address("httpbin", 8000) != "" && address("httpbin-v2", 80) != ""
	}, "endpoints of the origin and the variant")
	for service, version := range map[string]string{address("httpbin", 8000): "v1", address("httpbin-v2", 80): "v2"} {
		ip := env.MustKubectl(t, "", "-n", ns, "get", "pods", "-l", "version="+version, "-o", "jsonpath={.items[0].status.podIP}")
		assert.Equal(t, ip+":8080", service, "of %s, at the named port", version)
	}
	table := x.Table(parent)
	require.NotNil(t, table)
	rule := table.Listeners[0].Routes[0].Rules[0]
	assert.Equal(t, ns+"/httpbin-v2", rule.Filters[0].RequestMirror.BackendRef.Name)
	assert.Equal(t, ns+"/httpbin", rule.BackendRefs[0].Name)
	assert.Equal(t, []string{"Accepted=True:Accepted", "ResolvedRefs=True:ResolvedRefs"}, write(t, x, ns))
	changes = nil
	feed(t, x, ns)
	assert.Empty(t, changes, "the write of the conditions")

	env.MustKubectl(t, "", "-n", ns, "delete", "service", "httpbin-v2")
	env.MustKubectl(t, fmt.Sprintf(httpRoute, ns), "-n", other, "apply", "-f", "-")
	feed(t, x, ns, other)
	assert.Equal(t, []string{"Accepted=True:Accepted", "ResolvedRefs=False:BackendNotFound"}, write(t, x, ns))
	assert.Equal(t, []string{"Accepted=False:NotAllowedByListeners", "ResolvedRefs=False:BackendNotFound"}, write(t, x, other))
	require.Len(t, x.Table(parent).Listeners[0].Routes, 1)
	assert.Empty(t, x.Table(parent).Listeners[0].Routes[0].Rules[0].Filters, "the mirror has been removed")
	assert.NotEmpty(t, address("httpbin", 8000), "the primary is still present")
}
