//go:build unix && !linux

// Elsewhere than on Linux the cluster works too, but children outlive a parent that is SIGKILLed.

package cluster

import "syscall"

func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func foregroundAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
