// Package install tests mirrorgate as an installation: two replicas that elect a
// leader, behind one address, with the webhook configurations of the manifests,
// against a real API server.
package install

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// webhooks are the configurations of the manifests, which call the front in place of
// the Service.
func webhooks(t *testing.T, f *front, routes ...string) (
	*admissionregistrationv1.MutatingWebhookConfiguration, *admissionregistrationv1.ValidatingWebhookConfiguration,
) {
	t.Helper()
	m, v, err := manifests.Webhooks(routes...)
	require.NoError(t, err)
	at := func(c *admissionregistrationv1.WebhookClientConfig) {
		url := "https://" + f.address + *c.Service.Path
		c.Service, c.URL = nil, &url
	}
	for i := range m.Webhooks {
		at(&m.Webhooks[i].ClientConfig)
	}
	for i := range v.Webhooks {
		at(&v.Webhooks[i].ClientConfig)
	}
	return m, v
}

// register creates the webhook configurations for routes, or for all. They are gone
// after the test.
func register(t *testing.T, f *front, routes ...string) {
	t.Helper()
	if len(routes) == 0 {
		routes = manifests.Routes()
	}
	m, v := webhooks(t, f, routes...)
	api := clientset(t).AdmissionregistrationV1()
	_, err := api.MutatingWebhookConfigurations().Create(t.Context(), m, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = api.ValidatingWebhookConfigurations().Create(t.Context(), v, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		// One test removes them itself.
		require.NoError(t, client.IgnoreNotFound(api.ValidatingWebhookConfigurations().Delete(ctx, v.Name, metav1.DeleteOptions{})))
		require.NoError(t, client.IgnoreNotFound(api.MutatingWebhookConfigurations().Delete(ctx, m.Name, metav1.DeleteOptions{})))
	})
}

// launch starts a replica in a namespace.
func launch(t *testing.T, ns string, flags ...string) *harness.Server {
	t.Helper()
	return env.LaunchInstalled(t, env.Kubeconfig, append([]string{
		"--namespace", ns, "--probe-namespace", "default", "--leader-elect", "--cert-names", "127.0.0.1",
	}, flags...)...)
}

func waitReady(t *testing.T, servers ...*harness.Server) {
	t.Helper()
	for _, s := range servers {
		harness.Eventually(t, func() bool { return ready(t.Context(), s) }, "not ready")
	}
}

// waitArmed waits until the validating webhooks fail closed, and nobody is said to own
// that.
func waitArmed(t *testing.T) {
	t.Helper()
	// The leader looks every half a minute.
	require.Eventually(t, func() bool {
		v, err := clientset(t).AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
		require.NoError(t, err)
		for _, w := range v.Webhooks {
			if *w.FailurePolicy != admissionregistrationv1.Fail {
				return false
			}
		}
		return !slices.ContainsFunc(v.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
			return e.Manager == "mirrorgate" && strings.Contains(e.FieldsV1.GetRawString(), "failurePolicy")
		})
	}, 2*harness.Wait, 50*time.Millisecond, "the validating webhooks stay open")
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

// writer changes a mirrored route all the time; each write passes both webhooks.
type writer struct {
	done, unmirrored atomic.Int64
	stop             func() []string
}

// write begins to write in a namespace. Stopping it returns the errors.
func write(t *testing.T, ns string, every time.Duration) *writer {
	t.Helper()
	routes, err := dynamic.NewForConfig(env.Config(t))
	require.NoError(t, err)
	env.MustKubectl(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: busy}
spec:
  hostnames: [h0.example]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: absent, port: 80}}}]
    backendRefs: [{name: primary, port: 80}]
`, "-n", ns, "apply", "-f", "-")
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{}
	var failures []string
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// The whole rule, as its author applies it: stored parked when admission
			// answered, and as it is when not.
			patch := fmt.Sprintf(`{"spec":{"hostnames":["h%d.example"],"rules":[{"filters":[{"type":"RequestMirror","requestMirror":`+
				`{"backendRef":{"name":"absent","port":80}}}],"backendRefs":[{"name":"primary","port":80}]}]}}`, n)
			got, err := routes.Resource(schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}).
				Namespace(ns).Patch(context.WithoutCancel(ctx), "busy", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
			if err != nil {
				failures = append(failures, fmt.Sprintf("%s %d: %v", time.Now().Format(time.StampMilli), n, err))
				continue
			}
			w.done.Add(1)
			if got.GetAnnotations()["mirrorgate.dev/parked"] == "" || strings.Contains(fmt.Sprint(got.Object["spec"]), "requestMirror") {
				w.unmirrored.Add(1)
			}
		}
	})
	w.stop = sync.OnceValue(func() []string {
		cancel()
		running.Wait()
		return failures
	})
	t.Cleanup(func() { w.stop() })
	return w
}
