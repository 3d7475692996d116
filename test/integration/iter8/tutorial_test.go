package iter8

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// printed requires that the route is as the tutorial prints it, except for the fields that the API server
// adds to every object and every HTTPRoute, and for the API version.
func printed(t *testing.T, ns, file string) {
	t.Helper()
	var want, have map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(tutorial(t, file)), &want))
	require.NoError(t, yaml.Unmarshal([]byte(kubectl(t, ns, "get", "httproute/httpbin", "-o", "yaml")), &have))
	require.Equal(t, "gateway.networking.k8s.io/v1", have["apiVersion"])
	spec := have["spec"].(map[string]any)
	parent := spec["parentRefs"].([]any)[0].(map[string]any)
	require.Empty(t, parent["group"], "a Service and not a Gateway")
	delete(parent, "group")
	rule := spec["rules"].([]any)[0].(map[string]any)
	require.Len(t, rule["matches"], 1)
	delete(rule, "matches")
	forget := func(ref map[string]any) {
		delete(ref, "group")
		delete(ref, "kind")
		delete(ref, "weight")
	}
	forget(rule["backendRefs"].([]any)[0].(map[string]any))
	if filters, ok := rule["filters"].([]any); ok {
		target, _, _ := unstructured.NestedFieldNoCopy(filters[0].(map[string]any), "requestMirror", "backendRef")
		forget(target.(map[string]any))
	}
	require.Equal(t, want["spec"], have["spec"])
	metadata := have["metadata"].(map[string]any)
	require.NotContains(t, metadata, "annotations")
	require.NotContains(t, metadata, "labels")
	require.NotContains(t, metadata, "finalizers")
}

// TestTutorialWordForWord follows Iter8's tutorial line by line. It omits two lines of the routing policy
// that no API server accepts: the comment that begins with //, and a label whose value has a slash.
func TestTutorialWordForWord(t *testing.T) {
	s := serve(t)
	ns := env.Namespace(t)
	for _, file := range []string{"httpbin-v1", "httpbin-v1-service", "httpbin", "subject", "routingpolicy"} {
		env.MustKubectl(t, tutorial(t, file), "-n", ns, "create", "-f", "-")
	}
	waitFor(t, ns, "httproute", "httpbin")
	printed(t, ns, "inspect")

	env.MustKubectl(t, tutorial(t, "httpbin-v2"), "-n", ns, "create", "-f", "-")
	still(t, ns, "httpbin", 500*time.Millisecond) // its Service does not exist yet
	env.MustKubectl(t, tutorial(t, "httpbin-v2-service"), "-n", ns, "apply", "-f", "-")
	begin := time.Now()
	waitFor(t, ns, "httproute", "httpbin", "httpbin-v2=active")
	t.Logf("mirrored %s after the Service was created", time.Since(begin))
	printed(t, ns, "route")
	waitTold(t, ns, "httpbin-route", "RouteApplied", "HTTPRoute "+ns+"/httpbin is applied: it mirrors to httpbin-v2:80")

	kubectl(t, ns, "delete", "deploy/httpbin-v2", "svc/httpbin-v2", "--wait=false")
	begin = time.Now()
	waitFor(t, ns, "httproute", "httpbin")
	t.Logf("no mirror %s after variant 2 was deleted", time.Since(begin))
	printed(t, ns, "inspect")

	kubectl(t, ns, "delete", "deploy/httpbin-v2", "svc/httpbin-v2", "--ignore-not-found")
	kubectl(t, ns, "delete", "deploy/httpbin-v1", "svc/httpbin-v1")
	kubectl(t, ns, "delete", "svc/httpbin", "cm/httpbin", "cm/httpbin-route")
	harness.Eventually(t, func() bool { return env.Get(t, ns, "httproute", "httpbin") == nil }, "the route was not deleted")
	require.Zero(t, s.Metric(t, "mirrorgate_touches_total"), "the controller of routes does not touch this route")
	require.Zero(t, s.Metric(t, "mirrorgate_iter8_applies_total", `result="error"`))
}
