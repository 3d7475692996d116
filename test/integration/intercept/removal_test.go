package intercept

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	product "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// ours returns the objects of the namespace that mirrorgate made.
func (s *site) ours() string {
	s.t.Helper()
	return s.kubectl("", "get", "deployments,services,serviceaccounts,rolebindings,poddisruptionbudgets,horizontalpodautoscalers",
		"-l="+wellknown.ManagedByLabel+"="+wellknown.ManagedBy, "-o=name")
}

// mirrorgate uninstall finds Services in every state, whether the program runs or not, and restores them to
// the form that their authors wrote; mirrorgate's own objects are deleted.
func TestUninstallAtAnyMoment(t *testing.T) {
	server := serve(t)
	sites := map[product.Mode]*site{}
	for _, mode := range []product.Mode{product.Proxied, product.Bypass, product.Own} {
		s := newSite(t)
		s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
		s.mode(mode, selector{"app": "httpbin"})
		sites[mode] = s
	}
	lost := newSite(t)
	lost.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	lost.mode(product.Proxied, selector{"app": "httpbin"})
	server.Stop(t)
	lost.kubectl("", "annotate", "service", "httpbin", wellknown.SelectorAnnotation+"-")

	said := uninstall(t)
	for mode, s := range sites {
		o := s.service()
		assert.Equal(t, selector{"app": "httpbin"}, o.Spec.Selector, mode)
		assert.Empty(t, o.Annotations, mode)
		assert.Equal(t, []string{"kubectl"}, owners(t, o, "f:selector"), mode)
		assert.Equal(t, mode != product.Own, strings.Contains(said, "Service "+s.ns+"/httpbin: has its own selector again\n"), said)
		harness.Eventually(t, func() bool { return s.ours() == "" }, "left behind: %s", s.ours())
	}
	assert.Equal(t, selector{"app": "httpbin"}, lost.service().Spec.Selector, "the origin knew it")
	require.NotContains(t, uninstall(t), "Service ", "nothing is left to do")
}

// The program notices that its registration is gone, and removes everything that it made.
func TestDeletedRegistrationRemovesEverything(t *testing.T) {
	server := serve(t)
	s := newSite(t)
	s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	s.mode(product.Proxied, selector{"app": "httpbin"})
	env.MustKubectl(t, "", "delete", "mutatingwebhookconfiguration", server.Registration(t))
	s.becomes(product.Own, selector{"app": "httpbin"})
	harness.Eventually(t, func() bool { return s.ours() == "" }, "objects of mirrorgate are left behind")
	assert.Equal(t, []string{"kubectl"}, owners(t, s.service(), "f:selector"))
}

// When a Service is deleted, everything made for it is deleted too.
func TestServiceIsDeleted(t *testing.T) {
	serve(t)
	s := newSite(t)
	s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	s.mode(product.Proxied, selector{"app": "httpbin"})
	require.NotEmpty(t, s.ours())
	s.kubectl("", "delete", "service", "httpbin")
	harness.Eventually(t, func() bool { return s.ours() == "" }, "objects of mirrorgate are left behind")
}

// The label is set on the namespace or on the Service itself, and removed again.
func TestLabelComesAndGoes(t *testing.T) {
	serve(t)
	s := newSite(t)
	s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	s.mode(product.Proxied, selector{"app": "httpbin"})
	env.MustKubectl(t, "", "label", "namespace", s.ns, wellknown.Label+"-")
	s.becomes(product.Own, selector{"app": "httpbin"})
	s.kubectl("", "label", "service", "httpbin", wellknown.Label+"=enabled")
	s.becomes(product.Proxied, selector{"app": "httpbin"})
	s.kubectl("", "label", "service", "httpbin", wellknown.Label+"=disabled", "--overwrite")
	assert.Equal(t, selector{"app": "httpbin"}, s.service().Spec.Selector, "in the same write")
	harness.Eventually(t, func() bool { return s.ours() == "" }, "proxies stay without a Service that needs them")
}
