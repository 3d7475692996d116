package intercept

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	product "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// Services that no proxy can stand in front of keep their selector, and are told why.
func TestRefusedServices(t *testing.T) {
	serve(t)
	for name, c := range map[string]struct{ change, to, says string }{
		"headless":             {"spec:", "spec:\n  clusterIP: None", "it is headless"},
		"ExternalName":         {"spec:", "spec:\n  type: ExternalName\n  externalName: x.example", "it is an ExternalName"},
		"without a selector":   {"  selector: {app: httpbin}", "", "it has no selector"},
		"UDP":                  {"protocol: TCP", "protocol: UDP", "is UDP"},
		"unready addresses":    {"spec:", "spec:\n  publishNotReadyAddresses: true", "addresses that are not ready"},
		"local traffic policy": {"spec:", "spec:\n  internalTrafficPolicy: Local", "traffic policy is Local"},
		"Argo Rollouts":        {"app: httpbin}\n", "app: httpbin, rollouts-pod-template-hash: x}\n", "belongs to Argo Rollouts"},
		"a key of a template":  {"app: httpbin}\n", "app: httpbin, pod-template-hash: x}\n", "which proxies cannot carry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			text := manifest("app: httpbin")
			if strings.Contains(c.change, "selector") || strings.Contains(c.change, "}\n") {
				i := strings.LastIndex(text, strings.TrimSuffix(c.change, "\n"))
				text = text[:i] + strings.Replace(text[i:], strings.TrimSuffix(c.change, "\n"), strings.TrimSuffix(c.to, "\n"), 1)
			} else {
				text = strings.Replace(text, c.change, c.to, 1)
			}
			s.kubectl(text, "apply", "--server-side", "-f=-")
			before := s.service().Spec
			s.kubectl(httpRoute, "apply", "-f=-")
			harness.Eventually(t, func() bool { return strings.Contains(s.events(), "ProxyRefused") }, "no Event")
			assert.Contains(t, s.events(), c.says)
			assert.Equal(t, before, s.service().Spec)
			assert.Empty(t, s.kubectl("", "get", "deployments", "-o=name"))
		})
	}
}

// Nothing that an author of a Service can write into it breaks more than that Service, or the author's
// own write.
func TestHostileAnnotations(t *testing.T) {
	serve(t)
	annotate := func(key, value string) string {
		return strings.Replace(manifest("app: httpbin"), "labels: {", fmt.Sprintf("annotations: {%q: %q}, labels: {", key, value), 1)
	}
	long := strings.Repeat("x", 70)
	for name, c := range map[string]struct{ text, event string }{
		"no record":       {annotate(wellknown.SelectorAnnotation, "{"), ""},
		"a bad record":    {annotate(wellknown.SelectorAnnotation, `{"original":{"app":"`+long+`"},"written":{"app":"httpbin"}}`), ""},
		"many replicas":   {annotate(objects.ReplicasAnnotation, "100000"), "ProxyConfigInvalid"},
		"no resources":    {annotate(objects.ResourcesAnnotation, `{"limits":{"cpu":"-1x"}}`), "ProxyConfigInvalid"},
		"wrong resources": {annotate(objects.ResourcesAnnotation, `{"limits":{"cpu":"1"},"requests":{"cpu":"2"}}`), "ProxyFailed"},
		"hostile keys":    {annotate(objects.ResourcesAnnotation, `{"limits":{"../../x":"1"}}`), "ProxyFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.kubectl(c.text, "apply", "--server-side", "-f=-")
			s.kubectl(httpRoute, "apply", "-f=-")
			want := product.Proxied
			if c.event == "ProxyFailed" {
				want = product.Bypass
			}
			s.becomes(want, selector{"app": "httpbin"})
			if c.event != "" {
				harness.Eventually(t, func() bool { return strings.Contains(s.events(), c.event) }, "no Event %s:\n%s", c.event, s.events())
			}
		})
	}
	t.Run("a forged record", func(t *testing.T) {
		s := newSite(t)
		s.kubectl(annotate(wellknown.SelectorAnnotation, `{"original":{"app":"forged"},"written":{"app":"httpbin"}}`), "apply", "--server-side", "-f=-")
		assert.Equal(t, selector{"app": "forged"}, s.service().Spec.Selector, "means what it says, to its own Service alone")
	})
	t.Run("a forged sentinel", func(t *testing.T) {
		s := newSite(t)
		s.kubectl(manifest("app: "+wellknown.Sentinel("httpbin")), "apply", "--server-side", "-f=-")
		s.kubectl(httpRoute, "apply", "-f=-")
		harness.Eventually(t, func() bool { return strings.Contains(s.events(), "SelectorLost") }, "no Event")
		s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
		s.becomes(product.Proxied, selector{"app": "httpbin"})
	})
}

// Objects of others with names of ours are left as they are, and nothing is made beside them.
func TestForeignObjects(t *testing.T) {
	serve(t)
	for kind, text := range map[string]string{
		"service":        "apiVersion: v1\nkind: Service\nmetadata: {name: httpbin-mirrorgate-origin}\nspec: {ports: [{port: 1}]}",
		"serviceaccount": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: mirrorgate-proxy}",
		"rolebinding": "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: mirrorgate-proxy}\n" +
			"roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}",
		"deployment": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: httpbin-mirrorgate-proxy}\nspec: {replicas: 0, selector: {matchLabels: {a: b}}, " +
			"template: {metadata: {labels: {a: b}}, spec: {containers: [{name: x, image: x}]}}}",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.kubectl(text, "create", "-f=-")
			name := strings.TrimSpace(s.kubectl(text, "get", "-f=-", "-o=name"))
			before := s.kubectl("", "get", name, "-o=yaml")
			s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
			s.kubectl(httpRoute, "apply", "-f=-")
			harness.Eventually(t, func() bool { return strings.Contains(s.events(), "NameTaken") }, "no Event")
			require.Equal(t, before, s.kubectl("", "get", name, "-o=yaml"))
			harness.Eventually(t, func() bool { return leads(s.service()) == product.Bypass }, "clients are led to the primary all the same")
			s.kubectl("", "delete", "httproute", "httpbin")
			harness.Eventually(t, func() bool { return leads(s.service()) == product.Own }, "not released")
			require.Equal(t, before, s.kubectl("", "get", name, "-o=yaml"))
		})
	}
}
