package webhook_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The linter sees direct imports only.
func TestWebhookDependsOnNoDataPlane(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	for path := range strings.Lines(string(out)) {
		for _, below := range []string{"internal/dataplane", "internal/proxy", "internal/controller", "cmd", "webhook/webhooktest"} {
			require.NotRegexp(t, "^github.com/mirrorgate/mirrorgate/"+below+"(/|\n)", path)
		}
	}
}
