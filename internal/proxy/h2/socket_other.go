//go:build !linux

package h2

import "net"

// boundUnacknowledged leaves the bound to the system.
func boundUnacknowledged(*net.TCPConn) {}
