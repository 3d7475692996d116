package install

// The components prometheus and network-policy: the operator's CRDs accept them, and the program exports
// every metric that they query.

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// queries returns the expressions of the alerts and of the dashboard, by name.
func queries(t *testing.T, text string) map[string]string {
	t.Helper()
	var rules struct {
		Spec struct {
			Groups []struct {
				Rules []struct{ Alert, Expr string }
			}
		}
	}
	var config corev1.ConfigMap
	found := byName(t, text)
	into := map[string]any{"PrometheusRule " + system + "/mirrorgate": &rules, "ConfigMap " + system + "/mirrorgate-dashboard": &config}
	for key, object := range into {
		raw, err := json.Marshal(found[key])
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, object))
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(config.Data["dashboard.json"]), &dashboard))
	all := map[string]string{}
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			all[rule.Alert] = rule.Expr
		}
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			all[panel.Title+" "+target.Expr] = target.Expr
		}
	}
	require.Greater(t, len(all), 10)
	return all
}

// exported returns the metrics of a process, each with its labels, both alone and with their values.
func exported(t *testing.T, server *harness.Server) map[string][]string {
	t.Helper()
	_, body := harness.Fetch(t, server.MetricsURL+"/metrics")
	text := expfmt.NewTextParser(model.UTF8Validation)
	families, err := text.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err)
	names := map[string][]string{"up": {"job", "job=mirrorgate"}} // added by Prometheus itself
	for name, family := range families {
		labels := map[string]bool{}
		for _, m := range family.GetMetric() {
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()], labels[pair.GetName()+"="+pair.GetValue()] = true, true
			}
		}
		names[name] = slices.Collect(maps.Keys(labels))
		if family.GetType() == dto.MetricType_HISTOGRAM {
			names[name+"_bucket"] = slices.Concat(names[name], []string{"le"})
		}
	}
	return names
}

// asked requires that everything an expression queries exists: each metric, with the labels by which it is
// selected and grouped.
func asked(t *testing.T, name, expr string, have map[string][]string) {
	t.Helper()
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	require.NoError(t, err, name)
	metrics := 0
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		metrics++
		require.Contains(t, have, selector.Name, name)
		for _, matcher := range selector.LabelMatchers {
			if matcher.Name != model.MetricNameLabel {
				require.Contains(t, have[selector.Name], matcher.Name+"="+matcher.Value, "%s: %s", name, expr)
			}
		}
		for _, above := range path {
			if aggregate, ok := above.(*parser.AggregateExpr); ok {
				require.Subset(t, have[selector.Name], aggregate.Grouping, "%s: %s", name, expr)
			}
		}
		return nil
	})
	require.NotZero(t, metrics, name)
}

func TestMonitoringIsAcceptedByItsCRDsAndQueriesExistingMetrics(t *testing.T) {
	require.NoError(t, env.InstallCRDs(t.Context(), "servicemonitors", "prometheusrules"))
	text := overlay(t, "self-cert", "gateway-api", "istio", "prometheus", "network-policy")
	install(t, text, "Deployment", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
	for _, object := range []string{"servicemonitor/mirrorgate", "prometheusrule/mirrorgate", "networkpolicy/mirrorgate", "configmap/mirrorgate-dashboard"} {
		env.MustKubectl(t, "", "-n", system, "get", object)
	}

	f := newFront(t)
	register(t, f)
	server := launch(t, env.Namespace(t), "--certs", "self", "--resync", "1s", "--no-mesh", "--proxy-image", "mirrorgate:test")
	waitReady(t, server)
	f.use(server)
	waitArmed(t)
	exercise(t, server, manifests.Routes())
	have := exported(t, server)
	for name, expr := range queries(t, text) {
		asked(t, name, expr, have)
	}
	requireScraped(t, text)
}

// requireScraped requires that the ServiceMonitor selects the Service and its port.
func requireScraped(t *testing.T, text string) {
	t.Helper()
	found := byName(t, text)
	var monitor struct {
		Spec struct {
			Selector  metav1.LabelSelector
			Endpoints []struct{ Port string }
		}
	}
	raw, err := json.Marshal(found["ServiceMonitor "+system+"/mirrorgate"])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &monitor))
	object, ok := found["Service "+system+"/mirrorgate"].(map[string]any)
	require.True(t, ok)
	var service corev1.Service
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object, &service))
	selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
	require.NoError(t, err)
	require.True(t, selector.Matches(labels.Set(service.Labels)))
	require.True(t, slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == monitor.Spec.Endpoints[0].Port }))
}
