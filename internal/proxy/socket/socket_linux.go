// Package socket has system calls on sockets. The sockets do not block, so none of these calls waits. Package syscall's
// own functions tell the scheduler all the same; that keeps the runtime's monitor thread awake, which competes with the
// proxy for the core (docs/design/proxy.md).
package socket

import (
	"syscall"
	"unsafe"
)

// MaxPieces is how many slices may leave together.
const MaxPieces = 16

// Receive is recv(2). p must not be empty.
func Receive(fd uintptr, p []byte) (int, error) {
	return Result(syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)) //nolint:gosec // for a system call
}

// Peek is recv(2) of one byte that stays in the socket.
func Peek(fd uintptr) error {
	var one [1]byte
	_, err := Result(syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one)), 1, syscall.MSG_PEEK, 0, 0)) //nolint:gosec // for a system call
	return err
}

// Discard is recv(2) of up to n bytes without a buffer: with MSG_TRUNC Linux copies nothing (tcp(7)).
func Discard(fd uintptr, n int) (int, error) {
	return Result(syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, 0, uintptr(n), syscall.MSG_TRUNC, 0, 0))
}

// Send is send(2), or writev(2) for up to MaxPieces pieces. No piece may be empty.
func Send(fd uintptr, pieces [][]byte) (int, error) {
	if p := pieces[0]; len(pieces) == 1 {
		return Result(syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)) //nolint:gosec // for a system call
	}
	var vec [MaxPieces]syscall.Iovec
	for i, p := range pieces {
		vec[i].Base = &p[0]
		vec[i].SetLen(len(p))
	}
	return Result(syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vec)), uintptr(len(pieces)))) //nolint:gosec // for a system call
}

const closeWait = 8 // TCP_CLOSE_WAIT of linux/tcp.h

// ClosedByPeer reports whether the peer has closed its sending half, also behind bytes that were not read.
func ClosedByPeer(fd uintptr) bool {
	var state [1]byte // the first member of struct tcp_info
	size := uint32(len(state))
	_, err := Result(syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&state)), uintptr(unsafe.Pointer(&size)), 0)) //nolint:gosec // for a system call
	return err == nil && state[0] == closeWait
}

// Result returns what a raw system call returned.
func Result(n, _ uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
