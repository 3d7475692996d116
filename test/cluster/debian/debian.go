// Package debian installs the Debian packages that tests need. Suites that run at the same time take turns: apt-get
// fails at once where another process holds the lock of its lists.
package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lockFile is the lock between the processes of this user that call AptGet.
var lockFile = filepath.Join(os.TempDir(), fmt.Sprintf("mirrorgate-apt.%d.lock", os.Getuid()))

// Need installs the packages if path, a command's name or an absolute path, does not exist.
func Need(ctx context.Context, path string, packages ...string) error {
	var missing error
	if filepath.IsAbs(path) {
		_, missing = os.Stat(path)
	} else {
		_, missing = exec.LookPath(path)
	}
	if missing == nil {
		return nil
	}
	if err := Install(ctx, packages...); err != nil {
		return fmt.Errorf("%s is missing: %w", path, err)
	}
	return nil
}

// Install installs packages from lists that are fresh, and starts none of their services.
func Install(ctx context.Context, packages ...string) error {
	if err := AptGet(ctx, "update", "-q"); err != nil {
		return err
	}
	return AptGet(ctx, append([]string{"install", "-qy", "--no-install-recommends"}, packages...)...)
}

// AptGet runs apt-get once no other process does; its output is part of the error.
func AptGet(ctx context.Context, args ...string) error {
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=600"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// lock waits until no other process holds lockFile.
func lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("another process holds %s: %w", lockFile, ctx.Err())
		case <-time.After(time.Second / 4):
		}
	}
	return func() { file.Close() }, nil // closing the file unlocks it
}
