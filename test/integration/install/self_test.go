package install

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// life makes the leaf rotate every three to four seconds, and the CA every 16.
const life = "6s"

// pair is an installation of two replicas in a namespace of their own.
func pair(t *testing.T, flags ...string) (ns string, f *front, servers [2]*harness.Server) {
	t.Helper()
	ns, f = env.Namespace(t), newFront(t)
	register(t, f)
	for i := range servers {
		servers[i] = launch(t, ns, flags...)
	}
	f.use(servers[:]...)
	waitReady(t, servers[:]...)
	return ns, f, servers
}

// renewals waits until every replica has renewed its certificate so many times
// more.
func renewals(t *testing.T, n int, servers ...*harness.Server) {
	t.Helper()
	for range n {
		renewal(t, servers...)()
	}
}

// renewal returns a function that waits until every replica serves another
// certificate than now.
func renewal(t *testing.T, servers ...*harness.Server) func() {
	t.Helper()
	before := map[*harness.Server]float64{}
	for _, s := range servers {
		before[s] = s.Metric(t, "mirrorgate_certificate_renewals_total")
	}
	return func() {
		t.Helper()
		for s, n := range before {
			harness.Eventually(t, func() bool { return s.Metric(t, "mirrorgate_certificate_renewals_total") > n }, "no renewal")
		}
	}
}

func TestSelfManagedRotationUnderWritesLosesNone(t *testing.T) {
	ns, f, servers := pair(t, "--certs", "self", "--cert-life", life)
	waitArmed(t)
	writes := write(t, env.Namespace(t), 20*time.Millisecond)
	secret := func(args ...string) { env.MustKubectl(t, "", append([]string{"-n", ns}, args...)...) }

	t.Log("rotation of leaves and of the CA")
	renewals(t, 6, servers[:]...)
	t.Log("the Secret is deleted")
	secret("delete", "secret", certs.SelfSecret)
	renewals(t, 2, servers[:]...)
	t.Log("the Secret is corrupted")
	secret("patch", "secret", certs.SelfSecret, "--type=merge", "-p", `{"data":{"tls.crt":"bm8=","ca.key":"bm8="}}`)
	renewals(t, 2, servers[:]...)
	t.Log("the leader is killed")
	leads, follows := leader(t, servers[:]...)
	f.use(follows)
	// Connections that the API server keeps open to it end; new ones go elsewhere.
	leads.Stop(t)
	renewals(t, 2, follows)

	require.Empty(t, writes.stop())
	require.Zero(t, writes.unmirrored.Load(), "stored without the mutating webhook, of %d", writes.done.Load())
	require.Greater(t, writes.done.Load(), int64(500))
	t.Logf("%d writes", writes.done.Load())
	require.Greater(t, follows.Metric(t, "mirrorgate_certificate_expiry_timestamp_seconds"), float64(time.Now().Unix()))
}

func TestSelfManagedRefusesASecretThatIsNotOurs(t *testing.T) {
	ns := env.Namespace(t)
	env.MustKubectl(t, "", "-n", ns, "create", "secret", "generic", certs.SelfSecret, "--from-literal=tls.crt=theirs")
	register(t, newFront(t))
	server := launch(t, ns, "--certs", "self")
	harness.Eventually(t, func() bool {
		return server.Metric(t, "mirrorgate_certificate_errors_total") > 0
	}, "no error is counted")
	status, _ := harness.Fetch(t, server.HealthURL+"/readyz/certificate")
	require.Equal(t, 500, status)
	require.Contains(t, server.Log(), "is not ours: it lacks the label app.kubernetes.io/managed-by=mirrorgate")
	require.Equal(t, "theirs", env.MustKubectl(t, "", "-n", ns, "get", "secret", certs.SelfSecret, "-o", `go-template={{index .data "tls.crt" | base64decode}}`))

	env.MustKubectl(t, "", "-n", ns, "delete", "secret", certs.SelfSecret)
	waitReady(t, server)
}

func TestNothingIsDeniedBeforeItIsProvedThatDenialsWork(t *testing.T) {
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
	env.MustKubectl(t, selfMirror, "-n", work, "create", "-f", "-") // nobody answers yet
	server := launch(t, env.Namespace(t), "--certs", "auto")
	waitReady(t, server)
	require.Contains(t, server.Log(), "source=self")
	// Nothing leads from the front to it yet, so no proof can succeed.
	harness.Eventually(t, func() bool { return strings.Contains(server.Log(), "was not denied in a dry run") }, "no failed proof is told")
	v, err := clientset(t).AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	for _, w := range v.Webhooks {
		require.Equal(t, admissionregistrationv1.Ignore, *w.FailurePolicy)
	}
	f.use(server)
	waitArmed(t)
	harness.Eventually(t, func() bool { return server.Metric(t, "mirrorgate_webhook_armed") == 2 }, "not told")
	_, stderr, err := env.Try(t, selfMirror, "-n", env.Namespace(t), "create", "-f", "-")
	require.Error(t, err)
	require.Contains(t, stderr, "MirrorsItself")
	require.Empty(t, env.MustKubectl(t, "", "-n", "default", "get", "httproutes,virtualservices", "-o", "name"), "a proof is stored")
}

func TestManifestsAreAppliedAgainOverARunningMirrorgate(t *testing.T) {
	f := newFront(t)
	register(t, f)
	server := launch(t, env.Namespace(t), "--certs", "self")
	waitReady(t, server)
	f.use(server)
	waitArmed(t)
	m, v := webhooks(t, f, manifests.Routes()...)
	mutating, err := json.Marshal(m)
	require.NoError(t, err)
	validating, err := json.Marshal(v)
	require.NoError(t, err)
	for _, flag := range []string{"--server-side=true", "--server-side=false"} {
		_, stderr, err := env.Try(t, string(mutating)+"\n---\n"+string(validating), "apply", flag, "-f", "-")
		require.NoError(t, err, stderr)
		waitArmed(t)
	}
}
