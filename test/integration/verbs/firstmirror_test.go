package verbs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// step is a block of commands on a page, and the output that the page promises, empty for any.
type step struct{ commands, output string }

// stepsOf returns the blocks of a page in their order.
func stepsOf(t *testing.T, page string) (steps []step) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(harness.Root(), "docs", page))
	require.NoError(t, err)
	for _, part := range strings.Split(string(raw), "\n```sh\n")[1:] {
		commands, rest, closed := strings.Cut(part, "\n```\n")
		require.True(t, closed)
		output, promised := strings.CutPrefix(strings.TrimLeft(rest, "\n"), "```text\n")
		if promised {
			output, _, _ = strings.Cut(output, "```\n")
		} else {
			output = ""
		}
		steps = append(steps, step{commands, output})
	}
	return steps
}

// TestFirstMirror follows docs/first-mirror.md from its first line to its last, and compares the output of every block
// that the page shows.
func TestFirstMirror(t *testing.T) {
	server := env.Serve(t)
	binary, err := filepath.Abs(env.Binary)
	require.NoError(t, err)
	reader := t.TempDir()
	require.NoError(t, os.Symlink(binary, filepath.Join(reader, "mirrorgate")))
	outputs := map[string]string{}
	for _, s := range stepsOf(t, "first-mirror.md") {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", s.commands)
		cmd.Dir = reader
		cmd.Env = append(append(os.Environ(), env.Env()...), "HOME="+reader, "KUBECACHEDIR=", "PATH="+reader+":"+filepath.Dir(env.KubectlPath)+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", s.commands, out)
		if s.output != "" {
			assert.Equal(t, s.output, string(out), s.commands)
		}
		outputs[s.commands] = string(out)
	}
	for command, words := range map[string]string{
		"mirrorgate check":   "webhooks-answer: a dry run that must be denied is denied",
		"mirrorgate explain": "# ServiceNotFound",
		"get events":         "event/web",
		"kubectl apply -f -": "PortNotFound",
		"mirrorgate lint":    "did you mean percent?",
	} {
		found := false
		for commands, out := range outputs {
			found = found || strings.Contains(commands, command) && strings.Contains(out, words)
		}
		assert.True(t, found, "%s does not print %q:\n%v", command, words, outputs)
	}
	env.NamespacesEnded(t)
	assert.NotContains(t, server.Log(), "EventSource", "the log has our own sentences, and no word of the library's")
}
