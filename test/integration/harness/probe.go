package harness

// How tests read the output of the program and of its clients.

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mirrorgate/mirrorgate/webhook"
)

// Try runs kubectl and returns both of its outputs, whether it succeeded or not.
func (e *Env) Try(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), e.KubectlPath, args...)
	// As in Cluster.Kubectl: the cluster has its own discovery cache.
	cmd.Env = append(os.Environ(), append(e.Env(), "HOME="+e.Dir, "KUBECACHEDIR=")...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// Config returns a configuration for Go clients of the cluster, without a rate limit.
func (e *Env) Config(t *testing.T) *rest.Config {
	t.Helper()
	config, err := newConfig(e.Kubeconfig)
	require.NoError(t, err)
	return config
}

// Client returns the client for all requests that no user's tool makes. All tests of a package share it, since it
// discovers the cluster's resources once.
func (e *Env) Client(t *testing.T) client.Client {
	t.Helper()
	c, err := e.client()
	require.NoError(t, err)
	return c
}

// NamespacesEnded waits until no namespace is being deleted: a process that starts now sees nothing of earlier tests.
func (e *Env) NamespacesEnded(t *testing.T) {
	t.Helper()
	Eventually(t, func() bool {
		var list corev1.NamespaceList
		require.NoError(t, e.Client(t).List(t.Context(), &list))
		return !slices.ContainsFunc(list.Items, func(n corev1.Namespace) bool { return n.Status.Phase == corev1.NamespaceTerminating })
	}, "the namespaces of earlier tests are still being deleted")
}

func newConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	return config, nil
}

func newClient(kubeconfig string) (client.Client, error) {
	config, err := newConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	log.SetLogger(logr.Discard()) // else the library complains that it has none
	return client.New(config, client.Options{})
}

// Metric returns the sum of a metric's samples with the given labels (as `kind="HTTPRoute"`); for a
// histogram, name one of its series, as in x_count.
func (s *Server) Metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	_, body := Fetch(t, s.MetricsURL+"/metrics")
	sum := 0.0
samples:
	for line := range strings.Lines(body) {
		rest, found := strings.CutPrefix(line, name)
		if !found || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue samples
			}
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndex(rest, " "):]), 64)
		require.NoError(t, err, line)
		sum += value
	}
	return sum
}

// Registration returns the name of the process's webhook configurations.
func (s *Server) Registration(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	return webhook.Registration{URL: u}.Name()
}

// Crash ends the process with SIGKILL. Its registration stays until the test ends.
func (e *Env) Crash(t *testing.T, s *Server) {
	t.Helper()
	s.Kill()
	t.Cleanup(func() { e.Unregister(context.WithoutCancel(t.Context()), t, s) })
}

// Unregister removes the webhook configurations that a process has registered.
func (e *Env) Unregister(ctx context.Context, t *testing.T, s *Server) {
	t.Helper()
	_, err := e.Kubectl(ctx, "", "delete", "validatingwebhookconfigurations,mutatingwebhookconfigurations", s.Registration(t), "--ignore-not-found")
	require.NoError(t, err)
}
