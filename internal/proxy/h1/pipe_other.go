//go:build unix && !linux

// Only Linux has splice(2): on other systems long bodies are copied through the proxy.

package h1

import "syscall"

// pipe is never made here.
type pipe struct{ held int }

func takePipe() *pipe { return nil }

func (*pipe) put() {}

func (*pipe) fill(syscall.RawConn, int64) error { return syscall.ENOSYS }

func (*pipe) empty(*writer) error { return syscall.ENOSYS }
