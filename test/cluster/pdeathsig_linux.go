// Linux can end a child with its parent, however the parent ends; that is what keeps a killed test
// from leaving an API server behind.

package cluster

import "syscall"

// childAttributes puts a child in a process group of its own, where a Ctrl-C meant for the parent
// does not reach it, and has the kernel kill it when the thread that started it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// foregroundAttributes leaves a child in our process group. It gets the gentler signal when we are
// killed, since it may have children of its own to end.
func foregroundAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
