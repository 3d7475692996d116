package intercept

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	product "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// While the webhook is down, the controller alone does the work of both: whatever an author writes, the
// Service soon leads to its proper target, its selector has the author's meaning, and it stays owned by the
// author.
func TestControllerWorksAloneWhileTheWebhookIsDown(t *testing.T) {
	back := away(t, serve(t))
	defer back()
	for name, a := range authors {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			written := ""
			write := func(text string) {
				a.write(s, written, text)
				written = text
			}
			now := manifest("app: httpbin")
			write(now)
			s.mode(product.Bypass, selector{"app": "httpbin"})
			begin := time.Now()
			s.mode(product.Proxied, selector{"app": "httpbin"})
			t.Logf("proxied after %s", time.Since(begin).Round(time.Millisecond))
			write(now)
			s.becomes(product.Proxied, selector{"app": "httpbin"})
			begin = time.Now()
			s.mode(product.Bypass, selector{"app": "httpbin"})
			t.Logf("bypassed after %s", time.Since(begin).Round(time.Millisecond))
			s.mode(product.Proxied, selector{"app": "httpbin"})
			for _, edit := range []struct {
				text string
				want selector
			}{
				{manifest("app: httpbin, tier: web"), selector{"app": "httpbin", "tier": "web"}},
				{manifest("app: other, tier: web"), selector{"app": "other", "tier": "web"}},
				{manifest("app: httpbin"), selector{"app": "httpbin"}},
				{strings.Replace(now, ", targetPort: 80", "", 1), selector{"app": "httpbin"}},
				{now, selector{"app": "httpbin"}},
			} {
				write(edit.text)
				s.becomes(product.Proxied, edit.want)
			}
			for _, field := range []string{"f:selector", "f:ports"} {
				assert.Equal(t, []string{a.owner}, owners(t, s.service(), field), field)
			}
			s.mode(product.Own, selector{"app": "httpbin"})
			assert.NotContains(t, s.kubectl("", "get", "service", "httpbin", "-o=yaml", "--show-managed-fields"), "mirrorgate", "no trace")
		})
	}
}

// A replica that returns to a Service that was written in its absence repairs it completely.
func TestServiceWrittenWhileEverythingIsDownIsRepaired(t *testing.T) {
	server := serve(t)
	s := newSite(t)
	s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	s.mode(product.Proxied, selector{"app": "httpbin"})
	server.Stop(t)
	s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	require.Equal(t, selector{"app": "httpbin"}, s.service().Spec.Selector, "exactly the author's selector")
	s.kubectl(manifest("app: httpbin, tier: web"), "apply", "--server-side", "-f=-")
	require.Equal(t, selector{"app": "httpbin", "tier": "web"}, s.service().Spec.Selector)
	serve(t)
	s.becomes(product.Proxied, selector{"app": "httpbin", "tier": "web"})
}

// The webhook is never called for Services that do not ask for a proxy.
func TestOtherServicesNeverCallTheWebhook(t *testing.T) {
	env.NamespacesEnded(t) // their Services would be counted
	server := serve(t)
	count := func() float64 { return server.Metric(t, "mirrorgate_services_admitted_total") }
	ns := env.Namespace(t)
	before := count()
	env.MustKubectl(t, manifest("app: httpbin"), "-n", ns, "apply", "--server-side", "-f=-")
	env.MustKubectl(t, manifest("app: other"), "-n", ns, "apply", "--server-side", "-f=-")
	env.MustKubectl(t, "", "-n", ns, "delete", "service", "httpbin")
	require.InDelta(t, before, count(), 0)

	labelled := strings.Replace(manifest("app: httpbin"), "labels: {", "labels: {"+wellknown.Label+": enabled, ", 1)
	env.MustKubectl(t, labelled, "-n", ns, "apply", "--server-side", "-f=-")
	require.InDelta(t, before+1, count(), 0, "called because of the Service's own label")
	env.MustKubectl(t, "", "-n", ns, "label", "service", "httpbin", "team=shop")
	require.InDelta(t, before+1, count(), 0, "not called for an unrelated label")
	env.MustKubectl(t, strings.Replace(labelled, wellknown.Label+": enabled, ", "", 1), "-n", ns, "apply", "--server-side", "-f=-")
	require.InDelta(t, before+2, count(), 0, "called when the label is removed")
}
