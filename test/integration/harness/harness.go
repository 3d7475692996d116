// Package harness runs the mirrorgate binary against a real control plane, for tests: one cluster for a test
// binary, as many serving processes as a test needs, and a namespace of its own for every test.
package harness

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/test/cluster"
)

// Wait bounds every wait for something that the cluster does by itself. It is long because the machine may be
// busy, and costs time only when a test fails.
const Wait = 2 * time.Minute

// Env is a running cluster with a built mirrorgate.
type Env struct {
	*cluster.Cluster
	// Binary is the path of the mirrorgate program that Build made.
	Binary string
	names  atomic.Int64
	client func() (client.Client, error)
}

// Main is a TestMain: it starts a cluster, runs the tests, and ends it.
func Main(m *testing.M, env **Env, opts cluster.Options) {
	main(m, env, func(ctx context.Context) (*cluster.Cluster, error) {
		opts.Progress = os.Stderr
		return cluster.Start(ctx, opts)
	})
}

// MainShared is Main for tests that leave the cluster as they found it. They run in the cluster that
// cluster.JoinEnv names, one package after the other, or in a cluster of their own if it names none.
func MainShared(m *testing.M, env **Env) {
	if dir := os.Getenv(cluster.JoinEnv); dir != "" {
		main(m, env, func(context.Context) (*cluster.Cluster, error) { return cluster.Join(dir) })
	}
	Main(m, env, cluster.Options{})
}

func main(m *testing.M, env **Env, start func(context.Context) (*cluster.Cluster, error)) {
	flag.Parse()
	os.Exit(func() int {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c, err := start(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() {
			if err := c.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
		binary := filepath.Join(c.Dir, "mirrorgate")
		if err := Build(ctx, Root(), binary); err != nil { // in a shared cluster, an earlier package's binary is reused if it is up to date
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		*env = &Env{Cluster: c, Binary: binary, client: sync.OnceValues(func() (client.Client, error) { return newClient(c.Kubeconfig) })}
		return m.Run()
	}())
}

// Root is the folder of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

var released = flag.Bool("released", false, "build the program as it is released, without the race detector, for tests that measure a rate")

// Build builds the program of a source folder with the race detector: after a race the program exits with
// code 66, which Server.Stop reports.
func Build(ctx context.Context, source, binary string, flags ...string) error {
	args := append([]string{"build", "-o", binary}, flags...)
	if !*released {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/mirrorgate")...)
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build mirrorgate: %w\n%s", err, out)
	}
	return nil
}

// Namespace creates a namespace that is deleted after the test.
func (e *Env) Namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("t%d-%d", e.names.Add(1), os.Getpid())
	e.MustKubectl(t, "", "create", "namespace", name)
	t.Cleanup(func() {
		_, err := e.Kubectl(context.Background(), "", "delete", "namespace", name, "--wait=false")
		require.NoError(t, err)
	})
	return name
}

// InstallPolicyKinds installs the CustomResourceDefinitions of MirrorLimits and MirrorPolicies, which stay.
func (e *Env) InstallPolicyKinds(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(), "manifests/components/policy/mirrorgate.dev_*.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, file := range files {
		e.MustKubectl(t, "", "apply", "--server-side", "-f", file)
	}
	e.MustKubectl(t, "", "wait", "--for=condition=Established", "crd/mirrorlimits.mirrorgate.dev", "crd/mirrorpolicies.mirrorgate.dev")
}

// MustKubectl runs kubectl and fails the test when it fails.
func (e *Env) MustKubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := e.Kubectl(t.Context(), stdin, args...)
	require.NoError(t, err, "kubectl %s\n%s", strings.Join(args, " "), stdin)
	return out
}

// kinds are the resources that Get knows. Discovery would not do: it knows nothing of a CRD that comes later.
var kinds = map[string]schema.GroupVersionKind{
	"configmap":      {Version: "v1", Kind: "ConfigMap"},
	"deployment":     {Group: "apps", Version: "v1", Kind: "Deployment"},
	"grpcroute":      {Group: "gateway.networking.k8s.io", Version: "v1", Kind: "GRPCRoute"},
	"httproute":      {Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"},
	"virtualservice": {Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
}

// Get returns an object, or nil when it does not exist. Tests poll with it: a process of kubectl would cost a hundred
// times as much.
func (e *Env) Get(t *testing.T, namespace, resource, name string) *unstructured.Unstructured {
	t.Helper()
	kind, known := kinds[resource]
	require.True(t, known, "the harness does not know the resource %q", resource)
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	err := e.Client(t).Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, u)
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(t, err)
	return u
}

// Eventually polls until is returns true. The failure message is what, formatted with args.
func Eventually(t *testing.T, is func() bool, what string, args ...any) {
	t.Helper()
	require.Eventuallyf(t, is, Wait, 50*time.Millisecond, what, args...)
}

// Server is one running `mirrorgate serve`.
type Server struct {
	// URL is the address of the webhook server, MetricsURL and HealthURL those of the others.
	URL, MetricsURL, HealthURL string
	// ReportURL is that of the port of reports, with --no-mesh.
	ReportURL string
	cmd       *exec.Cmd
	log       *buffer
	done      chan struct{}
	err       error
}

// Serve starts mirrorgate outside of the cluster and waits until its webhooks are registered. It is stopped
// after the test and must exit cleanly.
func (e *Env) Serve(t *testing.T, flags ...string) *Server {
	t.Helper()
	s := e.Launch(t, flags...)
	s.WaitReady(t)
	return s
}

// Launch starts mirrorgate and does not wait for it.
func (e *Env) Launch(t *testing.T, flags ...string) *Server {
	t.Helper()
	s := newServer(t)
	return s.launch(t, e.Binary, append([]string{"--kubeconfig", e.Kubeconfig, "--webhook-url", s.URL}, flags...))
}

// LaunchInstalled starts mirrorgate with the identity of a kubeconfig, as a pod of an installation would, and
// does not wait for it.
func (e *Env) LaunchInstalled(t *testing.T, kubeconfig string, flags ...string) *Server {
	t.Helper()
	return LaunchProgram(t, e.Binary, append([]string{"--kubeconfig", kubeconfig}, flags...)...)
}

// LaunchProgram starts a mirrorgate binary that was built for a test.
func LaunchProgram(t *testing.T, binary string, flags ...string) *Server {
	t.Helper()
	return newServer(t).launch(t, binary, flags)
}

// LaunchInterception starts mirrorgate intercept with the identity of a kubeconfig, and does not wait for it.
func (e *Env) LaunchInterception(t *testing.T, kubeconfig string, flags ...string) *Server {
	t.Helper()
	s := newServer(t)
	return s.start(t, e.Binary, append([]string{
		"intercept", "--kubeconfig", kubeconfig,
		"--metrics-bind", strings.TrimPrefix(s.MetricsURL, "http://"),
		"--health-bind", strings.TrimPrefix(s.HealthURL, "http://"),
	}, flags...))
}

func newServer(t *testing.T) *Server {
	t.Helper()
	return &Server{
		URL: "https://" + freeAddress(t), MetricsURL: "http://" + freeAddress(t), HealthURL: "http://" + freeAddress(t),
		ReportURL: "https://" + freeAddress(t),
		log:       &buffer{}, done: make(chan struct{}),
	}
}

func (s *Server) launch(t *testing.T, binary string, flags []string) *Server {
	t.Helper()
	if slices.Contains(flags, "--no-mesh") {
		flags = append([]string{"--report-bind", strings.TrimPrefix(s.ReportURL, "https://")}, flags...)
	}
	return s.start(t, binary, append([]string{
		"serve",
		"--webhook-bind", strings.TrimPrefix(s.URL, "https://"),
		"--metrics-bind", strings.TrimPrefix(s.MetricsURL, "http://"),
		"--health-bind", strings.TrimPrefix(s.HealthURL, "http://"),
		"--unready-grace", "1s",
	}, flags...))
}

func (s *Server) start(t *testing.T, binary string, args []string) *Server {
	t.Helper()
	s.cmd = exec.Command(binary, args...) //nolint:noctx // Stop ends it and requires a clean exit
	s.cmd.Stderr, s.cmd.Stdout = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	require.NoError(t, s.cmd.Start())
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.Stop(t)
		if t.Failed() {
			t.Logf("mirrorgate %s:\n%s", args[0], s.Log())
		}
	})
	return s
}

// WaitReady waits until the webhooks are registered.
func (s *Server) WaitReady(t *testing.T) {
	t.Helper()
	Eventually(t, func() bool {
		return strings.Contains(s.Log(), "Webhooks registered") || s.ended()
	}, "mirrorgate does not register its webhooks")
	require.False(t, s.ended(), "mirrorgate ended: %v\n%s", s.err, s.Log())
}

func (s *Server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Stop ends the process with SIGTERM and requires a clean exit; after Kill or another Stop it does nothing.
func (s *Server) Stop(t *testing.T) {
	t.Helper()
	if s.ended() {
		return
	}
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.done:
		require.NoError(t, s.err, "exit\n%s", s.Log())
	case <-time.After(Wait):
		s.Kill()
		t.Errorf("mirrorgate did not end\n%s", s.Log())
	}
}

// Kill ends the process with SIGKILL, which leaves its registration behind.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// Signal sends any signal, for tests that freeze the process; after SIGSTOP it returns once the process is
// stopped.
func (s *Server) Signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(sig))
	if sig != syscall.SIGSTOP {
		return
	}
	Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
		return err == nil && bytes.Contains(stat, []byte(") T "))
	}, "the process keeps running after SIGSTOP")
}

// Log returns the output of the process so far.
func (s *Server) Log() string { return s.log.String() }

// Fetch returns the body and status of a plain HTTP endpoint of the process; the status is 0 when there is no
// answer.
func Fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(raw)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	require.NoError(t, err)
	return address.String()
}

// buffer is a bytes.Buffer that two goroutines can use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
