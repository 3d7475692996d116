// The processes of the cluster: started from one thread, with one log file each, and ended by pid.

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopBound is how long a component may take to end after SIGTERM before it gets SIGKILL.
const stopBound = 5 * time.Second

// process is one running component.
type process struct {
	name string
	log  string // path of its log file
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; valid once done is closed
}

// spawnThread starts children on one thread that lives as long as this process. The kernel sends a child its
// death signal when the *thread* that forked it ends, and the Go runtime may end threads at any time.
var spawnThread = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Run runs a command of the caller in the foreground, in this process's group so that it has the terminal,
// and returns its error. If this process is killed, the command gets SIGTERM (on Linux).
func Run(cmd *exec.Cmd) error {
	cmd.SysProcAttr = foregroundAttributes()
	if err := spawn(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// spawn starts cmd as a child that ends with this process, unless its attributes say otherwise.
func spawn(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = childAttributes()
	}
	result := make(chan error)
	spawnThread() <- func() { result <- cmd.Start() }
	return <-result
}

// startProcess starts binary with args in folder dir and appends its output to the log file. The environment
// is minimal: neither a proxy nor a KUBECONFIG of the user may reach a component.
func startProcess(name, binary, dir, log string, args []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: name, log: log, done: make(chan struct{})}
	p.cmd = exec.Command(binary, args...) //nolint:noctx // stop ends it, in the cluster's own order
	p.cmd.Dir = dir
	p.cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := spawn(p.cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends the process and returns when it is gone: SIGTERM, and SIGKILL after bound.
func (p *process) stop(bound time.Duration) {
	// A stopped process (PauseEtcd) sees SIGTERM only once it continues.
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT)
	select {
	case <-p.done:
	case <-time.After(bound):
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// signal does nothing to a process that was already waited for, because its pid may belong to another process
// by now.
func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
}

// failure returns the error of a process that ended but should still run, with the end of its log.
func (p *process) failure() error {
	return errors.Join(fmt.Errorf("%s ended by itself; its log ends:\n%s", p.name, p.tail()), p.err)
}

// tail returns the end of the process's log, at most 20 lines and 8 KiB.
func (p *process) tail() string {
	const maxLines, maxBytes = 20, 8 << 10
	text, err := os.ReadFile(p.log)
	if errors.Is(err, fs.ErrNotExist) || len(text) == 0 {
		return "(empty)"
	}
	if len(text) > maxBytes {
		text = text[len(text)-maxBytes:]
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) > maxLines {
		lines = lines[len(lines)-maxLines:]
	}
	return strings.Join(lines, "\n")
}
