package config

import (
	"errors"
	"os"
	"syscall"
)

const setLease = 1024 // F_SETLEASE of fcntl(2), which package syscall lacks

// openForWriting reports whether somebody has a file open for writing: then the kernel grants no lease for reading
// it. It is false for files of other users, for which this process gets no leases.
func openForWriting(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), setLease, syscall.F_RDLCK)
	if errno == 0 {
		_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), setLease, syscall.F_UNLCK)
	}
	return errors.Is(errno, syscall.EAGAIN)
}
