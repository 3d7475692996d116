// What the server logs: conditions that last, at a pace that no client can raise.

package proxy

import (
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

// logPause is the least time between two lines about the same condition.
const logPause = 10 * time.Second

// news counts what happens between two log lines of the same key. The keys are fixed, so that there are few.
type news struct {
	mu    sync.Mutex
	lines map[string]*newsLine
}

type newsLine struct {
	last  time.Time
	count int
}

// due counts an event, and returns how many there were since the last line if it is time for another one, else 0.
func (n *news) due(key string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lines == nil {
		n.lines = map[string]*newsLine{}
	}
	line := n.lines[key]
	if line == nil {
		line = &newsLine{}
		n.lines[key] = line
	}
	line.count++
	now := time.Now()
	if now.Sub(line.last) < logPause {
		return 0
	}
	count, line.count, line.last = line.count, 0, now
	return count
}

// failed logs answers of the proxy's own that tell of a fault behind it.
func (s *Server) failed(x *core.Exchange) {
	status, reason, backend := x.Ended()
	if count := s.news.due(string(reason)); count > 0 {
		s.options.Log(nil, "Requests get errors of the proxy's own", "reason", string(reason), "status", status,
			"listener", x.Listener, "backend", backend, "since the last line", count)
	}
}

// unsecured logs a connection to an endpoint that could not be secured.
func (s *Server) unsecured(address string, err error) {
	if count := s.news.due("tls"); count > 0 {
		s.options.Log(err, "Connections to backends cannot be secured", "endpoint", address, "since the last line", count)
	}
}

// notAccepted counts and logs a connection that could not be accepted.
func (s *Server) notAccepted(address string, err error) {
	s.starved.Store(time.Now().UnixNano())
	s.acceptFailures.Inc()
	if count := s.news.due("accept"); count > 0 {
		s.options.Log(err, "Connections cannot be accepted; clients wait", "address", address, "since the last line", count)
	}
}

// notIntroduced counts and logs a connection without the header of PROXY protocol that it should have.
func (s *Server) notIntroduced(listener, peer string, err error) {
	s.unintroduced.Inc()
	if count := s.news.due("proxy protocol"); count > 0 {
		s.options.Log(err, "Connections are closed", "listener", listener, "peer", peer, "since the last line", count)
	}
}

// full logs that all slots are taken.
func (s *Server) full() {
	if count := s.news.due("full"); count > 0 {
		s.options.Log(nil, "All connections are in use; further clients wait", "connections", s.options.Connections)
	}
}

// starvedFor is how long a server is unready after a connection could not be accepted.
const starvedFor = 5 * time.Second

// accepts reports whether the server could accept all connections of late.
func (s *Server) accepts() bool {
	return time.Since(time.Unix(0, s.starved.Load())) > starvedFor
}
