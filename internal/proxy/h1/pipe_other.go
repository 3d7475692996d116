//go:build unix && !linux

package h1

import "syscall"

// pipe is Linux's; elsewhere there is none to be had.
type pipe struct{ held int }

func takePipe() *pipe { return nil }

func (*pipe) put() {}

func (*pipe) fill(syscall.RawConn, int64) error { return syscall.ENOSYS }

func (*pipe) empty(*writer) error { return syscall.ENOSYS }
