// Package freeport finds addresses for the servers of tests. A listener on port 0 gives such an address too, but
// the kernel may give it away again between the listener's end and the server's start: to a second caller, or to
// an outgoing connection.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Kernels take the ports of outgoing connections from 32768 on, as a rule.
const lowest, count, tries = 20000, 12000, 100

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Address returns an address on 127.0.0.1 where no server listens. It returns no address twice in one process. The
// error is that of the last attempt to listen, after 100 ports that were taken.
func Address() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	var taken error
	for range tries {
		port := lowest + rand.IntN(count) //nolint:gosec // a port is no secret
		if given[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			taken = err
			continue
		}
		given[port] = true
		return l.Addr().String(), l.Close()
	}
	return "", fmt.Errorf("no free port: %w", taken)
}
