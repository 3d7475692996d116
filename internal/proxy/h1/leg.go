package h1

import (
	"io"
	"strconv"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Leg sends copies over HTTP/1.1. It implements shadow.Leg.
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

// Send implements shadow.Leg.
func (l *Leg) Send(to *upstream.Endpoint, copied *shadow.Copy) (int, error) {
	conn, _, err := connect(to, &l.limits, false, copied.Until)
	if err != nil {
		return 0, err
	}
	// An eighth more than needed, so that most copies need not move the deadline. One that is much
	// later is of a copy with another timeout.
	left := time.Until(copied.Until)
	if conn.deadline.Before(copied.Until) || conn.deadline.After(copied.Until.Add(left/4)) {
		conn.until(copied.Until.Add(left / 8))
	}
	conn.sent = false
	if err := conn.writeCopy(copied); err != nil {
		conn.destroy()
		return 0, err
	}
	conn.sent = true
	sent := time.Now()
	method := ""
	if copied.IsHead {
		method = "HEAD"
	}
	if err := conn.readHead(method, "", nil); err != nil {
		conn.destroy()
		return 0, err
	}
	copied.Latency = time.Since(sent)
	status := conn.head.Status
	switch complete, err := conn.discard(); {
	case err != nil:
		conn.destroy()
		return 0, err
	case complete && conn.in.buffered() == 0:
		conn.idle(time.Now())
	default:
		conn.destroy()
	}
	return status, nil
}

func (c *clientConn) writeCopy(copied *shadow.Copy) error {
	if !copied.Chunked {
		return c.out.write(copied.Whole())
	}
	head, body := copied.Wire()
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
