package serve

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/docs/reference"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// nowhere is a kubeconfig of a cluster that does not answer.
const nowhere = `{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
"contexts": [{"name": "c", "context": {"cluster": "c"}}]}`

// docs/reference/metrics.md has every metric that a process of serve with all its parts registers.
func TestReferenceIsThatOfTheMetrics(t *testing.T) {
	opts := DefaultOptions()
	opts.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(opts.Kubeconfig, []byte(nowhere), 0o600))
	opts.Namespace, opts.Certs = "mirrorgate-system", certsSelf
	opts.NoMesh, opts.Iter8, opts.MetricsBind, opts.HealthBind, opts.Proxy.Image = true, true, "0", "0", "mirrorgate"
	require.Empty(t, opts.Validate())
	p, err := New(t.Context(), opts)
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	leads := &webhook.FailClosed{Client: p.client, Registry: metrics.Registry, Log: p.log} // registers when a leader begins
	require.NoError(t, leads.Start(ended))
	table, err := reference.Metrics(metrics.Registry.(prometheus.Collector))
	require.NoError(t, err)
	page := "# Metrics of serve\n\nGenerated from the metrics that `mirrorgate serve` registers; it serves them at `--metrics-bind`, beside those of Go " +
		"and of controller-runtime. The metrics of flips, documents and Services are reported by the leader. " +
		"[operations.md](../operations.md#alerts) has the alerts.\n\n" + table
	require.NoError(t, reference.Hold("../../docs/reference/metrics.md", page, *update))
}
