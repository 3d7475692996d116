//go:build unix && !linux

// Package socket has system calls on sockets. For systems other than Linux package syscall is good enough.
package socket

import (
	"syscall"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
)

// MaxPieces is how many slices may leave together.
const MaxPieces = 16

// Receive is read(2).
func Receive(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

// Peek reports whether there is something to read, as an error if not.
func Peek(fd uintptr) error {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err
}

// ClosedByPeer reports whether the peer has closed its sending half. It does not notice an end behind bytes that were not read.
func ClosedByPeer(fd uintptr) bool {
	var one [1]byte
	n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n == 0 && err == nil
}

// Discard reads and drops up to n bytes.
func Discard(fd uintptr, n int) (int, error) {
	scratch := buffer.Large()
	defer buffer.Recycle(scratch)
	return syscall.Read(int(fd), scratch[:min(n, len(scratch))])
}

// Send is write(2) of the first piece.
func Send(fd uintptr, pieces [][]byte) (int, error) { return syscall.Write(int(fd), pieces[0]) }
