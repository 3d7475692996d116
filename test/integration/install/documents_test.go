package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/certs"
)

// commands are the shell blocks of a document.
func commands(t *testing.T, document string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", document))
	require.NoError(t, err)
	var blocks []string
	for _, part := range strings.Split(string(raw), "\n```sh\n")[1:] {
		block, _, closed := strings.Cut(part, "\n```")
		require.True(t, closed, document)
		blocks = append(blocks, block)
	}
	return blocks
}

// follow runs a block as a reader would, in the repository.
func follow(t *testing.T, block string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", block)
	cmd.Dir = filepath.Join("..", "..", "..")
	cmd.Env = append(append(os.Environ(), "HOME="+env.Dir, "KUBECACHEDIR="), env.Env()...)
	cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(env.Binary)+":"+filepath.Dir(env.KubectlPath)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", block, out)
}

// It follows install.md from the first command to the last, and operations.md on the
// way, while mirrorgate is installed.
func TestEveryCommandOfTheDocumentsWorks(t *testing.T) {
	_, err := buildHelm()
	require.NoError(t, err)
	blocks := commands(t, "install.md")
	require.Len(t, blocks, 5, "install, with cert-manager, with Helm, remove, remove with Helm")
	follow(t, blocks[0])
	follow(t, blocks[1])

	env.MustKubectl(t, "", "create", "namespace", "shop")
	env.MustKubectl(t, "", "-n", system, "create", "secret", "generic", certs.SelfSecret)
	for _, block := range commands(t, "operations.md") {
		follow(t, block)
	}
	env.MustKubectl(t, "", "delete", "namespace", "shop", "--wait=false")
	follow(t, blocks[0])
	for _, block := range []string{blocks[3], blocks[2] + "\n" + blocks[4]} {
		follow(t, block)
		kinds := "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,namespaces"
		require.Empty(t, env.MustKubectl(t, "", "get", kinds, "-l", "app.kubernetes.io/part-of=mirrorgate", "-o", "name"), "left behind")
	}
}
