// Linux can end a child with its parent, however the parent ends; so a killed test leaves no API server
// behind.

package cluster

import "syscall"

// childAttributes puts a child in a process group of its own, so that a Ctrl-C for the parent does not reach
// it, and has the kernel kill it when the thread that started it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// foregroundAttributes leaves a child in this process's group. It gets the gentler signal when this process
// is killed, since it may have children of its own to end.
func foregroundAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
