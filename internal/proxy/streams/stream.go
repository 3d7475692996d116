// A stream: one exchange, and the goroutine in which it runs. output.go has the answer's way to the client.

package streams

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// stream is an exchange. It implements core.Downstream.
type stream struct {
	// begin starts the next exchange, or ends the goroutine if it is closed.
	begin    chan struct{}
	parkedAt time.Time

	conn *conn
	id   uint32
	x    core.Exchange
	// status refuses the request, if it is not 0.
	status int
	// patient lets the client be silent for as long as it likes: a call of gRPC is a conversation.
	patient bool
	// out holds the head of the answer, without its frames, and after headLen bytes of its body.
	out     []byte
	headLen int
	// tail is the block of the answer's trailers. ending is set while it waits for the end of the exchange.
	tail    []byte
	ending  bool
	headers [maxDirect / maxFrame][frameHeader]byte
	// taken are the pieces that Next has returned; whole keeps all of them until the exchange ends.
	taken [][]byte
	whole bool
	gone  atomic.Bool

	// conn.mu guards the rest. in[inAt:] is the part of the request's body that was not read, unread how many bytes of
	// it the client may still send, owed those of which it is to be told, and left how many follow by its
	// Content-Length, -1 without one.
	in           [][]byte
	inAt         int
	unread, owed int64
	left         int64
	trailers     []message.Field
	// window is how many bytes the client accepts. queued is set while the stream waits for the connection's window.
	window                    int64
	queued                    bool
	remoteClosed, localClosed bool
	// lost is set when the client or an error has ended the stream, malformed when that was its request's.
	lost, interrupted  bool
	malformed          error
	readable, writable chan struct{}
}

func newStream() *stream {
	s := &stream{begin: make(chan struct{}, 1), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
	s.x.Downstream = s
	s.x.Request.Fields = make([]message.Field, 0, 16)
	return s
}

// reset prepares the stream for its next exchange.
func (s *stream) reset(c *conn, id uint32) {
	r := &s.x.Request
	*r = message.Request{Fields: r.Fields[:0]}
	s.x.Listener, s.x.Remote = c.server.listener, c.remote
	s.conn, s.id, s.headLen, s.whole, s.ending, s.tail = c, id, 0, false, false, s.tail[:0]
	s.unread, s.owed, s.trailers = streamWindow, 0, nil
	s.remoteClosed, s.localClosed, s.lost, s.interrupted, s.malformed = false, false, false, false, nil
	s.gone.Store(false)
	drain(s.readable)
	drain(s.writable)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
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
	for ; s.inAt < len(s.in); s.inAt++ {
		c.giveBack(len(s.in[s.inAt]))
		s.taken = append(s.taken, s.in[s.inAt])
	}
	s.recycle()
	if s.queued {
		c.forget(s)
	}
	if !s.lost && c.streams[s.id] == s {
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

// lose tells the exchange that its client is gone. conn.mu is held.
func (s *stream) lose() {
	s.lost = true
	s.gone.Store(true)
	signal(s.readable)
	signal(s.writable)
}

// mostHeld is from how many bytes on the buffers of a connection are small, so that many bodies of a few bytes cannot
// hold much memory.
const mostHeld = 2 << 20

// append adds bytes to the body that was not read. conn.mu is held.
func (s *stream) append(p []byte) {
	c := s.conn
	for len(p) > 0 {
		if n := len(s.in); n > s.inAt {
			last := s.in[n-1]
			if m := min(cap(last)-len(last), len(p)); m > 0 {
				s.in[n-1] = append(last, p[:m]...)
				p = p[m:]
				continue
			}
		}
		var next []byte
		if len(p) > buffer.SmallSize && c.held < mostHeld {
			next = buffer.Large()
		} else {
			next = buffer.Small()
		}
		c.held += cap(next)
		s.in = append(s.in, next[:0])
	}
}

// recycle returns the pieces that were read. conn.mu is held.
func (s *stream) recycle() {
	for i, p := range s.taken {
		s.conn.held -= cap(p)
		buffer.Recycle(p)
		s.taken[i] = nil
	}
	s.taken = s.taken[:0]
	if s.inAt == len(s.in) {
		clear(s.in)
		s.in, s.inAt = s.in[:0], 0
	}
}

var errInterrupted = errors.New("the body is not needed any more")

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
		if !s.wait(s.readable, s.patient) {
			return nil, os.ErrDeadlineExceeded
		}
		c.mu.Lock()
	}
}

// next returns the next piece, nothing if none has arrived. conn.mu is held.
func (s *stream) next() ([]byte, error) {
	switch {
	case s.interrupted:
		return nil, errInterrupted
	case s.malformed != nil:
		return nil, s.malformed
	case s.lost:
		return nil, errGone
	case s.inAt < len(s.in):
		p := s.in[s.inAt]
		s.inAt++
		s.taken = append(s.taken, p)
		s.conn.giveBack(len(p))
		s.giveBack(len(p))
		return p, nil
	case s.remoteClosed:
		return nil, io.EOF
	}
	return nil, nil
}

// giveBack lets the client send n more bytes. conn.mu is held.
func (s *stream) giveBack(n int) {
	if s.owed += int64(n); s.owed >= streamWindow/4 && !s.remoteClosed && !s.lost {
		s.conn.out = appendWindow(s.conn.out, s.id, int(s.owed))
		s.unread += s.owed
		s.owed = 0
	}
}

// wait waits for a signal, for as long as a body may stand still unless it is patient, and reports whether there was
// one.
func (s *stream) wait(c chan struct{}, patient bool) bool {
	if patient {
		<-c
		return true
	}
	timer := time.NewTimer(s.conn.server.limits.BodyTimeout)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// Ready implements core.Body.
func (s *stream) Ready() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.inAt < len(s.in) || s.remoteClosed || s.lost || s.interrupted
}

// Whole implements core.RequestBody.
func (s *stream) Whole() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.whole = s.whole || s.remoteClosed
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
