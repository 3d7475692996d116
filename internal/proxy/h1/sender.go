// The variant's side. A copy leaves from whichever goroutine has it ready, if that takes no waiting.
// Its answer is read by a goroutine of the connection's own, which waits there from the first copy to
// the connection's end: handing a copy to a goroutine, and that one starting anew, cost more than what
// they were for.

package h1

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Leg sends copies over HTTP/1.1. It implements shadow.Sender.
type Leg struct {
	limits Limits
}

// NewLeg returns a leg that reads answers within the limits.
func NewLeg(limits *Limits) *Leg { return &Leg{limits: limits.Defaulted()} }

// How many bytes of an answer's body are read so that the connection can be used again; with more
// to come, a new connection is cheaper. Where the length is known the kernel drops them.
// An answer that ends with its connection is read only so that a small one is not broken off.
const (
	discardLimit = 256 << 10
	closeLimit   = 8 << 10
)

// Send implements shadow.Sender.
func (l *Leg) Send(to *upstream.Endpoint, copied *shadow.Copy, wait bool) bool {
	if !wait && (copied.Chunked || copied.Size() > buffer.LargeSize) {
		return false
	}
	for idle := to.Take(); idle != nil; idle = to.Take() {
		if idle.(*legConn).post(copied, wait) {
			return true
		}
	}
	if !wait {
		copied.Spent = to.Spent()
		return false
	}
	conn, err := dial(to, copied.Until)
	if err != nil {
		copied.Done(0, err)
		return true
	}
	c := &legConn{clientConn: clientConn{Conn: conn, endpoint: to, limits: &l.limits}}
	c.init()
	c.look, c.offer = c.lookAndPush, c.offerAndPull
	if c.in.raw == nil || !c.post(copied, true) {
		_ = conn.Close()
		copied.Done(0, net.ErrClosed)
		return true
	}
	c.run()
	return true
}

// legConn is a connection to a variant.
type legConn struct {
	clientConn
	// look and offer are lookAndPush and offerAndPull, made once, for a method's value is an allocation.
	look  func(fd uintptr)
	offer func(fd uintptr) bool

	// mu is held until a copy has been sent, or could not be. It guards what follows, deadlines and the
	// sending half; failure is also run's while there is a copy.
	mu sync.Mutex
	// copied is the copy under way, nil between two. failure is why it could not be sent.
	copied *shadow.Copy
	// ended says that the connection takes no further copy.
	ended  bool
	wait   bool
	sentAt time.Time

	// done is a copy that was answered with status, until that is told. Both are run's.
	done   *shadow.Copy
	status int
}

// post sends a copy on a connection that is idle; run does the rest. It returns false if the
// connection has ended, or if something arrived that nobody asked for: it would be read as the answer.
// Only if wait is set it may wait.
func (c *legConn) post(copied *shadow.Copy, wait bool) bool {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return false
	}
	// An eighth more than needed, so that most copies need not move the deadline. One that is much
	// later is of a copy with another timeout.
	timeout := copied.Until.Sub(copied.Begin)
	if c.deadline.Before(copied.Until) || c.deadline.After(copied.Until.Add(timeout/4)) {
		c.until(copied.Until.Add(timeout / 8))
	}
	c.copied, c.failure, c.sent, c.wait, c.in.quiet = copied, nil, false, wait, false
	if !wait {
		c.out.load(copied.Wire())
	}
	if err := c.in.raw.Control(c.look); err != nil || !c.in.quiet {
		c.copied, c.ended = nil, true
		c.mu.Unlock()
		go c.Close() // which waits until run has let go
		return false
	}
	switch {
	case wait:
		c.posted(c.writeCopy(copied))
	case len(c.out.pieces) > 0 && c.out.err == nil:
		c.keep(copied)
		go func() { c.posted(c.out.flush()) }()
	default:
		copied.Return()
		c.posted(c.out.err)
	}
	return true
}

// keep makes what is left to be sent the copy's own.
func (c *legConn) keep(copied *shadow.Copy) {
	left := 0
	for _, p := range c.out.pieces {
		left += len(p)
	}
	copied.Keep()
	head, body := copied.Wire()
	if sent := len(head) + len(body) - left; sent < len(head) {
		c.out.load(head[sent:], body)
	} else {
		c.out.load(body[sent-len(head):])
	}
}

// lookAndPush sends as much as the socket takes, unless there is something to read.
func (c *legConn) lookAndPush(fd uintptr) {
	if c.in.peek(fd); c.in.quiet && !c.wait {
		c.out.push(fd)
	}
}

// posted ends the sending of a copy.
func (c *legConn) posted(err error) {
	if c.copied.Timed() {
		c.sentAt = time.Now()
	}
	c.sent, c.failure = err == nil, err
	c.mu.Unlock()
	if err != nil {
		go reset(c.Conn) // wakes run, and waits until it has let go
	}
}

// run reads answers, as long as there may be further ones.
func (c *legConn) run() {
	err := c.in.fill() // which looks before it waits: the answer may be there
	for {
		copied, again := c.woken(err)
		if again {
			err = c.in.fill()
			continue
		}
		if copied == nil {
			break
		}
		status, reusable, err2 := c.answer(copied, err)
		if !reusable {
			c.destroy()
			copied.End = time.Now()
			copied.Done(status, err2)
			return
		}
		c.done, c.status = copied, status
		err = c.in.fillBy(c.offer)
	}
	c.destroy()
}

// woken returns the copy under way once it has been sent. Without one the connection has ended. again
// says that only the deadline of an earlier copy has passed.
func (c *legConn) woken(err error) (copied *shadow.Copy, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := err != nil && errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case c.copied == nil && late:
		c.until(noDeadline)
		return nil, true
	case c.copied == nil:
		c.ended = true
	case late && c.failure == nil && time.Now().Before(c.copied.Until):
		return nil, true
	}
	return c.copied, false
}

// answer reads an answer to its end, the first bytes of which have been read if err is nil.
func (c *legConn) answer(copied *shadow.Copy, err error) (status int, reusable bool, _ error) {
	if c.failure != nil {
		return 0, false, c.failure
	}
	method := ""
	if copied.IsHead {
		method = "HEAD"
	}
	if err == nil {
		err = c.readHead(method, "", nil)
	}
	if err != nil {
		return 0, false, err
	}
	if copied.Timed() {
		copied.Latency = time.Since(c.sentAt)
	}
	status = c.head.Status
	complete, err := c.discard()
	if err != nil {
		return 0, false, err
	}
	return status, complete && c.in.buffered() == 0 && !c.framing.close, nil
}

// offerAndPull offers the connection for the next copy, tells of the last one, and waits for what then
// arrives. Offered sooner, before the runtime minds what arrives, an answer might be missed.
func (c *legConn) offerAndPull(fd uintptr) bool {
	done := c.done
	if done == nil {
		return c.in.pull(fd)
	}
	c.done = nil
	c.in.release()
	c.mu.Lock()
	c.copied = nil
	c.mu.Unlock()
	done.End = time.Now()
	kept := c.endpoint.Put(c, done.End)
	done.Done(c.status, nil) // and the next one may be under way here
	if !kept {
		c.in.err = io.EOF
	}
	return !kept
}

func (c *clientConn) writeCopy(copied *shadow.Copy) error {
	head, body := copied.Wire()
	if !copied.Chunked {
		return c.out.write(head, body)
	}
	var frame [32]byte
	if len(body) > 0 {
		size := append(strconv.AppendInt(frame[:0], int64(len(body)), 16), "\r\n"...)
		if err := c.out.write(head, size, body); err != nil {
			return err
		}
		return c.out.write(appendEnd([]byte("\r\n"), copied.Trailers))
	}
	return c.out.write(head, appendEnd(frame[:0], copied.Trailers))
}

// discard reads the body up to a limit and keeps nothing.
func (c *clientConn) discard() (complete bool, err error) {
	if b := &c.body; b.kind == byLength && b.left <= discardLimit && c.in.raw != nil {
		return c.skip(b)
	}
	limit := discardLimit
	if c.body.kind == byClose {
		limit = closeLimit
	}
	for n := 0; n <= limit; {
		p, err := c.body.Next()
		if err == io.EOF { //nolint:errorlint // by the contract of Body
			return true, nil
		}
		if err != nil {
			return false, err
		}
		n += len(p)
	}
	return false, nil
}

func (c *clientConn) skip(b *body) (complete bool, err error) {
	for !b.done {
		n := min(int64(c.in.buffered()), b.left)
		if c.in.r += int(n); n == 0 {
			m, err := c.in.skip(int(b.left))
			if err != nil {
				return false, err
			}
			n = int64(m)
		}
		b.left -= n
		b.done = b.left == 0
	}
	return true, nil
}
