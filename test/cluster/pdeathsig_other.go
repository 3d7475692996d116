//go:build unix && !linux

// The cluster also works on systems other than Linux, but there children outlive a parent that is SIGKILLed.

package cluster

import "syscall"

func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func foregroundAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
