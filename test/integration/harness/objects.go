package harness

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Workload is a Deployment of one KWOK pod and a Service for it, both with the given name; the labels are
// app: httpbin and version: the name.
func Workload(name string) string { return Deployment(name) + "---" + Service(name) }

// Deployment is a Deployment with labels app: httpbin, version: name.
func Deployment(name string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: 1
  selector: {matchLabels: {app: httpbin, version: %[1]s}}
  template:
    metadata: {labels: {app: httpbin, version: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: httpbin, image: httpbin}]
`, name)
}

// Service is a Service on port 80 for the pods of Deployment(name).
func Service(name string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {ports: [{name: http, port: 80}], selector: {app: httpbin, version: %[1]s}}
`, name)
}

// State returns "active", "parked" or "gone" for each mirror of a route, by target name (Service, or
// host/subset), in declared order.
func (e *Env) State(t *testing.T, namespace, resource, name string) []string {
	t.Helper()
	u := e.Get(t, namespace, resource, name)
	if u == nil {
		return []string{"gone"}
	}
	return Mirrors(t, u)
}

// Mirrors lists a route's mirrors as "httpbin-v2=active" or "httpbin/v2=parked".
func Mirrors(t *testing.T, u *unstructured.Unstructured) []string {
	t.Helper()
	raw, err := u.MarshalJSON()
	require.NoError(t, err)
	doc, err := route.Decode(raw, route.Options{})
	require.NoError(t, err)
	var out []string
	for _, m := range doc.Every {
		name := m.Target.Name
		if m.Target.Subset != "" {
			name += "/" + m.Target.Subset
		}
		if m.Parked {
			name += "=parked"
		} else {
			name += "=active"
		}
		out = append(out, name)
	}
	return out
}

// WaitState waits until a route's mirrors are exactly as wanted, and returns how long it took.
func (e *Env) WaitState(t *testing.T, namespace, resource, name string, want ...string) time.Duration {
	t.Helper()
	start := time.Now()
	var last []string
	Eventually(t, func() bool {
		last = e.State(t, namespace, resource, name)
		return slices.Equal(last, want)
	}, "mirrors of %s %s/%s: want %q, have %q", resource, namespace, name, want, &last)
	return time.Since(start)
}
