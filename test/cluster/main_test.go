// The parts that the tests share: one whole cluster, and functions that wait and inspect processes.

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shared is a whole cluster for the tests that do not end it. Each uses a namespace of its own.
var shared *Cluster

func TestMain(m *testing.M) {
	code, err := withSharedCluster(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withSharedCluster(run func() int) (code int, err error) {
	user := User{Name: "jane", Groups: []string{"readers"}}
	shared, err = Start(context.Background(), Options{Users: []User{user}, Progress: os.Stderr}) //nolint:forbidigo // TestMain has no test context
	if err != nil {
		return 1, err
	}
	defer func() { err = shared.Stop() }()
	return run(), nil
}

// eventually polls check and fails the test when it does not succeed within a minute.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := poll(ctx, check); err != nil {
		shared.Logs(t.Output())
		t.Fatalf("%s: %v", what, err)
	}
}

// kubectl runs kubectl in the shared cluster and fails the test if it fails.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := shared.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// namespace makes a namespace of the test's own, with its ServiceAccount, and deletes it at the end.
func namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(t.Name())
	kubectl(t, "", "create", "namespace", name)
	t.Cleanup(func() {
		if _, err := shared.Kubectl(context.WithoutCancel(t.Context()), "", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "ServiceAccount default", func() error {
		_, err := shared.Kubectl(t.Context(), "", "-n", name, "get", "serviceaccount", "default")
		return err
	})
	return name
}

// processesIn returns the pids of the processes whose working directory is dir, as it is for every component
// of a cluster in the cluster's folder.
func processesIn(t *testing.T, dir string) []int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && cwd == dir {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone succeeds when none of the processes is alive. A process that has ended but was not waited for counts
// as gone: which process waits for orphans is outside of the package's control.
func gone(pids []int) error {
	for _, pid := range pids {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && !strings.Contains(string(status), "State:\tZ") {
			return fmt.Errorf("process %d is alive:\n%s", pid, status)
		}
	}
	return nil
}

// mustStart starts a cluster of the test's own and ends it with the test.
func mustStart(t *testing.T, options Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// noFolder succeeds when nothing exists at dir.
func noFolder(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is still there", dir), err)
	}
	return nil
}

var _ io.Writer = (*lineWatcher)(nil)

// lineWatcher is a writer that sends each line to a channel.
type lineWatcher struct {
	rest  string
	lines chan string
}

func (w *lineWatcher) Write(p []byte) (int, error) {
	w.rest += string(p)
	for {
		line, rest, found := strings.Cut(w.rest, "\n")
		if !found {
			return len(p), nil
		}
		w.rest = rest
		w.lines <- line
	}
}
