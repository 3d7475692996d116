// Package house tests what the repository says about itself: the fences between layers, the words of
// CONTEXT.md, and the layout table of CONTRIBUTING.md.
package house

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/mirrorgate/mirrorgate"

// root is the top of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	return dir
}

// list runs a command in the repository and returns the words that it prints. git may read the repository
// of any user.
func list(t *testing.T, command string, args ...string) []string {
	t.Helper()
	if command == "git" {
		args = append([]string{"-c", "safe.directory=*"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s", command, strings.Join(args, " "), stderr.String())
	return strings.Fields(string(out))
}

// cell matches one cell of a Markdown table row.
var cell = regexp.MustCompile(`\s*\|\s*`)

// table returns the cells of every row of the tables in a Markdown file, without headings.
func table(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join(root(t), name))
	require.NoError(t, err)
	defer f.Close()
	var rows [][]string
	heading := true
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if !strings.HasPrefix(line, "|") {
			heading = true
			continue
		}
		if heading || strings.HasPrefix(line, "|--") || strings.HasPrefix(line, "|:-") {
			heading = false
			continue
		}
		rows = append(rows, cell.Split(strings.Trim(line, "| "), -1))
	}
	require.NotEmpty(t, rows, "%s has no table", name)
	return rows
}

// quoted matches a word in code quotes.
var quoted = regexp.MustCompile("`([^`]+)`")
