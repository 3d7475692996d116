//go:build unix && !linux

// System calls on sockets for systems other than Linux, where package syscall is good enough.

package h1

import (
	"syscall"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
)

func receive(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

func peek(fd uintptr) error {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err
}

// closedByPeer does not notice an end behind bytes that were not read.
func closedByPeer(fd uintptr) bool {
	var one [1]byte
	n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n == 0 && err == nil
}

func discard(fd uintptr, n int) (int, error) {
	scratch := buffer.Large()
	defer buffer.Recycle(scratch)
	return syscall.Read(int(fd), scratch[:min(n, len(scratch))])
}

func send(fd uintptr, pieces [][]byte) (int, error) { return syscall.Write(int(fd), pieces[0]) }
