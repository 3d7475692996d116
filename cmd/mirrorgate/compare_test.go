package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/freeport"
)

// blocks are the shell blocks of a document.
var blocks = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")

// spans are the code spans that are commands of this verb with all that they need.
var spans = regexp.MustCompile("(?s)`(mirrorgate compare --aa [^`]*)`")

// ports are the ports of the document's addresses.
var ports = regexp.MustCompile(`\b(800[01]|900[123])\b`)

// TestCommandsOfTheDocument runs every command of docs/compare.md, at ports that are free.
func TestCommandsOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/compare.md")
	require.NoError(t, err)
	free := map[string]string{}
	here := func(script string) string {
		return ports.ReplaceAllStringFunc(script, func(port string) string {
			if free[port] == "" {
				address, err := freeport.Address()
				require.NoError(t, err)
				_, free[port], _ = strings.Cut(address.String(), ":")
			}
			return free[port]
		})
	}
	var script strings.Builder
	found := blocks.FindAllStringSubmatch(string(text), -1)
	require.Len(t, found, 3)
	script.WriteString("set -eu\n" + here(found[0][1]))
	for _, port := range []string{"9001", "9002", "9003"} {
		script.WriteString(here("until curl -s -o answer.json http://127.0.0.1:" + port + "/; do sleep 0.05; done\n"))
	}
	script.WriteString(here(found[1][1]) + "verdict=$!\n" + here(found[2][1]) + "code=0; wait $verdict || code=$?; exit $code\n")
	out, code := bash(t, script.String())
	assert.Equal(t, 1, code, out.stderr)
	verdict, err := os.ReadFile(filepath.Join(out.dir, "verdict.txt"))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(verdict), "different: GET /cart.json body.price\n"), "%s\n%s", verdict, out.stderr)

	replicas := spans.FindStringSubmatch(string(text))
	require.NotNil(t, replicas)
	out, code = bash(t, here(strings.Join(strings.Fields(replicas[1]), " ")))
	assert.Equal(t, 2, code, "no request was compared: %s %s", out.stdout, out.stderr)
	assert.Contains(t, out.stdout, "undecided: no request has been compared")
}

type output struct{ dir, stdout, stderr string }

// bash runs a script in a folder of its own, with this program as mirrorgate, and ends all that it started.
func bash(t *testing.T, script string) (out output, code int) {
	t.Helper()
	out.dir = t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	bin := t.TempDir()
	require.NoError(t, os.Symlink(self, filepath.Join(bin, "mirrorgate"))) // testscript.Main chooses the program by its name
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+script)
	cmd.Dir, cmd.WaitDelay = out.dir, 10*time.Second
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = io.Writer(&stdout), io.Writer(&stderr)
	err = cmd.Run()
	out.stdout, out.stderr = stdout.String(), stderr.String()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return out, exit.ExitCode()
	}
	require.NoError(t, err, out.stderr)
	return out, 0
}
