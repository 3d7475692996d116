package h2

import (
	"net"
	"syscall"
)

const tcpUserTimeout = 18 // TCP_USER_TIMEOUT of tcp(7), which package syscall lacks

// boundUnacknowledged ends a connection whose bytes nobody acknowledges. Without it, a request that is under way
// to a host that has vanished is sent again for a quarter of an hour.
func boundUnacknowledged(conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(vanished.Milliseconds()))
	})
}
