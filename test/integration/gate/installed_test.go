package gate

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// working returns testdata/working.yaml for a namespace, and the routes in it.
func working(t *testing.T, ns string) (text string, routes []ref) {
	t.Helper()
	raw, err := os.ReadFile("testdata/working.yaml")
	require.NoError(t, err)
	text = strings.ReplaceAll(string(raw), "NAMESPACE", ns)
	objects, err := manifest.Objects([]byte(text))
	require.NoError(t, err)
	for _, o := range objects {
		switch u := object(t, string(o)); u.GetKind() {
		case "VirtualService", "HTTPRoute", "GRPCRoute":
			routes = append(routes, ref{u.GetKind(), u.GetName()})
		}
	}
	return text, routes
}

// ready applies the workloads of working.yaml to a new namespace, and waits until they are ready.
func ready(t *testing.T) (ns string) {
	t.Helper()
	ns = env.Namespace(t)
	apply(t, ns, harness.Workload("httpbin-v1"), harness.Workload("httpbin-v2"))
	kubectl(t, ns, "wait", "deployment", "--all", "--for=condition=Available", "--timeout=60s")
	return ns
}

// TestInstallingParksNoWorkingMirror applies routes whose mirrors work, and starts mirrorgate afterwards: neither
// the controller nor a write of every route moves one of them. Applied while it runs, none is denied or changed either.
func TestInstallingParksNoWorkingMirror(t *testing.T) {
	ns, later := ready(t), ready(t)
	text, routes := working(t, ns)
	require.Greater(t, len(routes), 20)
	apply(t, ns, text)
	before := map[ref]string{}
	for _, r := range routes {
		before[r] = specOf(t, ns, r)
	}
	server := env.Serve(t, "--resync", "1s")
	for _, r := range routes {
		kubectl(t, ns, "annotate", "--overwrite", r.String(), "mirrorgate.dev/variants=decide")
	}
	harness.Eventually(t, func() bool {
		return server.Metric(t, "mirrorgate_decisions_total", `operation="update"`, `action="none"`) >= float64(len(routes)-1) // the root has no mirror
	}, "not every route was decided on")
	for _, r := range routes {
		assert.Equal(t, before[r], specOf(t, ns, r), r)
	}

	text, _ = working(t, later)
	_, stderr, err := env.Try(t, text, "-n", later, "apply", "-f", "-")
	require.NoError(t, err, stderr)
	for _, r := range routes {
		assert.Equal(t, before[r], specOf(t, later, r), r)
	}
	require.Zero(t, server.Metric(t, "mirrorgate_internal_errors_total"))
}

// specOf returns the spec of a stored route, with NAMESPACE for its namespace.
func specOf(t *testing.T, ns string, r ref) string {
	t.Helper()
	spec, err := json.MarshalIndent(get(t, ns, r).Object["spec"], "", " ")
	require.NoError(t, err)
	return strings.ReplaceAll(string(spec), ns, "NAMESPACE")
}
