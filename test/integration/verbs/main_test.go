// Package verbs runs status and lint, the verbs that only read, against a real API server.
package verbs

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var env *harness.Env

func TestMain(m *testing.M) { harness.MainShared(m, &env) }

// run runs mirrorgate with a kubeconfig and returns both outputs and the exit code.
func run(t *testing.T, kubeconfig, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), env.Binary, args...)
	cmd.Env = append(cmd.Environ(), "KUBECONFIG="+kubeconfig)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit, "mirrorgate %s", strings.Join(args, " "))
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// apply applies manifests to a namespace.
func apply(t *testing.T, namespace string, manifests ...string) {
	t.Helper()
	for _, manifest := range manifests {
		env.MustKubectl(t, manifest, "-n", namespace, "apply", "-f", "-")
	}
}

// waitForVariant waits until the Service v2 has a ready endpoint.
func waitForVariant(t *testing.T, namespace string) {
	t.Helper()
	harness.Eventually(t, func() bool {
		return env.MustKubectl(t, "", "-n", namespace, "get", "endpointslices", "-l", "kubernetes.io/service-name=v2",
			"-o", "jsonpath={.items[*].endpoints[*].conditions.ready}") == "true"
	}, "no endpoint of v2 is ready")
}
