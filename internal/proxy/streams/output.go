// Answers on their way to the client. A goroutine that has bytes appends them to those of the connection, lets other goroutines
// do the same, and writes all of them in one system call; long bodies are written from where they lie.

package streams

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/socket"
)

const (
	// maxDirect is the most bytes of a body in one system call, and directFrom how many are not copied.
	maxDirect  = 64 << 10
	directFrom = 8 << 10
	// mostOut is from how many unwritten bytes on answers wait, and mostControl how many there may be of frames that
	// the client's own frames cause.
	mostOut     = 64 << 10
	mostControl = 256 << 10
	// dataEarns is from how many bytes of a body on they earn two frames of credit, and not one.
	dataEarns = 256
)

// output is the sending half of a connection. conn.mu guards it.
type output struct {
	out, spare []byte
	// flushing is set while a goroutine writes, which it does until nothing is left; scheduled while one is about to.
	flushing, scheduled bool
	changed             sync.Cond
	// window is how many bytes the client accepts on the connection, initialWindow on a new stream. waiters are the
	// streams that wait for the connection's window, in order.
	window, initialWindow int64
	waiters               []*flow
	// tableChanged is set when the next header block must say that it uses no dynamic table.
	tableChanged bool
	// earned is credit that the reading goroutine has not taken yet.
	earned int
	// mostCalls is how many streams a backend accepts.
	mostCalls int
	// takenID is the last stream of which bytes may have left.
	takenID uint32
	// held is the capacity of all buffers of requests' bodies.
	held int

	// Only the goroutine that writes uses these.
	pieces   [][]byte
	store    [1 + 2*maxDirect/maxFrame][]byte
	wrote    bool
	writeErr error
	pushFunc func(fd uintptr) bool
	tryFunc  func(fd uintptr)
}

func (o *output) init(c *conn) {
	o.changed.L = &c.mu
	o.window, o.initialWindow = defaultWindow, defaultWindow
	o.pushFunc = o.push // made once, because a method value is an allocation
	o.tryFunc = func(fd uintptr) { o.push(fd) }
}

// push sends what the socket takes, and returns false if it takes nothing.
func (o *output) push(fd uintptr) bool {
	o.wrote = false
	for len(o.pieces) > 0 {
		n, err := socket.Send(fd, o.pieces)
		switch {
		case err == nil:
			o.wrote = true
			o.advance(n)
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return o.wrote
		default:
			o.writeErr = os.NewSyscallError("write", err)
			return true
		}
	}
	return true
}

// advance drops the first n bytes of pieces.
func (o *output) advance(n int) {
	for len(o.pieces) > 0 && n >= len(o.pieces[0]) {
		n -= len(o.pieces[0])
		o.pieces[0] = nil
		o.pieces = o.pieces[1:]
	}
	if len(o.pieces) > 0 {
		o.pieces[0] = o.pieces[0][n:]
	}
}

// try sends the loaded pieces as far as that needs no wait.
func (c *conn) try() error {
	if err := c.raw.Control(c.tryFunc); err != nil {
		return err
	}
	return c.writeErr
}

// write sends the loaded pieces. A client that takes no byte for too long has gone.
func (c *conn) write() error {
	limit := c.limits.BodyTimeout
	if c.raw == nil {
		_ = c.SetWriteDeadline(time.Now().Add(limit))
		for _, p := range c.pieces {
			if _, err := c.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
	if err := c.try(); err != nil {
		return err
	}
	for len(c.pieces) > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(limit))
		if err := c.raw.Write(c.pushFunc); err != nil {
			return err
		}
		if c.writeErr != nil {
			return c.writeErr
		}
	}
	return nil
}

// takeOut loads the connection's bytes as the first piece. c.mu is held.
func (c *conn) takeOut() (out []byte) {
	out, c.takenID = c.out, c.lastID
	c.out, c.spare = c.spare[:0], nil
	c.pieces = c.store[:0]
	if len(out) > 0 {
		c.pieces = append(c.pieces, out)
	}
	return out
}

// returnOut keeps the buffer of bytes that were written. c.mu is held.
func (c *conn) returnOut(out []byte) {
	clear(c.store[:])
	if len(c.out) == 0 && cap(c.out) > 0 {
		buffer.Recycle(c.out)
		c.out = nil
	}
	if cap(c.out) == 0 && cap(out) == buffer.SmallSize && c.running > 0 {
		c.out = out[:0]
		return
	}
	buffer.Recycle(out)
}

// writeOut writes until nothing is left. c.mu is held, except while it writes, and c.flushing is set.
func (c *conn) writeOut() {
	for len(c.out) > 0 && c.err == nil {
		out := c.takeOut()
		c.mu.Unlock()
		err := c.write()
		if err != nil {
			c.fail(err)
		}
		c.mu.Lock()
		c.returnOut(out)
		c.changed.Broadcast()
	}
}

// flush writes the connection's bytes, unless another goroutine does.
func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushing {
		return
	}
	c.flushing = true
	c.writeOut()
	c.flushing = false
	c.changed.Broadcast()
}

// post writes the connection's bytes once the goroutines that can run have appended theirs. It unlocks c.mu.
func (c *conn) post() {
	if len(c.out) == 0 || c.flushing || c.scheduled {
		c.mu.Unlock()
		return
	}
	c.scheduled = true
	c.mu.Unlock()
	runtime.Gosched()
	c.mu.Lock()
	c.scheduled = false
	c.mu.Unlock()
	c.flush()
}

// flushControl writes what the client's frames have caused, without waiting.
func (c *conn) flushControl() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) > mostControl {
		return errExcess
	}
	if len(c.out) == 0 || c.flushing || c.scheduled || c.err != nil {
		return nil
	}
	c.flushing = true
	if c.raw == nil {
		go c.finishFlush(nil)
		return nil
	}
	out := c.takeOut()
	err := c.try()
	if err != nil || len(c.pieces) > 0 {
		go c.finishFlush(out)
		return nil
	}
	c.returnOut(out)
	c.flushing = false
	return nil
}

// finishFlush writes the rest of the loaded pieces, and what follows.
func (c *conn) finishFlush(out []byte) {
	var err error
	if out != nil {
		if err = c.writeErr; err == nil {
			err = c.write()
		}
	}
	if err != nil {
		c.fail(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if out != nil {
		c.returnOut(out)
	}
	c.writeOut()
	c.flushing = false
	c.changed.Broadcast()
}

// room makes room for n bytes in out, so that most of them lie in a pooled buffer. c.mu is held.
func (c *conn) room(n int) {
	switch size := len(c.out) + n; {
	case size <= cap(c.out):
	case size <= buffer.SmallSize:
		smaller := buffer.Small()
		c.out = smaller[:copy(smaller, c.out)]
	case size <= buffer.LargeSize:
		bigger := buffer.Large()
		bigger = bigger[:copy(bigger, c.out)]
		buffer.Recycle(c.out)
		c.out = bigger
	}
}

// wakeNext wakes the stream that has waited longest for the connection's window. c.mu is held.
func (c *conn) wakeNext() {
	if c.window > 0 && len(c.waiters) > 0 {
		s := c.waiters[0]
		c.waiters[0] = nil
		c.waiters = c.waiters[1:]
		s.queued = false
		signal(s.writable)
	}
}

// forget takes a stream out of those that wait. c.mu is held.
func (c *conn) forget(s *flow) {
	s.queued = false
	for i, other := range c.waiters {
		if other == s {
			c.waiters = append(c.waiters[:i], c.waiters[i+1:]...)
			return
		}
	}
}

// appendHead appends a header block of a stream. c.mu is held.
func (c *conn) appendHead(id uint32, flags uint8, block []byte) {
	if c.tableChanged {
		c.tableChanged = false
		block = append([]byte{tableSize}, block...)
	}
	c.room(len(block) + frameHeader)
	c.out = appendBlock(c.out, id, flags, block)
	c.earned += 2
}

// dead returns why nothing can be sent any more. conn.mu is held.
func (s *flow) dead() error {
	switch {
	case s.lost, s.localClosed:
		return errGone
	case s.conn.err != nil:
		return s.conn.err
	}
	return nil
}

// reserve takes up to n bytes of both windows, and waits for the first of them. conn.mu is held.
func (s *flow) reserve(n int) (int, error) {
	c := s.conn
	for {
		if err := s.dead(); err != nil {
			return 0, err
		}
		if s.prepaid > 0 {
			n = int(min(int64(n), s.prepaid))
			s.window -= int64(n)
			s.prepaid -= int64(n)
			return n, nil
		}
		if s.window > 0 && c.window > 0 {
			n = int(min(int64(n), s.window, c.window))
			s.window -= int64(n)
			c.window -= int64(n)
			c.wakeNext()
			return n, nil
		}
		if s.window <= 0 {
			c.wakeNext() // it may have been this stream's turn
		} else if !s.queued {
			s.queued = true
			c.waiters = append(c.waiters, s)
		}
		c.post()
		ok := wait(s.writable, s.mostWait)
		c.mu.Lock()
		if !ok {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// transmit sends everything that is buffered, then p, and if last is set the end of the answer, with a block of trailers
// unless it is empty.
func (s *stream) transmit(p []byte, last bool, trailers []byte) error {
	c := s.conn
	c.mu.Lock()
	for len(c.out) > mostOut && s.dead() == nil {
		c.changed.Wait()
	}
	if err := s.dead(); err != nil {
		c.mu.Unlock()
		return err
	}
	ends := last && len(trailers) == 0
	pending := s.out[s.headLen:]
	if s.headLen > 0 {
		flags := uint8(0)
		if ends && len(pending)+len(p) == 0 {
			flags, s.localClosed = flagEndStream, true
		}
		c.appendHead(s.id, flags, s.out[:s.headLen])
	}
	err := s.transmitBody(pending, ends && len(p) == 0)
	if err == nil {
		err = s.transmitBody(p, ends)
	}
	s.out, s.headLen = s.out[:0], 0
	if err == nil && last && !s.localClosed {
		if len(trailers) > 0 {
			c.appendHead(s.id, flagEndStream, trailers)
		} else {
			c.out = appendFrame(c.out, 0, frame{frameData, flagEndStream, s.id})
		}
		s.localClosed = true
	}
	c.post()
	return err
}

// transmitBody sends a piece of the body, and ends the stream with it if ends is set. conn.mu is held.
func (s *flow) transmitBody(p []byte, ends bool) error {
	c := s.conn
	for len(p) > 0 {
		n, err := s.reserve(min(len(p), maxDirect))
		if err != nil {
			return err
		}
		piece := p[:n]
		p = p[n:]
		final := ends && len(p) == 0
		if n >= directFrom && c.raw != nil {
			err = s.direct(piece, final)
		} else {
			s.copied(piece, final)
		}
		if err != nil {
			return err
		}
		if final {
			s.localClosed = true
		}
	}
	return nil
}

// copied appends DATA to the connection's bytes. conn.mu is held.
func (s *flow) copied(p []byte, ends bool) {
	c := s.conn
	c.room(len(p) + frameHeader*(1+len(p)/maxFrame))
	if c.earned++; len(p) >= dataEarns {
		c.earned++
	}
	for len(p) > 0 {
		n := min(len(p), maxFrame)
		f := frame{kind: frameData, stream: s.id}
		if ends && n == len(p) {
			f.flags = flagEndStream
		}
		c.out = append(appendFrame(c.out, n, f), p[:n]...)
		p = p[n:]
	}
}

// direct writes DATA, after the connection's bytes, from where it lies. conn.mu is held, except while it writes.
func (s *flow) direct(p []byte, ends bool) error {
	c := s.conn
	for c.flushing && c.err == nil {
		c.changed.Wait()
	}
	if c.err != nil {
		return c.err
	}
	c.flushing = true
	c.earned += 2
	out := c.takeOut()
	c.mu.Unlock()
	for i := 0; len(p) > 0; i++ {
		n := min(len(p), maxFrame)
		f := frame{kind: frameData, stream: s.id}
		if ends && n == len(p) {
			f.flags = flagEndStream
		}
		putFrame(s.headers[i][:], n, f)
		c.pieces = append(c.pieces, s.headers[i][:], p[:n])
		p = p[n:]
	}
	err := c.write()
	if err != nil {
		c.fail(err)
	}
	c.mu.Lock()
	c.returnOut(out)
	c.writeOut()
	c.flushing = false
	c.changed.Broadcast()
	return err
}

// Inform implements core.Downstream.
func (s *stream) Inform(r *message.Reply) error {
	block := appendReply(buffer.Small()[:0], r)
	defer buffer.Recycle(block)
	c := s.conn
	c.mu.Lock()
	for len(c.out) > mostOut && s.dead() == nil {
		c.changed.Wait()
	}
	err := s.dead()
	if err == nil {
		c.appendHead(s.id, 0, block)
	}
	c.post()
	return err
}

// Begin implements core.Downstream. The head leaves with the first bytes of the body, or with its end: that is how gRPC
// knows that its fields are trailers.
func (s *stream) Begin(r *message.Reply) error {
	if c := s.conn; c.server.drains() {
		c.mu.Lock()
		c.tellGoAway(codeNo)
		c.mu.Unlock()
	}
	if s.out == nil {
		s.out = buffer.Small()
	}
	s.out = appendReply(s.out[:0], r)
	s.headLen = len(s.out)
	return nil
}

// Write implements core.Downstream: small pieces are collected.
func (s *stream) Write(p []byte) error {
	if len(s.out)+len(p) <= cap(s.out) {
		s.out = append(s.out, p...)
		return nil
	}
	return s.transmit(p, false, nil)
}

// Flush implements core.Downstream.
func (s *stream) Flush() error {
	if len(s.out) == 0 {
		return nil
	}
	return s.transmit(nil, false, nil)
}

// End implements core.Downstream. As long as the client sends, the answer's end waits for that of the exchange: a client
// that has its whole answer sends no more, and copies would not get the rest.
func (s *stream) End(trailers []message.Field) error {
	for _, f := range trailers {
		s.tail = appendField(s.tail, f.Name, f.Value)
	}
	c := s.conn
	c.mu.Lock()
	s.ending = !s.remoteClosed && s.dead() == nil
	c.mu.Unlock()
	if s.ending {
		return nil
	}
	return s.transmit(nil, true, s.tail)
}

// Abort implements core.Downstream: the stream is reset.
func (s *stream) Abort() {
	c := s.conn
	c.mu.Lock()
	if !s.lost && !s.localClosed {
		c.resetStream(s.id, &s.flow, codeInternal)
	}
	c.post()
}
