package crds

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// This test is in the first file, because the tests in the other files install the kinds.
func TestStatusSaysThatThereAreNoRoutes(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), env.Binary, "status", "-A", "--kubeconfig", env.Kubeconfig)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Run(), &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Equal(t, "mirrorgate: status: the cluster has none of the kinds HTTPRoute, GRPCRoute and VirtualService: "+
		"install the CRDs of the Gateway API or of Istio\n", stderr.String())
}
