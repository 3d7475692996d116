// Builds the components once: they are the real programs, come from the Go module proxy like any other
// dependency, and take minutes to compile, so the binaries are kept.

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// heartbeat is the interval at which a long build reports that it is still running.
const heartbeat = 10 * time.Second

// component is one binary of the cluster.
type component struct {
	name   string
	folder string                      // below components/, the module that pins its version
	module string                      // the module whose version is the component's
	pkg    string                      // the main package
	stamp  func(version string) string // linker flags that set the binary's version; may be nil
}

var components = []component{
	{"etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", nil},
	{"kube-apiserver", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", stampKubernetes},
	{"kubectl", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubectl", stampKubernetes},
	{"kube-controller-manager", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", stampKubernetes},
	{"kube-scheduler", "kubernetes", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", stampKubernetes},
	{"kwok", "kwok", "sigs.k8s.io/kwok", "sigs.k8s.io/kwok/cmd/kwok", nil},
}

// nodeComponents are the components that only a real node needs (Options.RealNode).
var nodeComponents = []component{
	{"kubelet", "node", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kubelet", stampKubernetes},
	{"kube-proxy", "node", "k8s.io/kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", stampKubernetes},
	{"pause", "node", "k8s.io/kubernetes", "./pause", nil},
	{"coredns", "coredns", "github.com/coredns/coredns", ".", nil},
}

// stampKubernetes sets the version that /version returns; clients complain about an unstamped v0.0.0.
func stampKubernetes(version string) string {
	part := strings.Split(strings.TrimPrefix(version, "v"), ".")
	const in = "-X k8s.io/component-base/version."
	return fmt.Sprintf("%sgitVersion=%s %sgitMajor=%s %sgitMinor=%s", in, version, in, part[0], in, part[1])
}

// Build returns the path of each named component (all but the real node's if none is named), and builds those
// that are not yet kept in bin/cluster (see BinEnv). Building everything takes several minutes; a progress
// line is written every ten seconds, unless progress is nil. When nothing has to be built, no go command
// runs. It is safe to call from several processes at once.
func Build(ctx context.Context, progress io.Writer, names ...string) (map[string]string, error) {
	source, cache, err := folders()
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for _, name := range orAll(names) {
		c, err := componentNamed(name)
		if err != nil {
			return nil, err
		}
		if paths[name], err = c.build(ctx, source, cache, progress); err != nil {
			return nil, fmt.Errorf("build %s: %w", name, err)
		}
	}
	return paths, nil
}

func orAll(names []string) []string {
	if len(names) > 0 {
		return names
	}
	for _, c := range components {
		names = append(names, c.name)
	}
	return names
}

func componentNamed(name string) (component, error) {
	for _, c := range slices.Concat(components, nodeComponents) {
		if c.name == name {
			return c, nil
		}
	}
	return component{}, fmt.Errorf("no component is called %q", name)
}

// build returns the path of the kept binary, and builds it first if it does not exist.
func (c component) build(ctx context.Context, source, cache string, progress io.Writer) (string, error) {
	dir := filepath.Join(source, "components", c.folder)
	recipe := fmt.Sprint(c.pkg, runtime.GOOS, runtime.GOARCH)
	key, version, err := cacheKey(dir, c.name, c.module, recipe)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, key)
	return binary, once(ctx, binary, progress, func() error {
		ldflags := "-s -w"
		if c.stamp != nil {
			ldflags += " " + c.stamp(version)
		}
		// The go command writes to a temporary name; only a complete binary gets the final one.
		args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", binary + ".tmp", c.pkg}
		if _, err := goCommand(ctx, dir, c.name+" "+version, progress, args...); err != nil {
			return err
		}
		return os.Rename(binary+".tmp", binary)
	})
}

// once calls do unless path exists. A file lock beside it keeps two processes, such as the tests of two
// packages, from doing the same work.
func once(ctx context.Context, path string, progress io.Writer, do func() error) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(path), ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close() // closing the file unlocks it
	stop := beat(progress, filepath.Base(path)+": waiting for another process that builds")
	err = poll(ctx, func() error { return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	stop()
	if err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); err == nil {
		return nil // the other process has done it
	}
	return do()
}

// goCommand runs the go command in a component's module and returns its stdout.
func goCommand(ctx context.Context, dir, what string, progress io.Writer, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// Neither a workspace nor a C compiler may change the result.
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// The compilers that the go command starts are in its process group: end them with it.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

	start := time.Now()
	say(progress, "%s: go %s …", what, args[0])
	stop := beat(progress, what+": still at it")
	defer stop()
	if err := spawn(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, lastBytes(stderr.String(), 4<<10))
	}
	say(progress, "%s: done in %s", what, time.Since(start).Round(time.Second/10))
	return stdout.Bytes(), nil
}

// beat reports the text what and the elapsed time at each heartbeat, until the returned function is called.
func beat(progress io.Writer, what string) (stop func()) {
	start, ticker, done := time.Now(), time.NewTicker(heartbeat), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ticker.C:
				say(progress, "%s, %s", what, time.Since(start).Round(time.Second))
			case <-done:
				return
			}
		}
	}()
	return func() { ticker.Stop(); close(done); <-ended }
}

// saying keeps lines whole, so that callers may pass a writer that is not safe for several goroutines.
var saying sync.Mutex

// say prints a line of progress; it prints nothing if the writer is nil.
func say(progress io.Writer, format string, args ...any) {
	if progress != nil {
		saying.Lock()
		defer saying.Unlock()
		fmt.Fprintf(progress, "cluster: "+format+"\n", args...)
	}
}

func lastBytes(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// poll calls check ten times a second until it returns nil or ctx ends; the error then contains both errors.
func poll(ctx context.Context, check func() error) error {
	tick := time.NewTicker(time.Second / 10)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
