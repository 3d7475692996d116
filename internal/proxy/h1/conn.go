// The client's connection: it reads requests, hands them to the core, and decides after each one whether
// another may follow. respond.go has its other half.

package h1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/socket"
)

// serverConn is a client's connection and the exchange on it. It implements core.Downstream.
type serverConn struct {
	net.Conn
	server  *Server
	in      reader
	body    body
	framing framing
	x       core.Exchange
	state   atomic.Int32
	// headWaitFunc is headWait, made once because a method value is an allocation.
	headWaitFunc func()

	// out holds the bytes that Write and Flush have not sent yet.
	out []byte
	// lastWrite is the deadline of writes.
	lastWrite time.Time
	// now is when the last exchange ended.
	now time.Time
	// keep is set when another request may follow, chunked when the response is sent in chunks, and aborted
	// when the response was cut short.
	keep, chunked, aborted bool
	// framed is set when the head of the response tells where the body ends.
	framed bool
	// interrupted is set when nobody reads the request's body any more, whole when it was read to its end,
	// and gone when the client has reset the connection.
	interrupted, whole, gone atomic.Bool
	to                       writer
}

func (c *serverConn) init() {
	c.in.init(c.Conn)
	c.to.init(c.Conn, c.in.raw)
	c.to.beforeWait = c.writeWithin
	c.body.in, c.body.limits = &c.in, &c.server.limits
	c.body.wait = c.bodyWait
	c.headWaitFunc = c.headWait
	c.x.Downstream = c
	c.x.Listener = c.server.listener
	c.x.Remote = c.RemoteAddr().String()
	c.x.Request.Fields = make([]message.Field, 0, 16)
}

// serve answers requests until the connection ends, or is handed over to HTTP/2.
func (c *serverConn) serve() (handedOver bool) {
	defer c.in.free()
	c.now = time.Now()
	for first := true; ; first = false {
		err := c.readRequest(first)
		switch {
		case errors.Is(err, errPreface):
			c.handOver()
			return true
		case err != nil:
			c.refuse(err)
			return false
		}
		c.server.core.Serve(&c.x)
		c.now = c.x.End
		if !c.finish() {
			return false
		}
	}
}

var errPreface = errors.New("HTTP/2 preface")

const preface = "PRI * HTTP/2.0\r\n\r\n"

// readRequest waits for the next request and reads its head.
func (c *serverConn) readRequest(first bool) error {
	limits := &c.server.limits
	if c.in.buffered() == 0 {
		c.in.within(limits.IdleTimeout, c.now)
		c.state.Store(stateIdle)
		err := io.EOF
		if !c.server.closing.Load() {
			err = c.in.fill()
		}
		c.state.Store(stateActive)
		if c.server.closing.Load() {
			err = c.readLast(err)
		}
		if err != nil {
			return err
		}
	}
	c.in.skipLine()
	head, err := c.in.head(limits.Head, c.headWaitFunc)
	if err == errHeadSize && bytes.IndexByte(c.in.buf[c.in.r:c.in.w], '\n') < 0 { //nolint:errorlint // returned by head itself
		err = errTargetSize
	}
	if err != nil {
		return err
	}
	if first && string(head) == preface && c.server.Preface != nil {
		return errPreface
	}
	c.chunked, c.aborted, c.framed = false, false, false
	if err := parseRequest(buffer.View(head), &c.x.Request, &c.framing, limits); err != nil {
		return err
	}
	if c.x.Request.Authority == "" {
		c.x.Request.Authority = c.LocalAddr().String() // HTTP/1.0 without Host
	}
	c.keep = !c.framing.close && (c.x.Request.Minor > 0 || c.framing.keepAlive)
	c.body.reset(c.x.Request.Length, false)
	c.whole.Store(c.body.Done())
	return nil
}

// readLast reads a request that arrived just before the connection closes: it is the last one, and gets the
// usual time. err is the result of the read before, which CloseIdle may have interrupted before it reached
// the socket.
func (c *serverConn) readLast(err error) error {
	c.server.mu.Lock()   // until CloseIdle has set all its deadlines
	c.server.mu.Unlock() //nolint:staticcheck // the lock itself is the wait
	c.in.deadline = past
	if err != nil && c.in.raw == nil {
		// TLS may hold a record already; to read from the socket it needs a read that may wait.
		deadline := past
		if c.pending() {
			deadline = time.Now().Add(lastReadTimeout)
		}
		_ = c.SetReadDeadline(deadline)
		err = c.in.fill()
	}
	c.in.within(0, c.now)
	if err != nil && c.in.raw != nil {
		if err = c.in.tryFill(); err == nil && c.in.buffered() == 0 {
			err = io.EOF
		}
	}
	return err
}

// headWait starts the time for the rest of a head.
func (c *serverConn) headWait() {
	c.in.deadline = time.Now().Add(c.server.limits.HeadTimeout)
	_ = c.SetReadDeadline(c.in.deadline)
}

// bodyWait starts the time for the next piece of the body.
func (c *serverConn) bodyWait() error {
	c.in.within(c.server.limits.BodyTimeout, time.Now())
	if c.interrupted.Load() {
		_ = c.SetReadDeadline(past)
	}
	return nil
}

// handOver passes the connection on to HTTP/2.
func (c *serverConn) handOver() {
	prefix := append([]byte(preface), c.in.buf[c.in.r:c.in.w]...)
	_ = c.SetDeadline(time.Time{})
	c.server.Preface(c.Conn, prefix)
}

// refuse answers a request that could not be parsed. Without a request it sends nothing.
func (c *serverConn) refuse(err error) {
	var refused *refusal
	var timeout net.Error
	switch {
	case errors.As(err, &refused):
	case errors.As(err, &timeout) && timeout.Timeout() && c.in.buffered() > 0 && c.state.Load() == stateActive:
		refused = &refusal{408, "the request's head did not arrive in time"}
	default:
		return
	}
	c.keep = false
	reason := c.server.core.Refused(&c.x, refused.status)
	text := "mirrorgate: " + refused.detail + "\n"
	out := message.AppendStatus(buffer.Small()[:0], refused.status, http.StatusText(refused.status))
	if !c.server.core.HidesReason() {
		out = message.AppendField(out, core.ReasonField, string(reason))
	}
	out = message.AppendField(out, "Content-Type", "text/plain; charset=utf-8")
	out = message.AppendField(out, "Content-Length", strconv.Itoa(len(text)))
	out = message.AppendField(out, "Connection", "close")
	out = append(append(out, crlf...), text...)
	_ = c.to.write(out)
	buffer.Recycle(out)
	c.linger()
}

// finish ends the exchange and reports whether another may follow.
func (c *serverConn) finish() bool {
	buffer.Recycle(c.out)
	c.out = nil
	r := &c.x.Request
	r.Method, r.Target, r.Authority, r.Fields = "", "", "", r.Fields[:0]
	if c.aborted {
		if c.framed {
			c.linger() // a slow client still gets the bytes that the kernel holds, and notices that there are too few
		} else {
			reset(c.Conn)
		}
		return false
	}
	if !c.keep || !c.body.Done() || c.interrupted.Load() {
		if !c.body.Done() || c.in.buffered() > 0 {
			c.linger()
		}
		return false
	}
	c.in.release()
	return true
}

// reset closes a connection so that the peer cannot take the bytes it received for the whole message.
func reset(conn net.Conn) {
	conn = belowTLS(conn)
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// belowTLS returns the connection that carries a TLS connection, or conn itself without TLS.
func belowTLS(conn net.Conn) net.Conn {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return secure.NetConn()
	}
	return conn
}

// linger closes the sending half and reads for a while. If the connection were closed at once, with unread
// bytes, the kernel would reset it and the client might never see the answer.
func (c *serverConn) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	scratch := buffer.Small()
	defer buffer.Recycle(scratch)
	for n := 0; n < lingerBytes; {
		m, err := c.Read(scratch)
		if err != nil {
			return
		}
		n += m
	}
}

// Next implements core.Body for the request, as do Ready, Whole and Trailers.
func (c *serverConn) Next() ([]byte, error) {
	p, err := c.body.Next()
	if c.body.Done() {
		c.whole.Store(true)
	}
	return p, err
}

// Ready reports whether Next returns without waiting.
func (c *serverConn) Ready() bool { return c.body.Ready() }

// Whole reports whether the rest of the body has arrived.
func (c *serverConn) Whole() bool { return c.body.Whole() }

// Trailers returns the fields after the request's body.
func (c *serverConn) Trailers() []message.Field { return c.body.Trailers() }

// Interrupt implements core.Downstream.
func (c *serverConn) Interrupt() {
	c.interrupted.Store(true)
	_ = c.SetReadDeadline(past)
}

// Gone implements core.Downstream. A reset leaves an error at the socket, which can be read once. A client that
// closes its connection cannot be told from one that closes its sending half, until bytes are sent to it.
func (c *serverConn) Gone() bool {
	code, closed := 0, false
	err := c.socket(func(fd uintptr) {
		code, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		closed = !c.server.limits.HalfClose && socket.ClosedByPeer(fd)
	})
	if err != nil || code != 0 || closed {
		c.gone.Store(true)
	}
	return c.gone.Load()
}

// pending reports whether the socket has bytes, or its end, to read.
func (c *serverConn) pending() bool {
	var got error
	err := c.socket(func(fd uintptr) { got = socket.Peek(fd) })
	return err == nil && !errors.Is(got, syscall.EAGAIN)
}

// socket calls do with the descriptor of the connection, also below TLS. It does nothing for a connection
// without one, as in a test.
func (c *serverConn) socket(do func(fd uintptr)) error {
	below, ok := belowTLS(c.Conn).(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := below.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(do)
}

// writeWithin moves the deadline of writes, if it is more than an eighth too early.
func (c *serverConn) writeWithin() {
	d := c.server.limits.BodyTimeout
	if now := time.Now(); c.lastWrite.Sub(now) < d-d/8 {
		c.lastWrite = now.Add(d)
		_ = c.SetWriteDeadline(c.lastWrite)
	}
}
