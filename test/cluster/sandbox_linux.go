// A real node changes the machine that it runs on: interfaces, routes, packet filters, mounts, processes that
// outlive their parents. A sandbox keeps all of that in namespaces that the kernel removes with their first
// process, however that process ends.

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
)

// Sandbox runs this program again with the same arguments and terminal, as root in network, process, mount
// and IPC namespaces of its own, and returns its exit code, or 130 if a signal ended it. The network has no
// way out: everything that must be downloaded has to be there before. When the program ends, or a signal ends
// this process, every process, mount and interface in the sandbox is gone, and so are its control groups and
// its temporary files.
func Sandbox() (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("a real node needs root")
	}
	dir, err := os.MkdirTemp("", "mirrorgate-sandbox-")
	if err != nil {
		return 1, err
	}
	name := filepath.Base(dir)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // a signal ends it, see below
	cmd.Env = append(os.Environ(), SandboxEnv+"="+name, "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL, // in this process's group, so that it has the terminal
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		// The Go runtime makes these mounts private, too.
		Unshareflags: syscall.CLONE_NEWNS,
	}
	if err := spawn(cmd); err != nil {
		return 1, errors.Join(fmt.Errorf("namespaces of its own: %w", err), os.RemoveAll(dir))
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-signals:
		_ = cmd.Process.Kill() // the kernel kills the other processes before this one is gone
		err = <-done
		code = 130
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code, err = max(exit.ExitCode(), code, 1), nil // the program has printed the reason
	} else if err != nil {
		code = 1
	}
	return code, errors.Join(err, removeControlGroups(name), os.RemoveAll(dir))
}

// controlGroups returns the folders of the node's group: one, or in version 1 one for each controller.
func controlGroups(name string) ([]string, error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{filepath.Join(root, name)}, nil
	}
	hierarchies, err := os.ReadDir(root)
	var groups []string
	for _, h := range hierarchies {
		if h.IsDir() { // the others are aliases
			groups = append(groups, filepath.Join(root, h.Name(), name))
		}
	}
	return groups, err
}

// removeControlGroups removes the groups of the node's containers. The kernel keeps a group until it is
// removed explicitly, and refuses to remove one that is in use.
func removeControlGroups(name string) error {
	groups, err := controlGroups(name)
	for _, group := range groups {
		var dirs []string
		walkErr := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if !errors.Is(walkErr, fs.ErrNotExist) {
			err = errors.Join(err, walkErr)
		}
		for _, dir := range slices.Backward(dirs) { // children first
			err = errors.Join(err, os.Remove(dir))
		}
	}
	return err
}

// hiddenPaths are the folders in which the node's programs keep their state and sockets, some of them fixed
// in the programs: in the sandbox these folders are empty and separate from the machine's.
var hiddenPaths = []string{"/run", "/var/lib", "/var/log"}

// enterSandbox gives this process the mounts of a sandbox, and the node its control group.
func enterSandbox() error {
	if !InSandbox() || os.Getpid() != 1 {
		return errors.New("a real node needs namespaces of its own: call cluster.Sandbox first")
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, path := range hiddenPaths {
		if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount a tmpfs at %s: %w", path, err)
		}
	}
	groups, err := controlGroups(os.Getenv(SandboxEnv))
	for _, group := range groups {
		err = errors.Join(err, os.Mkdir(group, 0o755))
	}
	return err
}
