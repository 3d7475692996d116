package install

// What documents tell their readers to run, and that each of it is run: here, or by what a table says.

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

// programs are what a code span in prose begins with when it is a command, and not a name.
var programs = []string{"bash", "curl", "docker", "git", "go", "helm", "kind", "kubectl", "make", "mirrorgate", "sh"}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// isCommand tells commands from names: `make e2e` and `test/e2e/kind.sh` are some, `kubectl` is none.
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

// commandsOf are the commands of a document in their order: the lines of its blocks of shell, and the
// code spans of its prose. Other blocks have to say what they are.
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
			require.Contains(t, []string{"sh", "yaml"}, language, "%s, %s: a block of which nobody knows whether it is run", document, section)
		case isFence:
			require.Empty(t, line, "%s, %s: a command that goes on behind its block", document, section)
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

// unrun are the commands that nobody ran. What prose says again, or says the beginning of, was run where
// it stands as a whole.
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

// elsewhere are the commands that need what is not here, such as root, and the file with the line that
// has them run.
var elsewhere = map[string]struct{ file, line string }{
	"make e2e": {".ci/run", "make e2e\n"},
	"go -C test/cluster run ./cmd/cluster up --real-node -- bash": {
		"test/e2e/sandbox_test.go", `clusterProgram), "up", "--real-node", "--", "bash")`,
	},
	// With docker, kind and the cluster: TestSuiteOnKindStarts has stand-ins for the first two.
	"make e2e-kind":    {"test/integration/install/kind_test.go", `"make", "e2e-kind")`},
	"test/e2e/kind.sh": {"Makefile", "\ttest/e2e/kind.sh\n"},
	"go -C test/e2e test . -kubeconfig … -on-node …": {"test/e2e/kind.sh", "go -C test/e2e test -count=1 -timeout 40m -v \"$@\" . \\\n\t-kubeconfig "},
	// What it does is a Go function: two releases are made in its tests, and compared.
	"make release": {"Makefile", "\tgo -C release run . -version $(VERSION)\n"},
}

func TestWhatOthersRunIsRunByThem(t *testing.T) {
	for text, by := range elsewhere {
		raw, err := os.ReadFile(filepath.Join(repository, filepath.FromSlash(by.file)))
		require.NoError(t, err)
		assert.Contains(t, string(raw), by.line, "%s is said to be run by %s", text, by.file)
	}
}
