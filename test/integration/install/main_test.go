// Package install tests mirrorgate as an installation: two replicas that elect a leader, behind one address,
// with the webhook configurations of the manifests, against a real API server.
package install

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

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

// front is the one address of the replicas, as a Service is: it passes each new connection to a ready
// replica.
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

// use sets the replicas behind the front.
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

// registration returns the webhook configurations of the manifests for routes, or for all routes, as text.
func registration(t *testing.T, routes ...string) string {
	t.Helper()
	if len(routes) == 0 {
		routes = manifests.Routes()
	}
	m, v, err := manifests.Webhooks(routes...)
	require.NoError(t, err)
	mutating, err := yaml.Marshal(m)
	require.NoError(t, err)
	validating, err := yaml.Marshal(v)
	require.NoError(t, err)
	return string(mutating) + "\n---\n" + string(validating)
}

// webhooks makes webhook configurations call the front instead of the Service.
func webhooks(t *testing.T, f *front, text string) string {
	t.Helper()
	var parts []string
	for _, u := range objects(t, text) {
		list, _, err := unstructured.NestedSlice(u.Object, "webhooks")
		require.NoError(t, err)
		require.NotEmpty(t, list)
		for _, w := range list {
			config := w.(map[string]any)["clientConfig"].(map[string]any)
			config["url"] = "https://" + f.address + config["service"].(map[string]any)["path"].(string)
			delete(config, "service")
		}
		u.Object["webhooks"] = list
		part, err := yaml.Marshal(u.Object)
		require.NoError(t, err)
		parts = append(parts, string(part))
	}
	require.Len(t, parts, 2)
	return strings.Join(parts, "\n---\n")
}

// register applies the webhook configurations for routes, or for all routes, and deletes them after the test.
func register(t *testing.T, f *front, routes ...string) {
	t.Helper()
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), "", "delete", "validatingwebhookconfiguration,mutatingwebhookconfiguration", "mirrorgate", "--ignore-not-found")
		require.NoError(t, err)
	})
	env.MustKubectl(t, webhooks(t, f, registration(t, routes...)), "apply", "--server-side", "-f", "-")
}

// launch starts a replica in a namespace.
func launch(t *testing.T, ns string, flags ...string) *harness.Server {
	t.Helper()
	return launchProgram(t, env.Binary, ns, flags...)
}

// launchProgram is launch with the binary of another build.
func launchProgram(t *testing.T, binary, ns string, flags ...string) *harness.Server {
	t.Helper()
	return harness.LaunchProgram(t, binary, append([]string{
		"--kubeconfig", env.Kubeconfig,
		"--namespace", ns, "--probe-namespace", "default", "--leader-elect", "--cert-names", "127.0.0.1",
	}, flags...)...)
}

// pair starts an installation of two replicas in a namespace of its own.
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

// everyForm lists a writer's routes with and without mirrors.
var everyForm = []harness.Form{harness.MirroredGateway, harness.PlainGateway, harness.MirroredIstio, harness.PlainIstio}

func waitReady(t *testing.T, servers ...*harness.Server) {
	t.Helper()
	for _, s := range servers {
		harness.Eventually(t, func() bool { return ready(t.Context(), s) }, "the replica does not become ready")
	}
}

// waitArmed waits until the validating webhooks fail closed and no field manager owns their failure policy.
func waitArmed(t *testing.T) {
	t.Helper()
	harness.Eventually(t, func() bool { return armed(t) }, "the validating webhooks still fail open")
}

func armed(t *testing.T) bool {
	t.Helper()
	v, err := clientset(t).AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	return !slices.ContainsFunc(v.Webhooks, func(w admissionregistrationv1.ValidatingWebhook) bool {
		return *w.FailurePolicy != admissionregistrationv1.Fail
	}) && !slices.ContainsFunc(v.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == "mirrorgate" && strings.Contains(e.FieldsV1.GetRawString(), "failurePolicy")
	})
}

// leader returns the replica that leads and the one that follows.
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
	}, "no replica leads")
	return leads, follows
}

// mount writes files as kubelet updates a mounted ConfigMap or Secret: they are links into a folder, which is
// itself a link that is replaced; the old folder is then deleted.
func mount(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	data := filepath.Join(dir, fmt.Sprintf("..%d", time.Now().UnixNano()))
	require.NoError(t, os.Mkdir(data, 0o700))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(data, name), []byte(text), 0o600))
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !os.IsExist(err) {
			require.NoError(t, err)
		}
	}
	old, err := os.Readlink(filepath.Join(dir, "..data"))
	require.NoError(t, os.Symlink(filepath.Base(data), filepath.Join(dir, "..new")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	if err == nil {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}
