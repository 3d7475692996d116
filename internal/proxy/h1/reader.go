// Reading from a connection: heads in one piece, bodies in the pieces that arrive, and no buffer at all while
// there is nothing to read.

package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/socket"
)

// reader owns the receiving half of a connection.
type reader struct {
	conn net.Conn
	// raw is nil where the bytes of the connection are not the bytes of the stream: under TLS.
	raw syscall.RawConn
	// pull reads and returns false if it would have to wait; try always returns true.
	pull func(fd uintptr) bool
	try  func(fd uintptr) bool
	// peek sets quiet if there is nothing to read, not even an end.
	peek  func(fd uintptr)
	quiet bool
	drop  func(fd uintptr) bool
	// dropped is how many bytes drop may drop, and after the call how many it has dropped.
	dropped int

	// buf[r:w] are the bytes that were read and not used. Before hold lies the head of the current message,
	// into which strings of the request point: it stays until release.
	buf        []byte
	hold, r, w int
	// kept is the buffer of the current head once buf is another one.
	kept []byte
	// full is set when the last read filled buf: more bytes may be waiting than fit.
	full bool
	// big is set when the last message needed a large buffer, as the next one probably will.
	big bool
	// ended is set when a connection of TLS ended behind the bytes that were read last.
	ended bool
	n     int
	err   error

	deadline time.Time
}

func (b *reader) init(conn net.Conn) {
	b.conn = conn
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			b.raw = raw
			// Made once, because a closure for every call would be an allocation.
			b.pull = func(fd uintptr) bool { return b.take(fd) || b.err != syscall.EAGAIN } //nolint:errorlint // straight from the system call
			b.peek = func(fd uintptr) {
				b.quiet = socket.Peek(fd) == syscall.EAGAIN //nolint:errorlint // straight from the system call
			}
			b.drop = b.discardFrom
			b.try = func(fd uintptr) bool { b.take(fd); return true }
		}
	}
}

// take reads once, without waiting, into the free part of buf. It takes a buffer only now, and returns it if
// nothing was read.
func (b *reader) take(fd uintptr) bool {
	fresh := b.buf == nil
	if fresh && b.big {
		b.buf = buffer.Large()
	} else if fresh {
		b.buf = buffer.Small()
	}
	for {
		b.n, b.err = socket.Receive(fd, b.buf[b.w:])
		if b.err != syscall.EINTR { //nolint:errorlint // straight from the system call
			break
		}
	}
	if b.n > 0 {
		return true
	}
	b.n = 0
	if b.err == nil {
		b.err = io.EOF
	}
	if fresh {
		buffer.Recycle(b.buf)
		b.buf = nil
	}
	return false
}

// fill waits for more bytes and appends them to buf, which must have room (see makeRoom).
func (b *reader) fill() error {
	if b.raw == nil {
		return b.fillPlain()
	}
	return b.fillBy(b.pull)
}

// fillBy is fill with another function than pull.
func (b *reader) fillBy(pull func(fd uintptr) bool) error {
	b.n, b.err = 0, nil
	if err := b.raw.Read(pull); err != nil {
		return err
	}
	return b.took()
}

// skip waits for bytes and drops at most n of them, inside the kernel where it can. It returns how many.
func (b *reader) skip(n int) (int, error) {
	b.dropped, b.err = n, nil
	if err := b.raw.Read(b.drop); err != nil {
		return 0, err
	}
	if b.err != nil {
		return 0, os.NewSyscallError("recvfrom", b.err)
	}
	if b.dropped == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return b.dropped, nil
}

// discardFrom drops the bytes that have arrived, at most b.dropped of them.
func (b *reader) discardFrom(fd uintptr) bool {
	for {
		n, err := socket.Discard(fd, b.dropped)
		switch err { //nolint:errorlint // straight from the system call
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			b.dropped, b.err = max(n, 0), err
			return true
		}
	}
}

// tryFill is fill that returns without bytes instead of waiting.
func (b *reader) tryFill() error {
	if b.raw == nil {
		return nil
	}
	b.n, b.err = 0, nil
	if err := b.raw.Read(b.try); err != nil {
		return err
	}
	if b.err == syscall.EAGAIN { //nolint:errorlint // straight from the system call
		return nil
	}
	return b.took()
}

// took accounts for the bytes of a read, and returns its error if there are none.
func (b *reader) took() error {
	b.w += b.n
	b.full = b.w == len(b.buf)
	if b.n > 0 {
		return nil
	}
	if b.err == io.EOF { //nolint:errorlint // set by take
		return io.EOF
	}
	return os.NewSyscallError("read", b.err)
}

// fillPlain is fill through net.Conn, for TLS and tests.
func (b *reader) fillPlain() error {
	if b.buf == nil {
		b.buf = buffer.Small()
	}
	n, err := b.conn.Read(b.buf[b.w:])
	b.w += n
	b.full = b.w == len(b.buf)
	if n > 0 {
		b.ended = err != nil
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// skipLine skips one empty line, which some clients send after a body (RFC 9112 section 2.2).
func (b *reader) skipLine() {
	if b.w-b.r >= 2 && b.buf[b.r] == '\r' && b.buf[b.r+1] == '\n' {
		b.r += 2
	}
}

// head returns the next head, its empty line included, valid until release. limit is the most bytes it may
// have. beforeWait is called once, if only a part of the head arrived at first.
func (b *reader) head(limit int, beforeWait func()) ([]byte, error) {
	searched := 0
	for {
		if b.w > b.r {
			if end := headEnd(b.buf[b.r:b.w], searched); end > 0 {
				if end > limit {
					return nil, errHeadSize
				}
				head := b.buf[b.r : b.r+end]
				b.r += end
				b.hold = b.r
				return head, nil
			}
			if err := hopeless(b.buf[b.r:b.w]); err != nil {
				return nil, err
			}
			searched = b.w - b.r
			if searched >= limit {
				return nil, errHeadSize
			}
			if beforeWait != nil {
				beforeWait()
				beforeWait = nil
			}
			b.growHead(limit)
		}
		if err := b.fill(); err != nil {
			if searched > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// hopeless returns an error for bytes that cannot become a head, because they have a bare line feed. Without
// it their client would wait for its timeout.
func hopeless(b []byte) error {
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			return errLineEnd
		}
	}
	return nil
}

// growHead makes room for more of a head that is not complete.
func (b *reader) growHead(limit int) {
	if b.w < len(b.buf) {
		return
	}
	if b.r > 0 {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
		return
	}
	bigger := make([]byte, min(2*len(b.buf), limit+buffer.SmallSize))
	copy(bigger, b.buf[:b.w])
	buffer.Recycle(b.buf)
	b.buf = bigger
}

// makeRoom prepares buf for more of a body. The bytes of the body may move, but the head stays; if it leaves
// little room, or the last read left bytes behind, the body gets a buffer of its own.
func (b *reader) makeRoom() {
	if b.r == b.w {
		b.r, b.w = b.hold, b.hold
	}
	if b.full && cap(b.buf) < buffer.LargeSize {
		b.move(buffer.Large())
	} else if len(b.buf)-b.hold < buffer.SmallSize/8 {
		b.move(buffer.Small())
	}
	if b.w == len(b.buf) {
		b.w = b.hold + copy(b.buf[b.hold:], b.buf[b.r:b.w])
		b.r = b.hold
	}
}

// move continues in another buffer, and keeps the old one if a head lies in it.
func (b *reader) move(to []byte) {
	b.big = b.big || cap(to) == buffer.LargeSize
	w := copy(to, b.buf[b.r:b.w])
	if b.kept == nil && b.hold > 0 {
		b.kept = b.buf
	} else {
		buffer.Recycle(b.buf)
	}
	b.buf, b.hold, b.r, b.w = to, 0, 0, w
	b.full = false
}

// extend waits for further bytes of a body.
func (b *reader) extend() error {
	if b.buf != nil {
		b.makeRoom()
	}
	err := b.fill()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// release ends the current message: nothing points into its head any more. Bytes of the next message stay;
// without any the buffer is recycled.
func (b *reader) release() {
	if b.kept != nil {
		buffer.Recycle(b.kept)
		b.kept = nil
	}
	b.hold = 0
	b.full = false
	b.big = b.big && b.w > buffer.SmallSize
	switch {
	case b.r == b.w:
		buffer.Recycle(b.buf)
		b.buf, b.r, b.w = nil, 0, 0
	case cap(b.buf) != buffer.SmallSize && b.w-b.r <= buffer.SmallSize:
		b.move(buffer.Small())
	}
}

// free recycles all buffers. Nothing can be read afterwards.
func (b *reader) free() {
	b.r = b.w
	b.release()
}

// buffered returns how many bytes were read and not used.
func (b *reader) buffered() int { return b.w - b.r }

// within sets the read deadline to now+d, coarsely: it stays if it is at most an eighth of d too early or too
// late, so that most requests set none. A d of 0 means no deadline.
func (b *reader) within(d time.Duration, now time.Time) {
	if d == 0 {
		if !b.deadline.IsZero() {
			b.deadline = time.Time{}
			_ = b.conn.SetReadDeadline(b.deadline)
		}
		return
	}
	if left := b.deadline.Sub(now); b.deadline.IsZero() || left < d-d/8 || left > d+d/8 {
		b.deadline = now.Add(d)
		_ = b.conn.SetReadDeadline(b.deadline)
	}
}
