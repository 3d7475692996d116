package serve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/webhook"
)

func TestWhereTheWebhookServerListens(t *testing.T) {
	for name, tc := range map[string]struct {
		url, bind string
		host      string
		port      int
	}{
		"by default":              {port: 9443},
		"at the port of the URL":  {url: "https://hooks.example.com:8443", port: 8443},
		"a URL without a port":    {url: "https://hooks.example.com", port: 9443},
		"where the flag says":     {url: "https://hooks.example.com:443", bind: ":9443", port: 9443},
		"behind another port":     {url: "https://hooks.example.com:443", bind: "127.0.0.1:8080", host: "127.0.0.1", port: 8080},
		"a slash is no real path": {url: "https://hooks.example.com:8443/", port: 8443},
	} {
		t.Run(name, func(t *testing.T) {
			opts := DefaultOptions()
			opts.WebhookURL, opts.WebhookBind = tc.url, tc.bind
			require.Empty(t, opts.Validate())
			host, port := opts.webhookAddress()
			assert.Equal(t, tc.host, host)
			assert.Equal(t, tc.port, port)
		})
	}
	opts := DefaultOptions()
	opts.WebhookURL = "https://hooks.example.com:8443/base"
	assert.ErrorContains(t, opts.Validate().ToAggregate(), "without a path")
}

func TestRoutesMustBeKnown(t *testing.T) {
	opts := DefaultOptions()
	opts.Routes = []string{"ingress"}
	require.ErrorContains(t, opts.Validate().ToAggregate(), `routes: Unsupported value: "ingress": supported values: "gateway-api", "istio"`)
	opts.Routes = nil
	require.ErrorContains(t, opts.Validate().ToAggregate(), "routes: Required value")
}

func TestOptionsWithoutAMesh(t *testing.T) {
	opts := DefaultOptions()
	opts.NoMesh, opts.Proxy.Image = true, "mine"
	require.Empty(t, opts.Validate())
	assert.Equal(t, []string{"gateway-api", "istio", "no-mesh"}, opts.components())
	for message, change := range map[string]func(*Options){
		"no-mesh: Invalid value: true: needs gateway-api among --routes": func(o *Options) { o.Routes = []string{"istio"} },
		"proxy-image: Required value":                                    func(o *Options) { o.Proxy.Image, o.WebhookURL = "", "https://192.0.2.7:9443" },
		"proxy.replicas: Invalid value: 0: must be from 1 to 100":        func(o *Options) { o.Proxy.Replicas = 0 },
	} {
		o := *opts
		change(&o)
		assert.ErrorContains(t, o.Validate().ToAggregate(), message)
	}
}

// Nothing that Validate checks is in a map whose order would show.
func TestErrorsComeInTheSameOrderEachTime(t *testing.T) {
	percent := 101.0
	opts := DefaultOptions()
	opts.WebhookURL, opts.WebhookBind, opts.ReportBind, opts.MetricsBind, opts.HealthBind = "http://x", "here", "r", "m", "h"
	opts.ClusterDomain, opts.RootNamespace, opts.Namespace, opts.ProbeNamespace = "_", "_", "_", "_"
	opts.UnreadyGrace, opts.Resync, opts.CertLife = metav1.Duration{Duration: -1}, metav1.Duration{}, metav1.Duration{Duration: time.Second}
	opts.Workers, opts.Routes, opts.NoMesh = 0, []string{"ingress"}, true
	opts.Certs, opts.FailurePolicy, opts.Level, opts.Format = "c", "f", "l", "f"
	limits := webhook.Limits{MaxPercent: &percent}
	opts.Policy = webhook.Policy{Limits: limits, Namespaces: map[string]webhook.Limits{"a": limits, "b": limits, "c": limits, "d": limits}}
	var paths []string
	for _, err := range opts.Validate() {
		paths = append(paths, err.Field)
	}
	assert.Equal(t, []string{
		"webhook-url", "webhook-bind", "report-bind", "metrics-bind", "health-bind", "unready-grace", "resync", "workers", "cert-life", "no-mesh",
		"cluster-domain", "root-namespace", "namespace", "probe-namespace", "routes", "proxy-image",
		"certs", "failure-policy", "log-level", "log-format",
		"policy.limits.maxPercent", "policy.namespaces[a].maxPercent", "policy.namespaces[b].maxPercent",
		"policy.namespaces[c].maxPercent", "policy.namespaces[d].maxPercent",
	}, paths)
	first := opts.Validate()
	for range 20 {
		again := opts.Validate()
		require.Equal(t, first, again)
	}
}
