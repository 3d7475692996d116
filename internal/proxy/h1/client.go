// Connections to backends, and the one exchange that each of them carries at a time. request.go sends the
// request; this file has the rest.

package h1

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/socket"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Client sends requests over HTTP/1.1. It implements core.Transport.
type Client struct {
	limits Limits
}

// NewClient returns a client that reads answers within the limits. The rule decides how long a backend may
// take; where it has no timeout, BackendTimeout is how long a backend may neither take nor send a byte once
// it has the request.
func NewClient(limits *Limits) *Client { return &Client{limits: limits.Defaulted()} }

const (
	// uploadGrace is how long the rest of a request may take to be sent once its answer is complete.
	uploadGrace = 100 * time.Millisecond
	// most1xx is how many interim responses one answer may have.
	most1xx = 64
	// clientCheckInterval is how often a wait for an answer checks whether the client is still there.
	clientCheckInterval = time.Second
)

var (
	errInterim = errors.New("too many interim responses")
	errSwitch  = errors.New("switched to a protocol that was not requested")
	errStale   = errors.New("connection is not quiet")
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
	// flowing is set while upload runs, gone when it ended because the client's side failed, and cut when it
	// must end.
	flowing, gone, cut atomic.Bool
	lastWrite          time.Time
	// idleSince is when the connection became idle for the last time.
	idleSince time.Time
	// now is the current time, or zero once a wait has made it old.
	now time.Time
	// silenceEnd is when a backend that is silent now has been so for too long.
	silenceEnd time.Time
	// These are method values, made once because each is an allocation.
	limitSilenceFunc func() error
	pushAndPullFunc  func(fd uintptr) bool
	phase            sendPhase
	// failure is the error that sendAndWait met instead of an answer.
	failure error
}

// connect takes an idle connection, or dials if there is none or fresh is set.
func connect(to *upstream.Endpoint, limits *Limits, fresh bool, deadline time.Time) (c *clientConn, reused bool, err error) {
	if !fresh {
		if idle := to.Take(); idle != nil {
			return idle.(*clientConn), true, nil
		}
	}
	conn, err := dial(to, deadline)
	if err != nil {
		return nil, false, err
	}
	c = &clientConn{Conn: conn, endpoint: to, limits: limits}
	c.init()
	c.out.beforeWait = c.writeWithin
	return c, false, nil
}

func dial(to *upstream.Endpoint, deadline time.Time) (net.Conn, error) {
	if deadline.IsZero() {
		return to.Dial(context.Background(), false)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	return to.Dial(ctx, false)
}

func (c *clientConn) init() {
	c.in.init(c.Conn)
	c.out.init(c.Conn, c.in.raw)
	c.body.in, c.body.limits, c.body.padded = &c.in, c.limits, true
	c.limitSilenceFunc, c.pushAndPullFunc = c.limitSilence, c.pushAndPull
}

// alive reports whether the peer of an idle connection has been quiet: no bytes, no end, no error. It takes
// nothing out of the socket.
func (c *clientConn) alive() bool {
	if c.in.raw == nil {
		return !c.in.ended && quiet(belowTLS(c.Conn))
	}
	c.in.quiet = false
	return c.in.raw.Control(c.in.peek) == nil && c.in.quiet
}

// quiet reports whether there is nothing to read from a connection below TLS. Between two requests no record of TLS is
// expected but the one that ends the connection.
func quiet(conn net.Conn) (nothing bool) {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) { nothing = errors.Is(socket.Peek(fd), syscall.EAGAIN) })
	return err == nil && nothing
}

// Send implements core.Transport.
func (c *Client) Send(to *upstream.Endpoint, s *core.Send) (core.Answer, error) {
	for {
		conn, reused, err := connect(to, &c.limits, s.Fresh, s.Deadline)
		if err != nil {
			return nil, err
		}
		s.Reused = reused
		conn.begin(s)
		written := conn.writeRequest(s, reused)
		if written == errStale { //nolint:errorlint // returned by writeRequest itself
			to.Closed(time.Since(conn.idleSince))
			_ = conn.Close()
			continue
		}
		if err := conn.readHead(s.Out.Method, s.Out.Upgrade, s.Inform); err != nil {
			conn.join(0)
			switch closed := isClosed(err); {
			case closed && conn.in.buffered() == 0 && (reused || written == nil || isClosed(written)):
				err = core.ErrUnanswered
				if reused {
					to.Closed(time.Since(conn.idleSince))
				}
			case closed && written != nil:
				err = written
			}
			conn.destroy()
			return nil, err
		}
		return conn, nil
	}
}

// begin resets the connection's state for the next exchange.
func (c *clientConn) begin(s *core.Send) {
	c.send, c.sent, c.now, c.failure, c.silenceEnd = s, false, s.Now, nil, noDeadline
	c.body.wait = c.limitSilenceFunc
	if !c.deadline.Equal(s.Deadline) {
		c.deadline, c.lastWrite = s.Deadline, s.Deadline
		_ = c.SetWriteDeadline(s.Deadline)
	}
}

// isClosed reports whether err means that the peer has closed or reset the connection.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// until sets the deadline of the connection's reads and writes, if it has changed.
func (c *clientConn) until(deadline time.Time) {
	if !c.deadline.Equal(deadline) {
		c.deadline, c.in.deadline, c.lastWrite = deadline, deadline, deadline
		_ = c.SetDeadline(deadline)
	}
}

// limitSilence sets the deadline of the next read, coarsely. A read waits at most clientCheckInterval at a time,
// so that a client that has left does not hold a silent backend.
func (c *clientConn) limitSilence() error {
	now := c.now
	if c.now = noDeadline; now.IsZero() {
		now = time.Now()
	}
	if !c.deadline.IsZero() {
		c.silenceEnd = c.deadline
	} else if c.silenceEnd.IsZero() || c.flowing.Load() {
		c.silenceEnd = now.Add(c.limits.BackendTimeout)
	}
	c.in.within(max(min(clientCheckInterval, c.silenceEnd.Sub(now)), time.Millisecond), now)
	if c.gone.Load() {
		_ = c.SetReadDeadline(past)
	}
	return nil
}

// retryRead returns nil if a read that failed with err must be repeated, or else the error of the exchange. A
// backend may be silent while the client still sends.
func (c *clientConn) retryRead(err error) error {
	switch {
	case c.gone.Load(), !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case (!c.deadline.IsZero() || !c.flowing.Load()) && !time.Now().Before(c.silenceEnd):
		return err
	case c.send.Gone():
		return core.ErrGone
	}
	return nil
}

// writeWithin does the same as limitSilence for a write that waits.
func (c *clientConn) writeWithin() {
	if now, d := time.Now(), c.limits.BackendTimeout; c.deadline.IsZero() && c.lastWrite.Sub(now) < d-d/8 {
		c.lastWrite = now.Add(d)
		_ = c.SetWriteDeadline(c.lastWrite)
	}
	if c.cut.Load() {
		_ = c.SetWriteDeadline(past)
	}
}

// nextHead waits for the next head, interim or final.
func (c *clientConn) nextHead() (head []byte, err error) {
	if c.failure != nil {
		return nil, c.failure
	}
	c.silenceEnd = noDeadline
	for waits := c.in.buffered() == 0; ; waits = true {
		if waits {
			if err := c.body.prepare(); err != nil {
				return nil, err
			}
		}
		if head, err = c.in.head(c.limits.Head, nil); err == nil {
			return head, nil
		}
		if err = c.retryRead(err); err != nil {
			return nil, err
		}
	}
}

var (
	crlf = []byte("\r\n")
	past = time.Unix(1, 0)

	noDeadline time.Time
)

// readHead reads the final head and passes interim ones on to inform. upgrade is the only protocol to which a
// 101 may switch.
func (c *clientConn) readHead(method, upgrade string, inform func(*message.Response) error) error {
	for range most1xx {
		head, err := c.nextHead()
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
	c.silenceEnd = noDeadline
	for {
		p, err := c.body.Next()
		if err == nil || err == io.EOF { //nolint:errorlint // by the contract of Body
			return p, err
		}
		if err = c.retryRead(err); err != nil {
			return nil, err
		}
	}
}

// Ready reports whether Next returns without waiting.
func (c *clientConn) Ready() bool { return c.body.Ready() }

// Trailers returns the fields after the answer's body.
func (c *clientConn) Trailers() []message.Field { return c.body.Trailers() }

// Head returns the head of the answer, valid until Finish.
func (c *clientConn) Head() *message.Response { return &c.head }

// Finish implements core.Answer.
func (c *clientConn) Finish(complete bool) bool {
	wait := time.Duration(0)
	if complete {
		wait = uploadGrace
	}
	sent := c.join(wait)
	if !complete || !sent || !c.body.Done() || c.framing.close || c.in.buffered() > 0 {
		c.destroy()
		return sent
	}
	c.idle(time.Now())
	return sent
}

// idle keeps the connection for the next request.
func (c *clientConn) idle(now time.Time) {
	c.in.release()
	c.send, c.idleSince = nil, now
	if c.framing.keepIdle > 0 {
		c.endpoint.Announced(c.framing.keepIdle)
	}
	if c.framing.close || !c.endpoint.Put(c, now) {
		_ = c.Close()
	}
}

// destroy closes the connection. It resets it if the request was cut short, so that the backend notices.
func (c *clientConn) destroy() {
	if c.sent {
		_ = c.Close()
	} else {
		reset(c.Conn)
	}
	c.in.free()
	c.send = nil
}

// join waits for the end of the upload, which it forces after the given time, and reports whether the whole
// request was sent.
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
	c.cut.Store(true)
	_ = c.SetWriteDeadline(past)
	<-c.uploaded
	c.framing.close = true // the next request would meet the deadline that has passed
	return c.sent
}

// Tunnel implements core.Answer. The backend may switch before it has read the request's body, which ends first:
// no byte of it may follow the switch. It returns nil if the body could not be sent.
func (c *clientConn) Tunnel() core.Tunnel {
	if c.uploading {
		<-c.uploaded
		c.uploading = false
	}
	if !c.sent {
		return nil
	}
	_ = c.SetDeadline(noDeadline)
	c.body.wait = nil
	c.body.reset(0, true)
	return &tunnel{c.Conn, &c.in, &c.body}
}

// tunnel is a connection that speaks another protocol now, with the bytes that were read before the switch.
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
