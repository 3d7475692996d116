package install

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

func TestSelfManagedRefusesASecretOfAnotherOwner(t *testing.T) {
	ns := env.Namespace(t)
	env.MustKubectl(t, "", "-n", ns, "create", "secret", "generic", certs.SelfSecret, "--from-literal=tls.crt=theirs")
	register(t, newFront(t))
	server := launch(t, ns, "--certs", "self")
	harness.Eventually(t, func() bool {
		return server.Metric(t, "mirrorgate_certificate_errors_total") > 0
	}, "no error is counted")
	status, _ := harness.Fetch(t, server.HealthURL+"/readyz/certificate")
	require.Equal(t, 500, status)
	require.Contains(t, server.Log(), "is not made by mirrorgate: it lacks the label app.kubernetes.io/managed-by=mirrorgate")
	require.Equal(t, "theirs", env.MustKubectl(t, "", "-n", ns, "get", "secret", certs.SelfSecret, "-o", `go-template={{index .data "tls.crt" | base64decode}}`))

	env.MustKubectl(t, "", "-n", ns, "delete", "secret", certs.SelfSecret)
	waitReady(t, server)
}

func TestNothingIsDeniedBeforeDenialsAreProvedToWork(t *testing.T) {
	f := newFront(t)
	register(t, f)
	work := env.Namespace(t)
	selfMirror := `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: itself}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: primary, port: 80}}}]
    backendRefs: [{name: primary, port: 80}]
`
	env.MustKubectl(t, selfMirror, "-n", work, "create", "-f", "-") // no replica answers yet
	server := launch(t, env.Namespace(t), "--certs", "auto")
	waitReady(t, server)
	require.Contains(t, server.Log(), "source=self")
	// Nothing connects the front to it yet, so no proof can succeed.
	harness.Eventually(t, func() bool { return strings.Contains(server.Log(), "was not denied in a dry run") }, "no failed proof is logged")
	v, err := clientset(t).AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	for _, w := range v.Webhooks {
		require.Equal(t, admissionregistrationv1.Ignore, *w.FailurePolicy)
	}
	f.use(server)
	waitArmed(t)
	harness.Eventually(t, func() bool { return server.Metric(t, "mirrorgate_webhook_armed") == 2 }, "the metric does not report that the webhooks fail closed")
	_, stderr, err := env.Try(t, selfMirror, "-n", env.Namespace(t), "create", "-f", "-")
	require.Error(t, err)
	require.Contains(t, stderr, "MirrorsItself")
	require.Empty(t, env.MustKubectl(t, "", "-n", "default", "get", "httproutes,virtualservices", "-o", "name"), "a proof was stored")
}

func TestManifestsAreAppliedAgainOverARunningMirrorgate(t *testing.T) {
	f := newFront(t)
	register(t, f)
	server := launch(t, env.Namespace(t), "--certs", "self")
	waitReady(t, server)
	f.use(server)
	waitArmed(t)
	text := webhooks(t, f, registration(t))
	for _, flag := range []string{"--server-side=true", "--server-side=false"} {
		_, stderr, err := env.Try(t, text, "apply", flag, "-f", "-")
		require.NoError(t, err, stderr)
		waitArmed(t)
	}
}
