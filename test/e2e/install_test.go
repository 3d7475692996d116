package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var isInstalled bool

// installed installs mirrorgate, unless an earlier test has installed it, and waits until it works and
// denies.
func installed(t *testing.T) {
	t.Helper()
	if !isInstalled {
		apply(t, "testdata/install")
	}
	isInstalled, isNoMesh = true, false
	kubectl(t, "-n=mirrorgate-system", "rollout", "status", "deployment/mirrorgate", "--timeout="+wait.String())
	armed(t)
}

// apply runs the command of docs/install.md, for an overlay with the image under test. mirrorgate owns the
// failure policy for a short time after it has changed it; no other field may be in conflict.
func apply(t *testing.T, overlay string) {
	t.Helper()
	eventually(t, func() string {
		_, err := node.Kubectl(t.Context(), "", "apply", "--server-side", "-k="+overlay)
		if err == nil {
			return ""
		}
		require.ErrorContains(t, err, "failurePolicy")
		return err.Error()
	})
}

// armed waits until the validating webhook for the routes of the Gateway API fails closed. The program sets
// this only after the API server has reached it, through the Service and with its certificate, and received a
// denial.
func armed(t *testing.T) {
	t.Helper()
	eventually(t, func() string {
		policy := kubectl(t, "get", "validatingwebhookconfiguration", "mirrorgate",
			`-o=jsonpath={.webhooks[?(@.name=="gateway.validate.mirrorgate.dev")].failurePolicy}`)
		if policy != "Fail" {
			return "the validating webhook has failure policy " + policy
		}
		return ""
	})
}

// mirrorTo returns a route with its own name and a mirror, whose primary is httpbin-v1.
func mirrorTo(target, name string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 80}}}]
    backendRefs: [{name: httpbin-v1, port: 80}]
`, name, target)
}

// The API server calls mirrorgate as in any cluster: by the Service of the manifests, which leads to a pod,
// with a certificate that the pods made themselves.
func TestInstalledMirrorgateDeniesThroughItsService(t *testing.T) {
	installed(t)
	s := newStage(t, "installed")
	err := s.try(t, mirrorTo("httpbin-v1", "itself"), "create", "-f=-")
	require.ErrorContains(t, err, `The HTTPRoute "itself" is invalid`)
	require.ErrorContains(t, err, "MirrorsItself")

	clientConfigs := kubectl(t, "get", "validatingwebhookconfigurations,mutatingwebhookconfigurations",
		"-o=jsonpath={range .items[*].webhooks[*]}{.clientConfig.service.name}.{.clientConfig.service.namespace}{.clientConfig.url}{\"\\n\"}{end}")
	require.Equal(t, strings.Repeat("mirrorgate.mirrorgate-system\n", 4), clientConfigs)
	require.Equal(t, "2/2", kubectl(t, "-n=mirrorgate-system", "get", "deployment", "mirrorgate",
		"-o=jsonpath={.status.readyReplicas}/{.spec.replicas}"))

	t.Log("applied again, it fails closed again")
	apply(t, "testdata/install")
	armed(t)
	version := kubectl(t, "-n=mirrorgate-system", "exec", "deployment/mirrorgate", "--", "/mirrorgate", "version")
	require.Contains(t, version, "mirrorgate e2e ")
}
