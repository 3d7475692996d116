package dataplane

// The proxy of a Service as a process, with exactly the rights that an installation gives it. No pods run
// here (they do in test/e2e), so the tests tell routes apart by the proxy's own responses: redirects, 500 for
// a reference that cannot be resolved, 503 for a Service without endpoints.

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// rights are the ClusterRole of proxies; roleBinding grants them to the user that runs them here.
const rights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: mirrorgate-proxy}
rules:
- {apiGroups: [""], resources: [services], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [gateway.networking.k8s.io], resources: [httproutes, grpcroutes, referencegrants, backendtlspolicies], verbs: [get, list, watch]}
- {apiGroups: [mirrorgate.dev], resources: [mirrorpolicies], verbs: [list, watch]}
`

const roleBinding = `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: mirrorgate-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: mirrorgate-proxy}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: proxy}]
`

// ports is a Service with one port for HTTP and one for another protocol.
func ports(name string, web, db int) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  selector: {app: %s}
  ports: [{name: http, port: 8000, targetPort: %d}, {name: db, port: 5432, targetPort: %d, appProtocol: postgresql}]
---
`, name, name, web, db)
}

// routing is an HTTPRoute of Service httpbin with this rule.
func routing(rule string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin, port: 8000}]
  rules: [%s]
`, rule)
}

func redirect(host string) string {
	return fmt.Sprintf("{filters: [{type: RequestRedirect, requestRedirect: {hostname: %s}}]}", host)
}

// proxyProcess is a running `mirrorgate proxy --service httpbin`.
type proxyProcess struct {
	cmd     *exec.Cmd
	log     *safeBuffer
	done    chan struct{}
	err     error
	web, db int
	admin   string
	client  *http.Client
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func freePort(t *testing.T) int {
	t.Helper()
	address, err := freeport.Address()
	require.NoError(t, err)
	return address.Port
}

func startProxy(t *testing.T, namespace string, more ...string) *proxyProcess {
	t.Helper()
	kubeconfig, err := env.KubeconfigFor(t.Context(), "proxy")
	require.NoError(t, err)
	p := &proxyProcess{log: &safeBuffer{}, done: make(chan struct{}), web: freePort(t), db: freePort(t), admin: "127.0.0.1:" + strconv.Itoa(freePort(t))}
	p.client = &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	p.cmd = exec.Command(env.Binary, "proxy", "--service", "httpbin", "--namespace", namespace, "--kubeconfig", kubeconfig, "--admin-bind", p.admin, "--drain-min", "1s") //nolint:noctx // it must exit cleanly
	p.cmd.Args = append(p.cmd.Args, more...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		<-p.done
		assert.NoError(t, p.err, "the proxy does not exit cleanly")
		if t.Failed() {
			t.Logf("mirrorgate proxy:\n%s", p.log)
		}
	})
	return p
}

func (p *proxyProcess) readyz(t *testing.T) int {
	status, _ := harness.Fetch(t, "http://"+p.admin+"/readyz")
	return status
}

// ask returns the proxy's response at the first port: its status, the target of a redirect, and whether the
// proxy closed the connection.
func (p *proxyProcess) ask(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", p.web), http.NoBody)
	if err != nil {
		return err.Error()
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	if location, err := resp.Location(); err == nil {
		return fmt.Sprint(resp.StatusCode, " ", location.Hostname())
	}
	return fmt.Sprint(resp.StatusCode)
}

func (p *proxyProcess) becomes(t *testing.T, want string) {
	t.Helper()
	harness.Eventually(t, func() bool { return p.ask(t.Context()) == want }, "%s", want)
}

func (p *proxyProcess) says(t *testing.T, words string) {
	t.Helper()
	harness.Eventually(t, func() bool { return bytes.Contains([]byte(p.log.String()), []byte(words)) }, "%s", words)
}

// outlives restarts the API server, which must not change a single response.
func (p *proxyProcess) outlives(t *testing.T, want string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var asked atomic.Int64
	wrong := make(chan string, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if got := p.ask(ctx); got != want && ctx.Err() == nil {
				select {
				case wrong <- got:
				default:
				}
			}
			asked.Add(1)
		}
	})
	require.NoError(t, env.RestartAPIServer(t.Context()))
	p.says(t, "going on with what is known")
	p.says(t, "Reading again")
	seen := asked.Load()
	harness.Eventually(t, func() bool { return asked.Load() > seen+1000 }, "the test's client receives no answers")
	assert.Equal(t, http.StatusOK, p.readyz(t))
	stop()
	wg.Wait()
	assert.Empty(t, wrong)
}

// A proxy waits for its rights, its Service and its origin, and follows its routes. A restart of the API
// server does not affect it, although the API server answers "forbidden" or "not found" for everything until
// it is up.
func TestProxyProcess(t *testing.T) {
	ns := env.Namespace(t)
	env.MustKubectl(t, rights, "apply", "-f", "-")
	p := startProxy(t, ns)
	p.says(t, "waiting until it can be read")
	assert.Equal(t, http.StatusServiceUnavailable, p.readyz(t))
	env.MustKubectl(t, roleBinding, "-n", ns, "apply", "-f", "-")
	p.says(t, "there is no Service "+ns+"/httpbin")
	env.MustKubectl(t, ports("httpbin", p.web, p.db), "-n", ns, "apply", "-f", "-")
	p.says(t, "there is no origin yet")
	assert.Equal(t, http.StatusServiceUnavailable, p.readyz(t))
	env.MustKubectl(t, ports(wellknown.OriginName("httpbin"), p.web, p.db), "-n", ns, "apply", "-f", "-")
	harness.Eventually(t, func() bool { return p.readyz(t) == http.StatusOK }, "the proxy does not become ready")
	assert.Equal(t, "error", p.ask(t.Context()), "connections are passed through, but there is no endpoint")

	env.MustKubectl(t, routing(redirect("one.example")), "-n", ns, "apply", "-f", "-")
	p.becomes(t, "302 one.example")
	p.outlives(t, "302 one.example")
	env.MustKubectl(t, routing(redirect("two.example")), "-n", ns, "apply", "-f", "-")
	p.becomes(t, "302 two.example")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	harness.Eventually(t, func() bool { return p.readyz(t) == http.StatusServiceUnavailable }, "the proxy does not become unready")
	assert.Equal(t, "302 two.example", p.ask(t.Context()), "clients that still connect are served")
	select {
	case <-p.done:
	case <-time.After(harness.Wait):
		require.Fail(t, "the proxy does not end")
	}
}

// Attacks from one namespace on another, with the rights that an installation grants: a route cannot attach
// itself to a Service of another namespace, and a reference cannot be resolved unless it is granted, whatever
// the proxy may read. A granted reference works, also while the API server restarts, and stops working when
// the grant is deleted.
func TestProxyNamespacesApart(t *testing.T) {
	ns, other := env.Namespace(t), env.Namespace(t)
	env.MustKubectl(t, rights, "apply", "-f", "-")
	env.MustKubectl(t, roleBinding, "-n", ns, "apply", "-f", "-")
	p := startProxy(t, ns)
	env.MustKubectl(t, ports("httpbin", p.web, p.db)+ports(wellknown.OriginName("httpbin"), p.web, p.db), "-n", ns, "apply", "-f", "-")
	env.MustKubectl(t, ports("vault", 80, 81), "-n", other, "apply", "-f", "-")
	env.MustKubectl(t, fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: evil}
spec:
  parentRefs: [{group: "", kind: Service, namespace: %s, name: httpbin, port: 8000}]
  rules: [{matches: [{path: {type: Exact, value: /}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: evil.example}}]}]
`, ns), "-n", other, "apply", "-f", "-")
	env.MustKubectl(t, routing("{backendRefs: [{namespace: "+other+", name: vault, port: 8000}]}"), "-n", ns, "apply", "-f", "-")
	harness.Eventually(t, func() bool { return p.readyz(t) == http.StatusOK }, "the proxy does not become ready")
	stays := func(want, what string) {
		t.Helper()
		p.becomes(t, want)
		assert.Never(t, func() bool { return p.ask(t.Context()) != want }, 2*time.Second, 20*time.Millisecond, what)
	}
	stays("500", "nothing is granted")
	grant := fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: shop}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: %s}], to: [{group: "", kind: Service, name: vault}]}
`, ns)
	env.MustKubectl(t, grant, "-n", other, "apply", "-f", "-")
	stays("500", "granted, but the proxy may not read there")
	env.MustKubectl(t, "", "-n", other, "delete", "referencegrant", "shop")
	env.MustKubectl(t, roleBinding, "-n", other, "apply", "-f", "-")
	stays("500", "the proxy may read there, but nothing is granted")
	env.MustKubectl(t, grant, "-n", other, "apply", "-f", "-")
	p.becomes(t, "503")
	p.outlives(t, "503")
	env.MustKubectl(t, "", "-n", other, "delete", "referencegrant", "shop")
	p.becomes(t, "500")
}
