package e2e

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// The three commands of docs/install.md, in order.
func TestRemovedMirrorgateLeavesTheAuthorsRoutes(t *testing.T) {
	installed(t)
	s := newStage(t, "removed")
	s.apply(t, documents+"httpbin-v1.yaml", documents+"httpbin.yaml", documents+"default-route.yaml", documents+"mirror-route.yaml")
	require.Equal(t, "parked", s.mirror(t))

	uninstall(t)
	kubectl(t, "delete", "--ignore-not-found", "-k=testdata/install")
	isInstalled = false
	uninstall(t, "--restore-parked")
	require.Equal(t, "active", s.mirror(t))
	kinds := "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,namespaces"
	require.Empty(t, kubectl(t, "get", kinds, "-l=app.kubernetes.io/part-of=mirrorgate", "-o=name"), "uninstall must leave no objects behind")
}

// uninstall runs mirrorgate uninstall as an administrator would, outside of the cluster.
func uninstall(t *testing.T, flags ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node.mirrorgate(), append([]string{"uninstall", "--kubeconfig=" + node.kubeconfig}, flags...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("mirrorgate uninstall: %s", out)
}
