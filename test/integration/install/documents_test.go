package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/certs"
)

// commands are the shell blocks of a document.
func commands(t *testing.T, document string) []string { return blocks(t, document, "sh") }

// blocks are those of a document in a language.
func blocks(t *testing.T, document, language string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", document))
	require.NoError(t, err)
	var blocks []string
	for _, part := range strings.Split(string(raw), "\n```"+language+"\n")[1:] {
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
	require.Empty(t, commands(t, "security.md"), "nobody follows them")
	for _, block := range commands(t, "operations.md") {
		if strings.Contains(block, "--force-conflicts") {
			armAsBefore(t)
		}
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

// armAsBefore leaves the failure policy as a mirrorgate did that kept the field for itself: whoever
// applies the manifests is in conflict with it.
func armAsBefore(t *testing.T) {
	t.Helper()
	env.MustKubectl(t, "", "patch", "validatingwebhookconfiguration", "mirrorgate", "--type=json", "--field-manager=mirrorgate",
		`-p=[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Fail"}]`)
	_, err := env.Kubectl(t.Context(), render(t, "overlays/default"), "apply", "--server-side", "-f", "-")
	require.ErrorContains(t, err, `conflict with "mirrorgate"`)
	require.ErrorContains(t, err, "failurePolicy")
}

// The examples in YAML: objects are applied, in a dry run, and what is none is loaded by whom it is for.
func TestEveryExampleOfTheDocumentsIsTaken(t *testing.T) {
	require.NoError(t, env.InstallCRDs(t.Context(), "cert-manager", "servicemonitors", "prometheusrules"))
	for _, namespace := range []string{system, "mirrorgate-probe"} {
		install(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+namespace+"}\n")
	}
	examples := 0
	for _, document := range []string{"install.md", "operations.md", "security.md", "proxy.md"} {
		for _, block := range blocks(t, document, "yaml") {
			examples++
			t.Run(fmt.Sprintf("%s %d", document, examples), func(t *testing.T) { take(t, document, block) })
		}
	}
	require.Equal(t, 3, examples, "a kustomization, the chart's values, the proxy's file")
}

// take gives an example to whom it is for.
func take(t *testing.T, document, block string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "example.yaml")
	require.NoError(t, os.WriteFile(file, []byte(block), 0o600))
	var is struct{ Kind string }
	require.NoError(t, yaml.Unmarshal([]byte(block), &is))
	switch {
	case is.Kind == "Kustomization":
		accept(t, build(t, strings.ReplaceAll(block, "github.com/mirrorgate/mirrorgate/manifests", source)))
	case is.Kind != "":
		accept(t, block)
	case document == "proxy.md":
		out, err := exec.CommandContext(t.Context(), env.Binary, "proxy", "--check", "--config", file).CombinedOutput()
		require.NoError(t, err, string(out))
	default:
		text := helm(t, "template", "mirrorgate", chartFolder, "--namespace", system, "--values", file)
		accept(t, strings.TrimPrefix(text, "---\n"))
		serveWith(t, byName(t, text)["ConfigMap "+system+"/mirrorgate-config"])
	}
}

// accept requires that the API server would take objects, without a warning.
func accept(t *testing.T, text string) {
	t.Helper()
	_, stderr, err := env.Try(t, text, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
	require.NoError(t, err, stderr)
	require.Empty(t, stderr)
}

// serveWith starts the program with the file in a ConfigMap.
func serveWith(t *testing.T, configMap any) {
	t.Helper()
	text, found, err := unstructured.NestedString(configMap.(map[string]any), "data", "config.yaml")
	require.NoError(t, err)
	require.True(t, found)
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	env.Serve(t, "--config", file)
}
