// Both directions of the bytes of a stream, for a client's and for a backend's.

package streams

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// flow is a stream as its connection knows it.
type flow struct {
	conn *conn
	id   uint32
	// call is set for a stream to a backend.
	call    *call
	headers [maxDirect / maxFrame][frameHeader]byte
	// mostWait is how long the peer may leave no room for a body; 0 for ever.
	mostWait time.Duration
	// taken are the pieces that next has returned; whole keeps all of them until the exchange ends.
	taken [][]byte
	whole bool
	gone  atomic.Bool

	// conn.mu guards the rest. in[inAt:] is the part of the body that was not read, unread how many bytes of it the
	// peer may still send, owed those of which it is to be told, and left how many follow by its Content-Length, -1
	// without one.
	in           [][]byte
	inAt         int
	unread, owed int64
	left         int64
	trailers     []message.Field
	// window is how many bytes the peer accepts. queued is set while the stream waits for the connection's window.
	window                    int64
	prepaid                   int64 // of the connection's window
	queued                    bool
	remoteClosed, localClosed bool
	// lost is set when the peer or an error has ended the stream, malformed when that was its message's.
	lost, interrupted bool
	malformed         error
	// cut is set when the connection has ended, unprocessed when the peer has certainly not processed the stream, and
	// code the peer's code of RST_STREAM.
	cut, unprocessed   bool
	code               code
	readable, writable chan struct{}
}

func newFlow() flow { return flow{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)} }

// reset prepares the flow for its next exchange.
func (s *flow) reset(c *conn, id uint32) {
	s.conn, s.id, s.whole, s.mostWait, s.left = c, id, false, 0, -1
	s.unread, s.owed, s.trailers = c.streamWindow, 0, nil
	s.remoteClosed, s.localClosed, s.lost, s.interrupted, s.malformed = false, false, false, false, nil
	s.cut, s.unprocessed, s.code = false, false, codeNo
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

// lose tells the exchange that its client is gone. conn.mu is held.
func (s *flow) lose() {
	s.lost = true
	s.gone.Store(true)
	signal(s.readable)
	signal(s.writable)
	if s.call != nil {
		s.call.lostAnswer()
	}
}

// mostHeld is from how many bytes on the buffers of a connection are small, so that many bodies of a few bytes cannot
// hold much memory.
const mostHeld = 2 << 20

// append adds bytes to the body that was not read. conn.mu is held.
func (s *flow) append(p []byte) {
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
func (s *flow) recycle() {
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

// free lets go of the rest of the body. conn.mu is held.
func (s *flow) free() {
	for ; s.inAt < len(s.in); s.inAt++ {
		s.conn.giveBack(len(s.in[s.inAt]))
		s.taken = append(s.taken, s.in[s.inAt])
	}
	s.recycle()
	if s.queued {
		s.conn.forget(s)
	}
	s.conn.window += s.prepaid
	s.prepaid = 0
}

var (
	errInterrupted = errors.New("the body is not needed any more")
	errCut         = errors.New("the backend has ended the stream")
)

// next returns the next piece, nothing if none has arrived. conn.mu is held.
func (s *flow) next() ([]byte, error) {
	switch {
	case s.interrupted:
		return nil, errInterrupted
	case s.malformed != nil:
		return nil, s.malformed
	case s.lost && s.call == nil:
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
	case s.lost: // only now: the part of an answer that has arrived is passed on
		return nil, errCut
	}
	return nil, nil
}

// giveBack lets the client send n more bytes. conn.mu is held.
func (s *flow) giveBack(n int) {
	if s.owed += int64(n); s.owed >= s.conn.streamWindow/4 && !s.remoteClosed && !s.lost {
		s.conn.out = appendWindow(s.conn.out, s.id, int(s.owed))
		s.unread += s.owed
		s.owed = 0
	}
}

// wait waits for a signal, for ever if the time is 0, and reports whether there was one.
func wait(c chan struct{}, most time.Duration) bool {
	if most == 0 {
		<-c
		return true
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}
