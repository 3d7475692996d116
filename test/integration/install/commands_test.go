package install

// Every command in the documents is run, either here or by the file that a table names.

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// command is a command line of a document.
type command struct{ document, section, text string }

func (c command) String() string { return c.document + ", " + c.section + ": " + c.text }

// programs are the words with which a code span in prose begins when it is a command and not a name.
var programs = []string{"bash", "curl", "docker", "git", "go", "helm", "kind", "kubectl", "make", "mirrorgate", "sh"}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// isCommand reports whether a code span is a command: `make e2e` and `test/e2e/kind.sh` are, `kubectl` alone
// is not.
func isCommand(span string) bool {
	words := strings.Fields(span)
	if len(words) > 1 && slices.Contains(programs, words[0]) {
		return true
	}
	if len(words) == 0 || !strings.Contains(words[0], "/") {
		return false
	}
	info, err := os.Stat(filepath.Join(repository, filepath.FromSlash(words[0])))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o100 != 0
}

// commandsOf returns the commands of a document in order: the lines of its shell blocks and the code spans of
// its prose. Every other block must name its language.
func commandsOf(t *testing.T, document, text string) []command {
	t.Helper()
	var found []command
	section, language, line, prose := "", "", "", ""
	take := func(text string) { found = append(found, command{document, section, text}) }
	spans := func() {
		for _, span := range codeSpan.FindAllStringSubmatch(prose, -1) {
			if text := strings.Join(strings.Fields(span[1]), " "); isCommand(text) {
				take(text)
			}
		}
		prose = ""
	}
	for row := range strings.Lines(text) {
		row = strings.TrimRight(row, "\n")
		fence, isFence := strings.CutPrefix(strings.TrimSpace(row), "```")
		switch {
		case isFence && language == "":
			spans()
			language = fence
			require.Contains(t, []string{"sh", "yaml"}, language, "%s, %s: a block whose language does not say whether it is run", document, section)
		case isFence:
			require.Empty(t, line, "%s, %s: a command that continues after its block", document, section)
			language = ""
		case language == "sh":
			start, more := strings.CutSuffix(strings.TrimSpace(row), `\`)
			line += start
			if command, _, _ := strings.Cut(line, " # "); !more && strings.TrimSpace(command) != "" && command[0] != '#' {
				take(strings.TrimSpace(command))
			}
			if !more {
				line = ""
			}
		case language != "":
		case strings.HasPrefix(row, "#"):
			spans()
			section = strings.TrimLeft(row, "# ")
		case strings.TrimSpace(row) == "":
			spans()
		default:
			prose += row + " "
		}
	}
	spans()
	require.Empty(t, language, "%s: a block without an end", document)
	return found
}

// unrun returns the commands that were not run. A command that prose repeats, in whole or by its beginning,
// counts as run if the full command was run.
func unrun(all []command, ran map[string]bool) []command {
	return slices.DeleteFunc(slices.Clone(all), func(c command) bool {
		for text := range ran {
			if text == c.text || strings.HasPrefix(text, c.text+" ") {
				return true
			}
		}
		return false
	})
}

const sample = "# One\n\nRun `kubectl get\npods`, not `kubectl`, or `make x`; see `docs/install.md`.\n\n" +
	"| `helm list` | `failurePolicy: Fail` |\n\n## Two\n\n```sh\n# why\nkubectl get \\\n  nodes # now\n\nmake x\n```\n\n```yaml\na: `go run`\n```\n"

func TestCommandsOfADocumentAreFound(t *testing.T) {
	all := commandsOf(t, "d.md", sample)
	assert.Equal(t, []command{
		{"d.md", "One", "kubectl get pods"}, {"d.md", "One", "make x"}, {"d.md", "One", "helm list"},
		{"d.md", "Two", "kubectl get nodes"}, {"d.md", "Two", "make x"},
	}, all)
	assert.Equal(t, []command{{"d.md", "One", "kubectl get pods"}, {"d.md", "Two", "kubectl get nodes"}},
		unrun(all, map[string]bool{"make x": true, "helm list --all": true}))
	assert.True(t, isCommand("test/e2e/kind.sh"))
}

// elsewhere are the commands that need something that these tests do not have, such as root, with the file
// and the line that run them.
var elsewhere = map[string]struct{ file, line string }{
	"make e2e": {".ci/run", "make e2e\n"},
	"go -C test/cluster run ./cmd/cluster up --real-node -- bash": {
		"test/e2e/sandbox_test.go", `clusterProgram), "up", "--real-node", "--", "bash")`,
	},
	// It needs docker, kind and the cluster: TestSuiteOnKindStarts has stand-ins for the first two.
	"make e2e-kind":    {"test/integration/install/kind_test.go", `"make", "e2e-kind")`},
	"test/e2e/kind.sh": {"Makefile", "\ttest/e2e/kind.sh\n"},
	"go -C test/e2e test . -kubeconfig … -on-node …": {"test/e2e/kind.sh", "go -C test/e2e test -count=1 -timeout 40m -v \"$@\" . \\\n\t-kubeconfig "},
	// It needs a version that the module proxy has; a test holds that nothing in go.mod is in its way.
	"go install github.com/mirrorgate/mirrorgate/cmd/mirrorgate@v1.2.3": {
		"test/house/install_test.go", "go install github.com/mirrorgate/mirrorgate/cmd/mirrorgate@v1.2.3",
	},
	// They need replicas that run: other tests have them.
	"mirrorgate check": {"test/integration/verbs/check_test.go", "findings, code = check(t, env.Kubeconfig)\n"},
	"mirrorgate check --wait 2m --fail-on warning": {"test/integration/verbs/check_test.go", `check(t, env.Kubeconfig, "--wait", "1m", "--fail-on", "warning")`},
	// The command runs a Go function whose own tests make two releases and compare them.
	"make release": {"Makefile", "\tgo -C release run . -version $(VERSION)\n"},
}

func TestCommandsOfTheTableAreInTheirFiles(t *testing.T) {
	for text, by := range elsewhere {
		raw, err := os.ReadFile(filepath.Join(repository, filepath.FromSlash(by.file)))
		require.NoError(t, err)
		assert.Contains(t, string(raw), by.line, "the table says that %s is run by %s, which does not contain it", text, by.file)
	}
}
