package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// standIn prints the arguments that it was called with. The one for kind makes no cluster, but returns the
// test's cluster.
const standIn = `#!/bin/sh
[ "$1" != build ] || [ ! -t 0 ]
echo "${0##*/} $*" >>"$SAID"
while [ $# -gt 0 ] && [ "$1 $2" != "create cluster" ]; do shift; done
[ $# -eq 0 ] || cp "$KUBECONFIG" "$6"
`

// Everything in the suite on kind that needs no Docker is run: the script, and the suite's start on an
// existing cluster. That cluster has no node that runs pods, so no test is selected.
func TestSuiteOnKindStarts(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"docker", "kind"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(standIn), 0o700))
	}
	said := filepath.Join(dir, "said")
	cmd := exec.CommandContext(t.Context(), "make", "e2e-kind")
	cmd.Dir = repository
	cmd.Env = append(append(os.Environ(), env.Env()...), "SAID="+said, "KIND_IMAGE=kindest/node:v1.36.3",
		"GOFLAGS="+os.Getenv("GOFLAGS")+" -run=^$",
		"PATH="+dir+":"+filepath.Dir(env.KubectlPath)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "testing: warning: no tests to run")

	raw, err := os.ReadFile(said)
	require.NoError(t, err)
	var verbs []string
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		verbs = append(verbs, strings.Join(words[:min(3, len(words))], " "))
	}
	require.Equal(t, []string{
		"docker build --build-arg", "docker build --tag", "docker build --tag", "kind create cluster", "kind load docker-image", "kind delete cluster",
	}, verbs, string(raw))
	require.Contains(t, string(raw), "--image kindest/node:v1.36.3\n")
}
