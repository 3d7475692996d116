// Package install tests mirrorgate as an installation: two replicas that elect a
// leader, behind one address, with the webhook configurations of the manifests,
// against a real API server.
package install

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var env *harness.Env

func TestMain(m *testing.M) {
	policy, err := filepath.Abs("testdata/audit.yaml")
	if err != nil {
		panic(err)
	}
	harness.Main(m, &env, cluster.Options{
		CRDs: []string{"gateway-api", "istio"},
		// The audit log goes to the standard output, and so to the component's log.
		APIServerFlags: []string{"--audit-policy-file=" + policy, "--audit-log-path=-"},
	})
}

// front is the one address of the replicas, as a Service is: it passes each new
// connection to a replica that is ready.
type front struct {
	address string
	mu      sync.Mutex
	servers []*harness.Server
	next    atomic.Uint64
}

func newFront(t *testing.T) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &front{address: l.Addr().String()}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { f.pass(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		running.Wait()
	})
	return f
}

// use is the set of replicas.
func (f *front) use(servers ...*harness.Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers = servers
}

func (f *front) pass(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	f.mu.Lock()
	servers := f.servers
	f.mu.Unlock()
	first := int(f.next.Add(1))
	for i := range servers {
		s := servers[(first+i)%len(servers)]
		if !ready(ctx, s) {
			continue
		}
		var dialer net.Dialer
		backend, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(s.URL, "https://"))
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { _, _ = conn.Close(), backend.Close() })
		defer stop()
		var back sync.WaitGroup
		back.Go(func() {
			_, _ = io.Copy(conn, backend)
			_ = conn.Close()
		})
		_, _ = io.Copy(backend, conn)
		_ = backend.Close()
		back.Wait()
		return
	}
}

func ready(ctx context.Context, s *harness.Server) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.HealthURL+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func clientset(t *testing.T) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(env.Config(t))
	require.NoError(t, err)
	return c
}

var service = regexp.MustCompile(`service: \{name: mirrorgate, namespace: mirrorgate-system, path: (/\w+), port: 443\}`)

// webhooks are the webhook configurations of the manifests, which call the front in
// place of the Service.
func webhooks(t *testing.T, f *front, text []byte) string {
	t.Helper()
	require.Len(t, service.FindAll(text, -1), 4)
	return string(service.ReplaceAll(text, []byte("url: https://"+f.address+"$1")))
}

// register applies them, and takes them away after the test.
func register(t *testing.T, f *front) {
	t.Helper()
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), "", "delete", "validatingwebhookconfiguration,mutatingwebhookconfiguration", "mirrorgate", "--ignore-not-found")
		require.NoError(t, err)
	})
	env.MustKubectl(t, webhooks(t, f, manifests.Webhooks), "apply", "--server-side", "-f", "-")
}

// launch starts a replica in a namespace.
func launch(t *testing.T, ns string, flags ...string) *harness.Server {
	t.Helper()
	return launchProgram(t, env.Binary, ns, flags...)
}

// launchProgram is launch for a mirrorgate of another build.
func launchProgram(t *testing.T, binary, ns string, flags ...string) *harness.Server {
	t.Helper()
	return harness.LaunchProgram(t, binary, append([]string{
		"--kubeconfig", env.Kubeconfig,
		"--namespace", ns, "--probe-namespace", "default", "--leader-elect", "--cert-names", "127.0.0.1",
	}, flags...)...)
}

// pair is an installation of two replicas in a namespace of their own.
func pair(t *testing.T, flags ...string) (ns string, servers [2]*harness.Server) {
	t.Helper()
	ns = env.Namespace(t)
	f := newFront(t)
	register(t, f)
	for i := range servers {
		servers[i] = launch(t, ns, flags...)
	}
	f.use(servers[:]...)
	waitReady(t, servers[:]...)
	return ns, servers
}

// everyForm is a writer's routes with and without mirrors.
var everyForm = []harness.Form{harness.MirroredGateway, harness.PlainGateway, harness.MirroredIstio, harness.PlainIstio}

func waitReady(t *testing.T, servers ...*harness.Server) {
	t.Helper()
	for _, s := range servers {
		harness.Eventually(t, func() bool { return ready(t.Context(), s) }, "not ready")
	}
}

// waitArmed waits until the validating webhooks fail closed.
func waitArmed(t *testing.T) {
	t.Helper()
	harness.Eventually(t, func() bool { return armed(t) }, "the validating webhooks stay open")
}

func armed(t *testing.T) bool {
	t.Helper()
	v, err := clientset(t).AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	return !slices.ContainsFunc(v.Webhooks, func(w admissionregistrationv1.ValidatingWebhook) bool {
		return *w.FailurePolicy != admissionregistrationv1.Fail
	})
}

// leader returns the replica that leads, and the other.
func leader(t *testing.T, servers ...*harness.Server) (leads, follows *harness.Server) {
	t.Helper()
	harness.Eventually(t, func() bool {
		for i, s := range servers {
			if s.Metric(t, "leader_election_master_status") == 1 {
				leads, follows = s, servers[1-i]
				return true
			}
		}
		return false
	}, "nobody leads")
	return leads, follows
}
