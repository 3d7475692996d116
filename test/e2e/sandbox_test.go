package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/cluster"
)

// clusterProgram is the command of test/cluster, beside the images.
const clusterProgram = "cluster"

// A sandbox cannot check from within that it leaves nothing behind. Another node, in a sandbox inside of this
// one, is therefore ended by a signal while it runs. It is started as docs/install.md says, with a shell in
// it.
func TestInterruptedNodeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), filepath.Join(node.work, clusterProgram), "up", "--real-node", "--", "bash")
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, cluster.SandboxEnv+"=") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = in.Write([]byte("echo $KUBECONFIG; kubectl get nodes --output name; read\n"))
	require.NoError(t, err)
	said := bufio.NewReader(out)
	for _, want := range []string{dir, "node/"} {
		line, err := said.ReadString('\n')
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(line, want), line)
	}
	processes := descendants(t, cmd.Process.Pid)
	require.Greater(t, len(processes), 8, "etcd, three more of the control plane, three of the node, a shim with a pod of two")
	groups := controlGroups(t, dir)
	require.NotEmpty(t, groups)

	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, 130, cmd.ProcessState.ExitCode())
	for _, process := range processes {
		require.NoDirExists(t, process)
	}
	for _, group := range groups {
		require.NoDirExists(t, group)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// descendants returns the processes below one, as their folders in /proc. Orphans count: their parent is then
// the first process of the sandbox.
func descendants(t *testing.T, parent int) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	children := map[string][]string{}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (COMM) STATE PPID …, and COMM may contain anything.
		fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")"):]))
		children[fields[2]] = append(children[fields[2]], filepath.Base(filepath.Dir(path)))
	}
	var found []string
	for next := children[strconv.Itoa(parent)]; len(next) > 0; next = next[1:] {
		found = append(found, "/proc/"+next[0])
		next = append(next, children[next[0]]...)
	}
	return found
}

// controlGroups returns the control groups of the sandbox whose folder is in dir.
func controlGroups(t *testing.T, dir string) []string {
	t.Helper()
	sandbox, err := filepath.Glob(filepath.Join(dir, "mirrorgate-sandbox-*"))
	require.NoError(t, err)
	require.Len(t, sandbox, 1)
	name := filepath.Base(sandbox[0])
	one, err := filepath.Glob("/sys/fs/cgroup/" + name)
	require.NoError(t, err)
	each, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	require.NoError(t, err)
	return append(one, each...)
}
