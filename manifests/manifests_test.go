package manifests

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

// source returns the Go code of the program in one string.
func source(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, folder := range []string{"../webhook", "../certs", "../cmd", "../internal"} {
		require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			text.Write(raw)
			return err
		}))
	}
	return text.String()
}

func TestWebhooksOfRouteKindsDifferOnlyInRulesAndConditionsOfTheKind(t *testing.T) {
	gatewayMutating, gatewayValidating, err := Webhooks(GatewayAPI)
	require.NoError(t, err)
	istioMutating, istioValidating, err := Webhooks(Istio)
	require.NoError(t, err)
	ofRoutes := func(c admissionregistrationv1.MatchCondition) bool {
		return c.Name == "mirrors-or-ours" || c.Name == "carries-a-mirror"
	}
	for _, m := range []*admissionregistrationv1.MutatingWebhook{&gatewayMutating.Webhooks[0], &istioMutating.Webhooks[0]} {
		m.Name, m.Rules, m.MatchConditions = "", nil, slices.DeleteFunc(m.MatchConditions, ofRoutes)
	}
	assert.Equal(t, gatewayMutating, istioMutating)
	for _, v := range []*admissionregistrationv1.ValidatingWebhook{&gatewayValidating.Webhooks[0], &istioValidating.Webhooks[0]} {
		v.Name, v.Rules, v.MatchConditions = "", nil, slices.DeleteFunc(v.MatchConditions, ofRoutes)
	}
	assert.Equal(t, gatewayValidating, istioValidating)
	require.Len(t, istioValidating.Webhooks[0].MatchConditions, 2)
}

var metric = regexp.MustCompile(`\bmirrorgate_[a-z_]+`)

// known requires that the program has every metric of an expression.
func known(t *testing.T, code, expr string) {
	t.Helper()
	found := metric.FindAllString(expr, -1)
	for _, name := range found {
		assert.Contains(t, code, `"`+strings.TrimSuffix(name, "_bucket")+`"`, expr)
	}
}

func TestAlertsUseExistingMetricsAndHaveARunbook(t *testing.T) {
	raw, err := os.ReadFile("components/prometheus/rules.yaml")
	require.NoError(t, err)
	var rule struct {
		Spec struct {
			Groups []struct {
				Rules []struct {
					Alert, Expr string
					Annotations map[string]string
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(raw, &rule))
	operations, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	code := source(t)
	alerts := 0
	for _, group := range rule.Spec.Groups {
		for _, r := range group.Rules {
			alerts++
			known(t, code, r.Expr)
			assert.NotEmpty(t, r.Annotations["summary"], r.Alert)
			assert.True(t, strings.HasSuffix(r.Annotations["runbook_url"], "/docs/operations.md#"+strings.ToLower(r.Alert)), r.Alert)
			assert.Contains(t, string(operations), "\n### "+r.Alert+"\n")
		}
	}
	require.Equal(t, strings.Count(string(raw), "- alert:"), alerts)
}

func TestDashboardIsJSONAndUsesExistingMetrics(t *testing.T) {
	raw, err := os.ReadFile("components/prometheus/dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Title, UID string
		Panels     []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(raw, &dashboard))
	require.Equal(t, "mirrorgate", dashboard.UID)
	code, ids := source(t), map[int]bool{}
	for _, p := range dashboard.Panels {
		assert.False(t, ids[p.ID], "two panels have the same id")
		ids[p.ID] = true
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			require.NotEmpty(t, metric.FindString(target.Expr), p.Title)
			known(t, code, target.Expr)
		}
	}
	require.NotEmpty(t, ids)
}
