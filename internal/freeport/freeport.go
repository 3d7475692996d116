// Package freeport finds addresses for the servers of tests. A listener on port 0 gives such an address too, but
// the kernel may give it away again between the listener's end and the server's start: to a second caller, or to
// an outgoing connection.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Kernels take the ports of outgoing connections from 32768 on, as a rule.
const lowest, count, tries = 20000, 12000, 100

// last makes processes that run at the same time begin at different ports.
var last atomic.Int64

func init() { last.Store(rand.Int64N(count)) } //nolint:gosec // a port is no secret

// Address returns an address on 127.0.0.1 where no server listens; one process gets 12,000 different ones before
// one comes again. The error is that of the last attempt to listen, after 100 ports that were taken.
func Address() (*net.TCPAddr, error) {
	var taken error
	for range tries {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: lowest + int(last.Add(1)%count)})
		if err == nil {
			return l.Addr().(*net.TCPAddr), l.Close()
		}
		taken = err
	}
	return nil, fmt.Errorf("no free port: %w", taken)
}
