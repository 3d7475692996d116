package install

// These tests follow the documents literally, as a reader does.

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/certs"
)

// repository is the folder in which the reader runs the commands.
var repository = filepath.Join("..", "..", "..")

func document(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repository, "docs", name))
	require.NoError(t, err)
	return string(raw)
}

// blocks returns the blocks of a document in the given language.
func blocks(t *testing.T, name, language string) []string {
	t.Helper()
	var blocks []string
	for _, part := range strings.Split(document(t, name), "\n```"+language+"\n")[1:] {
		block, _, closed := strings.Cut(part, "\n```")
		require.True(t, closed, name)
		blocks = append(blocks, block)
	}
	return blocks
}

// follow runs a command in the repository, as a reader would.
func follow(t *testing.T, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", text)
	cmd.Dir = repository
	cmd.Env = append(append(os.Environ(), "HOME="+env.Dir, "KUBECACHEDIR="), env.Env()...)
	cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(env.Binary)+":"+filepath.Dir(env.KubectlPath)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", text, out)
	t.Logf("$ %s\n%s", text, out)
}

// tour is an order in which a reader could follow the documents: mirrorgate is first installed with
// kustomize, operated and removed, then installed with Helm. Sections whose commands are run by other files
// are omitted.
var tour = []struct {
	document string
	sections []string // all sections if empty
}{
	{"install.md", []string{"The program and the image", "With kustomize", "What happens then"}},
	{"operations.md", nil},
	{"security.md", nil},
	{"failure.md", nil},
	{"nomesh.md", nil},
	{"install.md", []string{"With kustomize", "Remove with kustomize"}},
	{"install.md", []string{"With Helm", "Remove with Helm"}},
}

// first prepares the state that a command needs, by a part of the command.
var first = map[string]func(t *testing.T){
	"--force-conflicts": armAsBefore,
	"delete secret " + certs.SelfSecret: func(t *testing.T) {
		env.MustKubectl(t, "", "-n", system, "create", "secret", "generic", certs.SelfSecret)
	},
	"mirrorgate-0123abcd": func(t *testing.T) {
		env.MustKubectl(t, strings.ReplaceAll(registration(t), "\n  name: mirrorgate\n", "\n  name: mirrorgate-0123abcd\n"), "create", "-f", "-")
	},
}

// The namespace shop is the reader's own.
func TestEveryCommandOfTheDocumentsIsRun(t *testing.T) {
	_, err := buildHelm()
	require.NoError(t, err)
	env.MustKubectl(t, "", "create", "namespace", "shop")
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), "", "delete", "namespace", "shop", "--wait=false")
		require.NoError(t, err)
	})
	all, ran := map[string][]command{}, map[string]bool{}
	for _, stop := range tour {
		if all[stop.document] == nil {
			all[stop.document] = commandsOf(t, stop.document, document(t, stop.document))
		}
		for _, c := range all[stop.document] {
			if _, others := elsewhere[c.text]; others || len(stop.sections) > 0 && !slices.Contains(stop.sections, c.section) {
				continue
			}
			for part, prepare := range first {
				if strings.Contains(c.text, part) {
					prepare(t)
				}
			}
			follow(t, c.text)
			ran[c.text] = true
		}
		if slices.ContainsFunc(stop.sections, func(section string) bool { return strings.HasPrefix(section, "Remove ") }) {
			kinds := "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,namespaces"
			require.Empty(t, env.MustKubectl(t, "", "get", kinds, "-l", "app.kubernetes.io/part-of=mirrorgate", "-o", "name"), "uninstall must leave no objects behind")
		}
	}
	for text := range elsewhere {
		ran[text] = true
	}
	for name, commands := range all {
		require.Empty(t, unrun(commands, ran), "%s contains commands that no test runs", name)
	}
	for text := range elsewhere {
		said := func(c command) bool { return c.text == text }
		require.True(t, slices.ContainsFunc(slices.Concat(slices.Collect(maps.Values(all))...), said), "no document contains the command %s any more", text)
	}
}

// armAsBefore sets the failure policy as an older mirrorgate did, which owned the field: applying the
// manifests then conflicts with it.
func armAsBefore(t *testing.T) {
	t.Helper()
	env.MustKubectl(t, "", "patch", "validatingwebhookconfiguration", "mirrorgate", "--type=json", "--field-manager=mirrorgate",
		`-p=[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Fail"}]`)
	_, err := env.Kubectl(t.Context(), render(t, "overlays/default"), "apply", "--server-side", "-f", "-")
	require.ErrorContains(t, err, `conflict with "mirrorgate"`)
	require.ErrorContains(t, err, "failurePolicy")
}

// The YAML examples: objects are applied in a dry run, and other examples are loaded by the program they are
// for.
func TestEveryExampleOfTheDocumentsIsAccepted(t *testing.T) {
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
	require.Equal(t, 4, examples, "a kustomization, the chart's values, two files of the proxy")
}

// take passes an example to the program that it is for.
func take(t *testing.T, document, block string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "example.yaml")
	require.NoError(t, os.WriteFile(file, []byte(block), 0o600))
	var is struct{ Kind string }
	require.NoError(t, yaml.Unmarshal([]byte(block), &is))
	switch {
	case is.Kind == "Kustomization":
		accept(t, build(t, strings.NewReplacer("github.com/mirrorgate/mirrorgate/manifests", source, "?ref=v1.2.3", "").Replace(block)))
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

// accept requires that the API server would accept objects without a warning.
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
