// Copies over HTTP/1.1. The goroutine that has a copy ready sends it, as far as the socket takes it without
// waiting. Each connection has one goroutine that reads the answers, from its first copy to its end: to hand
// every copy to another goroutine, or to start one for it, cost more than the work itself.

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

// Sender sends copies over HTTP/1.1. It implements shadow.Sender.
type Sender struct {
	limits Limits
}

// NewSender returns a sender that reads answers within the limits.
func NewSender(limits *Limits) *Sender { return &Sender{limits: limits.Defaulted()} }

// The most bytes of an answer's body that are read so that the connection can be used again; beyond them a
// new connection is cheaper. Where the length is known, the kernel drops the bytes. A body that ends with its
// connection is read only so that a small answer is not cut off.
const (
	discardLimit = 256 << 10
	closeLimit   = 8 << 10
)

// Send implements shadow.Sender.
func (s *Sender) Send(to *upstream.Endpoint, copied *shadow.Copy, wait bool) bool {
	if !wait && (copied.Chunked || copied.Size() > buffer.LargeSize || to.Secured()) {
		return false
	}
	if to.Secured() {
		s.sendSecured(to, copied)
		return true
	}
	for idle := to.Take(); idle != nil; idle = to.Take() {
		if idle.(*senderConn).post(copied, wait) {
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
	c := &senderConn{clientConn: clientConn{Conn: conn, endpoint: to, limits: &s.limits}}
	c.init()
	c.pushIfQuietFunc, c.offerAndPullFunc = c.pushIfQuiet, c.offerAndPull
	if c.in.raw == nil || !c.post(copied, true) {
		_ = conn.Close()
		copied.Done(0, net.ErrClosed)
		return true
	}
	c.run()
	return true
}

// senderConn is a connection to a variant.
type senderConn struct {
	clientConn
	// These are method values, made once because each is an allocation.
	pushIfQuietFunc  func(fd uintptr)
	offerAndPullFunc func(fd uintptr) bool

	// mu is held while a copy is being sent. It guards the fields up to sentAt, the deadlines and the sending
	// half; run, too, uses failure while there is a copy.
	mu sync.Mutex
	// copied is the copy under way, nil between two copies. failure is why it could not be sent.
	copied *shadow.Copy
	// ended is set when the connection takes no further copy.
	ended  bool
	wait   bool
	sentAt time.Time

	// done is a copy that was answered with status, until its Done is called. Only run uses both.
	done   *shadow.Copy
	status int
}

// post sends a copy on a connection that is idle; run does the rest. It returns false if the connection has
// ended, or if bytes arrived that nobody requested: they would be read as the answer. It may wait only if
// wait is set.
func (c *senderConn) post(copied *shadow.Copy, wait bool) bool {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return false
	}
	// The deadline is an eighth of the timeout later than needed, so that most copies need not move it. One
	// that is much later belongs to a copy with another timeout.
	timeout := copied.Until.Sub(copied.Begin)
	if c.deadline.Before(copied.Until) || c.deadline.After(copied.Until.Add(timeout/4)) {
		c.until(copied.Until.Add(timeout / 8))
	}
	c.copied, c.failure, c.sent, c.wait, c.in.quiet = copied, nil, false, wait, false
	if !wait {
		c.out.load(copied.Wire())
	}
	if err := c.in.raw.Control(c.pushIfQuietFunc); err != nil || !c.in.quiet {
		c.copied, c.ended = nil, true
		c.mu.Unlock()
		go c.Close() // waits until run has stopped reading
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

// keep moves the bytes that are still to be sent into the copy's own buffer.
func (c *senderConn) keep(copied *shadow.Copy) {
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

// pushIfQuiet sends as much as the socket takes, unless there is something to read.
func (c *senderConn) pushIfQuiet(fd uintptr) {
	if c.in.peek(fd); c.in.quiet && !c.wait {
		c.out.push(fd)
	}
}

// posted ends the sending of a copy.
func (c *senderConn) posted(err error) {
	if c.copied.Timed() {
		c.sentAt = time.Now()
	}
	c.sent, c.failure = err == nil, err
	c.mu.Unlock()
	if err != nil {
		go reset(c.Conn) // wakes run, and waits until it has stopped reading
	}
}

// run reads answers for as long as there may be more of them.
func (c *senderConn) run() {
	err := c.in.fill() // reads before it waits: the answer may have arrived
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
		err = c.in.fillBy(c.offerAndPullFunc)
	}
	c.destroy()
}

// woken returns the copy under way once it has been sent, or nil if the connection has ended. again reports
// that only the deadline of an earlier copy has passed.
func (c *senderConn) woken(err error) (copied *shadow.Copy, again bool) {
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

// answer reads an answer to its end. If err is nil, its first bytes have already been read.
func (c *senderConn) answer(copied *shadow.Copy, err error) (status int, reusable bool, _ error) {
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
	copied.Capture.Head(&c.head)
	complete, err := c.discard(copied.Capture)
	if err != nil {
		return 0, false, err
	}
	copied.Capture.Trail(c.body.Trailers())
	return status, complete && c.in.buffered() == 0 && !c.framing.close, nil
}

// offerAndPull offers the connection for the next copy, calls Done for the last one, and reads. The runtime
// watches the socket from before this call on: if the connection were offered earlier, an answer could be
// missed.
func (c *senderConn) offerAndPull(fd uintptr) bool {
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
	done.Done(c.status, nil) // from here on the next copy may be under way on this connection
	if !kept {
		c.in.err = io.EOF
	}
	return !kept
}

// writeCopy sends a copy and may wait.
func (c *senderConn) writeCopy(copied *shadow.Copy) error {
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

// discard reads the body up to a limit and keeps none of it, except for the part that is to be compared.
func (c *clientConn) discard(capture *shadow.Capture) (complete bool, err error) {
	if b := &c.body; b.kind == byLength && b.left <= discardLimit && c.in.raw != nil && !capture.Wants() {
		return c.skip(b)
	}
	limit := discardLimit
	if c.body.kind == byClose && !capture.Wants() {
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
		capture.Write(p)
	}
	return false, nil
}

// skip drops a body of known length, inside the kernel where it can.
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
