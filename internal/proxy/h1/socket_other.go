//go:build unix && !linux

package h1

import "syscall"

func receive(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

func peek(fd uintptr) error {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err
}

func send(fd uintptr, pieces [][]byte) (int, error) { return syscall.Write(int(fd), pieces[0]) }
