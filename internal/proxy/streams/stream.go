// A stream: one exchange, and the goroutine in which it runs. output.go has the answer's way to the client.

package streams

import (
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// stream is an exchange. It implements core.Downstream.
type stream struct {
	flow
	// begin starts the next exchange, or ends the goroutine if it is closed.
	begin    chan struct{}
	parkedAt time.Time

	x core.Exchange
	// status refuses the request, if it is not 0.
	status int
	// patient lets the client be silent for as long as it likes: a call of gRPC is a conversation.
	patient bool
	// out holds the head of the answer, without its frames, and after headLen bytes of its body.
	out     []byte
	headLen int
	// tail is the block of the answer's trailers. ending is set while it waits for the end of the exchange.
	tail   []byte
	ending bool
}

func newStream() *stream {
	s := &stream{begin: make(chan struct{}, 1), flow: newFlow()}
	s.x.Downstream = s
	s.x.Request.Fields = make([]message.Field, 0, 16)
	return s
}

// reset prepares the stream for its next exchange.
func (s *stream) reset(c *conn, id uint32) {
	r := &s.x.Request
	*r = message.Request{Fields: r.Fields[:0]}
	s.x.Listener, s.x.Remote = c.server.listener, c.remote
	s.headLen, s.ending, s.tail = 0, false, s.tail[:0]
	s.flow.reset(c, id)
	s.mostWait = c.limits.BodyTimeout
}

// run serves one exchange after the other.
func (s *stream) run() {
	for range s.begin {
		server := s.conn.server
		switch {
		case s.gone.Load(): // before anything was done for it
		case s.status != 0:
			server.core.Refuse(&s.x, s.status, strings.ToLower(http.StatusText(s.status)))
		default:
			server.core.Serve(&s.x)
		}
		s.end()
		server.idle.put(s)
		server.running.Done()
	}
}

// end ends the exchange.
func (s *stream) end() {
	c := s.conn
	if s.ending {
		_ = s.transmit(nil, true, s.tail)
	}
	c.mu.Lock()
	s.free()
	if !s.lost && c.streams[s.id] == &s.flow {
		delete(c.streams, s.id)
		switch {
		case !s.localClosed:
			c.resetStream(s.id, nil, codeInternal)
		case !s.remoteClosed:
			c.resetStream(s.id, nil, codeNo) // RFC 9113 section 8.1: the answer does not need the rest of the request
		}
	}
	if c.running--; c.running == 0 {
		c.emptySince = time.Now()
	}
	c.wakeNext()
	c.endIfDone()
	c.post()
	s.clear()
}

// clear lets go of everything that belongs to an exchange.
func (s *stream) clear() {
	buffer.Recycle(s.out)
	r := &s.x.Request
	clear(r.Fields)
	*r = message.Request{Fields: r.Fields[:0]}
	s.conn, s.out, s.trailers = nil, nil, nil
}

// Next implements core.Body.
func (s *stream) Next() ([]byte, error) {
	c := s.conn
	c.mu.Lock()
	if !s.whole {
		s.recycle()
	}
	for {
		p, err := s.next()
		if p != nil || err != nil {
			if len(c.out) > 0 {
				c.post()
			} else {
				c.mu.Unlock()
			}
			return p, err
		}
		c.mu.Unlock()
		mostWait := s.mostWait
		if s.patient {
			mostWait = 0
		}
		if !wait(s.readable, mostWait) {
			return nil, os.ErrDeadlineExceeded
		}
		c.mu.Lock()
	}
}

// Ready implements core.Body.
func (s *stream) Ready() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.inAt < len(s.in) || s.remoteClosed || s.lost || s.interrupted
}

// Whole implements core.RequestBody. A body is whole only if it is in one piece: that is what a copy borrows.
func (s *stream) Whole() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.whole = s.whole || s.remoteClosed && len(s.in)-s.inAt <= 1 && len(s.taken) == 0
	return s.whole
}

// Trailers implements core.Body.
func (s *stream) Trailers() []message.Field { return s.trailers }

// Interrupt implements core.Downstream.
func (s *stream) Interrupt() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.interrupted = true
	signal(s.readable)
}

// Gone implements core.Downstream.
func (s *stream) Gone() bool { return s.gone.Load() }

// Tunnel implements core.Downstream. HTTP/2 has no upgrades, and CONNECT is refused.
func (s *stream) Tunnel(*message.Reply) (core.Tunnel, error) { return nil, http.ErrNotSupported }
