// The command, run as a process of its own: what it passes to its child, and what remains after it is killed.

package cluster

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// buildCLI builds the command into a folder of the test's.
func buildCLI(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/cluster").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// upAndWait starts the command with "up", waits for its KUBECONFIG, and returns the command and the cluster's
// folder.
func upAndWait(t *testing.T, binary string) (*exec.Cmd, string) {
	t.Helper()
	stdout := &lineWatcher{lines: make(chan string, 10)}
	cmd := exec.CommandContext(t.Context(), binary, "up", "--crds=none")
	cmd.Stdout, cmd.Stderr = stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-stdout.lines:
		kubeconfig, ok := strings.CutPrefix(line, "export KUBECONFIG=")
		if !ok {
			t.Fatalf("the first line is %q", line)
		}
		return cmd, filepath.Dir(kubeconfig)
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	return nil, ""
}

func TestKilledCommandLeavesNoProcess(t *testing.T) {
	cmd, dir := upAndWait(t, buildCLI(t))
	defer os.RemoveAll(dir) // a killed process cannot remove it
	pids := processesIn(t, dir)
	if len(pids) != 5 {
		t.Errorf("%d processes, want 5", len(pids))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the children's end", func() error { return gone(pids) })
}

func TestInterruptedCommandCleansUp(t *testing.T) {
	cmd, dir := upAndWait(t, buildCLI(t))
	pids := processesIn(t, dir)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(gone(pids), noFolder(dir)); err != nil {
		t.Error(err)
	}
}

// PATH is empty: when everything is built, the command runs only the cluster's own kubectl.
func TestCommandRunsInTheCluster(t *testing.T) {
	run := func(args ...string) (stdout string, exit int) {
		cmd := exec.CommandContext(t.Context(), buildCLI(t), append([]string{"up", "--api-only", "--crds=none", "--"}, args...)...)
		cmd.Env = append(os.Environ(), "PATH=")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		err := cmd.Run()
		var exitError *exec.ExitError
		if err != nil && !errors.As(err, &exitError) {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
	if out, exit := run("kubectl", "get", "namespaces", "-o=name"); exit != 0 || !strings.Contains(out, "namespace/default") {
		t.Errorf("exit %d: %s", exit, out)
	}
	if out, exit := run("/bin/sh", "-c", `echo "$KUBECONFIG $KUBECTL"; exit 7`); exit != 7 || !strings.Contains(out, "admin.kubeconfig") {
		t.Errorf("exit %d: %s", exit, out)
	}
	if _, exit := run("/bin/sh", "-c", `kill -KILL $$`); exit != 128+int(syscall.SIGKILL) {
		t.Errorf("exit %d", exit)
	}
}

func TestCommandPrintsItsUsage(t *testing.T) {
	binary := buildCLI(t)
	for _, args := range [][]string{nil, {"help"}, {"up", "--help"}} {
		out, err := exec.CommandContext(t.Context(), binary, args...).Output()
		if err != nil || !strings.Contains(string(out), "cluster up [FLAGS]") {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
	for _, args := range [][]string{{"dance"}, {"up", "--no-such-flag"}, {"up", "true"}} {
		out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "cluster help") {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
}
