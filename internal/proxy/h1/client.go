// The sending half: connections to backends and one exchange on them at a time.

package h1

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Client sends requests over HTTP/1.1. It implements core.Back.
type Client struct {
	limits Limits
}

// NewClient returns a client that reads answers within the limits. How long a backend may take is up
// to the rule; where that has no timeout, BackendTimeout is how long a backend may neither take nor send
// a byte once it has the request.
func NewClient(limits *Limits) *Client { return &Client{limits: limits.Defaulted()} }

// grace is how long a request may still take to be sent once its answer is complete.
const grace = 100 * time.Millisecond

// most1xx is how many interim responses one answer may have.
const most1xx = 64

var (
	errInterim = errors.New("too many interim responses")
	errSwitch  = errors.New("switched to a protocol that was not asked for")
)

// clientConn is a connection to a backend, and the exchange on it.
type clientConn struct {
	net.Conn
	in       reader
	body     body
	head     message.Response
	framing  framing
	limits   *Limits
	endpoint *upstream.Endpoint
	deadline time.Time
	out      writer

	send      *core.Send
	uploading bool
	uploaded  chan struct{}
	sent      bool
	// flowing says that upload has not ended, gone that it ended for the client's fault.
	flowing, gone atomic.Bool
	lastWrite     time.Time
	// quietEnd is when a backend that is silent now has been so for too long.
	quietEnd time.Time
	// patience is silence, made once, for a method's value is an allocation.
	patience func() error
}

// connect takes an idle connection, unless a fresh one is asked for, or dials.
func connect(to *upstream.Endpoint, limits *Limits, fresh bool, deadline time.Time) (c *clientConn, reused bool, err error) {
	if !fresh {
		if idle := to.Take(); idle != nil {
			return idle.(*clientConn), true, nil
		}
	}
	ctx := context.Background()
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	conn, err := to.Dial(ctx)
	if err != nil {
		return nil, false, err
	}
	c = &clientConn{Conn: conn, endpoint: to, limits: limits}
	c.init()
	return c, false, nil
}

func (c *clientConn) init() {
	c.in.init(c.Conn)
	c.out.init(c.Conn, c.in.raw)
	c.body.in, c.body.limits = &c.in, c.limits
	c.patience = c.silence
}

// Alive implements upstream.Idle: a look at the socket that takes nothing out of it.
func (c *clientConn) Alive() bool {
	if c.in.raw == nil {
		return true
	}
	c.in.quiet = false
	return c.in.raw.Control(c.in.peek) == nil && c.in.quiet
}

// Send implements core.Back.
func (c *Client) Send(to *upstream.Endpoint, s *core.Send) (core.Answer, error) {
	conn, reused, err := connect(to, &c.limits, s.Fresh, s.Deadline)
	if err != nil {
		return nil, err
	}
	conn.send, conn.sent = s, false
	conn.until(s.Deadline)
	conn.body.wait = nil
	if s.Deadline.IsZero() {
		conn.body.wait = conn.patience
		conn.writeWithin(time.Now())
	}
	written := conn.writeRequest(s)
	if err := conn.readHead(s.Out.Method, s.Out.Upgrade, s.Inform); err != nil {
		conn.join(0)
		if conn.in.buffered() == 0 && reused && isClosed(err) {
			err = core.ErrUnanswered
		} else if written != nil && isClosed(err) {
			err = written
		}
		conn.destroy()
		return nil, err
	}
	return conn, nil
}

func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// until sets the deadline of everything on the connection, if it is another one than before.
func (c *clientConn) until(deadline time.Time) {
	if !c.deadline.Equal(deadline) {
		c.deadline, c.in.deadline, c.lastWrite = deadline, deadline, deadline
		_ = c.SetDeadline(deadline)
	}
}

// silence gives the next read its time, coarsely, where no deadline bounds the exchange. It is cut
// into looks around: a client that has left is not to hold a backend that says nothing.
func (c *clientConn) silence() error {
	now := time.Now()
	if c.quietEnd.IsZero() || c.flowing.Load() {
		c.quietEnd = now.Add(c.limits.BackendTimeout)
	}
	c.in.within(max(min(lookAround, c.quietEnd.Sub(now)), time.Millisecond), now)
	if c.gone.Load() {
		_ = c.SetReadDeadline(past)
	}
	return nil
}

// again says, by returning nil, that a read that failed with err is to be tried once more. A backend
// may be silent while the client still sends.
func (c *clientConn) again(err error) error {
	switch {
	case c.body.wait == nil, c.gone.Load(), !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case c.send.Gone():
		return core.ErrGone
	case !c.flowing.Load() && !time.Now().Before(c.quietEnd):
		return err
	}
	return nil
}

// writeWithin does the same for the next write.
func (c *clientConn) writeWithin(now time.Time) {
	if d := c.limits.BackendTimeout; c.lastWrite.Sub(now) < d-d/8 {
		c.lastWrite = now.Add(d)
		_ = c.SetWriteDeadline(c.lastWrite)
	}
}

// lookAround is how often a wait for an answer looks whether the client is still there.
const lookAround = time.Second

// firstHead waits for a head.
func (c *clientConn) firstHead() (head []byte, err error) {
	c.quietEnd = noDeadline
	for {
		if err := c.body.prepare(); err != nil {
			return nil, err
		}
		if head, err = c.in.head(c.limits.Head, nil); err == nil {
			return head, nil
		}
		if err = c.again(err); err != nil {
			return nil, err
		}
	}
}

// writeRequest sends the head, and the body too if it is there already; else a goroutine sends the
// body while the answer is awaited. An error may come with an answer, so that is read anyway.
func (c *clientConn) writeRequest(s *core.Send) error {
	out := message.AppendRequest(buffer.Small()[:0], &s.Out)
	defer buffer.Recycle(out)
	if s.Out.Length == 0 {
		return c.finished(c.out.write(out))
	}
	if !s.Body.Whole() {
		if err := c.out.write(out); err != nil {
			return err
		}
		if c.uploaded == nil {
			c.uploaded = make(chan struct{}, 1)
		}
		c.uploading = true
		c.gone.Store(false)
		c.flowing.Store(true)
		go c.upload(s)
		return nil
	}
	for {
		p, err := s.Body.Next()
		if err == io.EOF { //nolint:errorlint // by the contract of Body
			return c.finished(c.out.write(out))
		}
		if err != nil {
			return err
		}
		if len(out)+len(p) <= cap(out) {
			out = append(out, p...)
			continue
		}
		if err := c.out.write(out, p); err != nil {
			return err
		}
		out = out[:0]
	}
}

// finished notes that the request is sent.
func (c *clientConn) finished(err error) error {
	if err == nil {
		c.sent = true
		c.send.Sent()
	}
	return err
}

// upload streams the body. If the client's side fails, nobody waits for an answer any more.
func (c *clientConn) upload(s *core.Send) {
	defer func() {
		c.flowing.Store(false)
		c.uploaded <- struct{}{}
	}()
	var size [20]byte
	chunked := s.Out.Length == message.Unknown
	for {
		p, err := s.Body.Next()
		if err == io.EOF { //nolint:errorlint // by the contract of Body
			if chunked {
				err = c.out.write(appendEnd(nil, s.Body.Trailers()))
			} else {
				err = nil
			}
			_ = c.finished(err)
			return
		}
		if err != nil {
			c.gone.Store(true)
			_ = c.SetReadDeadline(past)
			return
		}
		if s.Deadline.IsZero() {
			c.writeWithin(time.Now())
		}
		if chunked {
			err = c.out.write(append(strconv.AppendInt(size[:0], int64(len(p)), 16), "\r\n"...), p, crlf)
		} else {
			err = c.out.write(p)
		}
		if err != nil {
			return
		}
	}
}

var (
	crlf = []byte("\r\n")
	past = time.Unix(1, 0)

	noDeadline time.Time
)

// appendEnd appends the last chunk and the trailers.
func appendEnd(dst []byte, trailers []message.Field) []byte {
	dst = append(dst, "0\r\n"...)
	for _, f := range trailers {
		dst = message.AppendField(dst, f.Name, f.Value)
	}
	return append(dst, crlf...)
}

// readHead reads the final head and passes interim ones on. upgrade is the protocol that may be
// switched to.
func (c *clientConn) readHead(method, upgrade string, inform func(*message.Response) error) error {
	for range most1xx {
		head, err := c.firstHead()
		if err != nil {
			return err
		}
		untilClose, err := parseResponse(buffer.View(head), &c.head, &c.framing, method, c.limits)
		if err != nil {
			return err
		}
		switch {
		case c.head.Status == 101 && (upgrade == "" || !message.EqualFold(c.framing.protocol, upgrade)):
			return errSwitch
		case c.head.Status >= 200 || c.head.Status == 101:
			c.body.reset(c.head.Length, untilClose)
			return nil
		}
		if inform != nil {
			if err := inform(&c.head); err != nil {
				return err
			}
		}
		c.in.release()
	}
	return errInterim
}

// Next, Ready and Trailers implement core.Body for the answer.
func (c *clientConn) Next() ([]byte, error) {
	c.quietEnd = noDeadline
	for {
		p, err := c.body.Next()
		if err == nil || err == io.EOF { //nolint:errorlint // by the contract of Body
			return p, err
		}
		if err = c.again(err); err != nil {
			return nil, err
		}
	}
}

// Ready says that Next will not wait.
func (c *clientConn) Ready() bool { return c.body.Ready() }

// Trailers are the fields after the answer's body.
func (c *clientConn) Trailers() []message.Field { return c.body.Trailers() }

// Head is the head of the answer.
func (c *clientConn) Head() *message.Response { return &c.head }

// Finish implements core.Answer.
func (c *clientConn) Finish(complete bool) bool {
	wait := time.Duration(0)
	if complete {
		wait = grace
	}
	sent := c.join(wait)
	if !complete || !sent || !c.body.Done() || c.framing.close || c.in.buffered() > 0 {
		c.destroy()
		return sent
	}
	c.idle(time.Now())
	return sent
}

// idle puts the connection back for the next request.
func (c *clientConn) idle(now time.Time) {
	c.in.release()
	c.send = nil
	if c.framing.close || !c.endpoint.Put(c, now) {
		_ = c.Close()
	}
}

// destroy closes the connection, so that the backend notices if the request is cut short.
func (c *clientConn) destroy() {
	if c.sent {
		_ = c.Close()
	} else {
		reset(c.Conn)
	}
	c.in.free()
	c.send = nil
}

// join ends the upload, after the given time by force, and says whether the request was sent to
// its end.
func (c *clientConn) join(wait time.Duration) bool {
	if !c.uploading {
		return c.sent
	}
	c.uploading = false
	select {
	case <-c.uploaded:
		return c.sent
	default:
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-c.uploaded:
			return c.sent
		case <-timer.C:
		}
	}
	c.send.Interrupt()
	_ = c.SetWriteDeadline(past)
	<-c.uploaded
	c.framing.close = true // the past deadline would meet the next request
	return c.sent
}

// Tunnel implements core.Answer.
func (c *clientConn) Tunnel() core.Tunnel {
	c.deadline = past // another one than none, so that none is set
	c.until(time.Time{})
	c.body.wait = nil
	c.body.reset(0, true)
	return &tunnel{c.Conn, &c.in, &c.body}
}

// tunnel is a connection that speaks another protocol now, with what was read of it already.
type tunnel struct {
	net.Conn
	in   *reader
	body *body
}

// Next implements core.Tunnel.
func (t *tunnel) Next() ([]byte, error) { return t.body.Next() }

// CloseWrite implements core.Tunnel.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return t.Close()
}
