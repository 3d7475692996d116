// A client's connection: its bytes become frames here; input.go and head.go say what each frame does, output.go writes.

package streams

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/socket"
)

const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// mostStreams is how many exchanges of one connection run at once. An exchange that was reset counts until it has
	// ended, so that resets do not buy further ones.
	mostStreams = 250
	// streamWindow and connWindow are how many bytes of one request's body, and of all of a connection, may be unread.
	streamWindow = 256 << 10
	connWindow   = 1 << 20
	// pingAfter is how long a client with open streams may be silent before a PING checks it, and pingTimeout how long
	// its answer may take.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// lingerTime is how long the client may take to read the last bytes of a connection that ends.
	lingerTime = time.Second
)

// conn is a client's connection.
type conn struct {
	net.Conn
	server *Server // of a client's connection
	side   side
	limits *h1.Limits
	// streamWindow and connWindow are how many bytes the peer may send before they are read, on a stream and in all.
	streamWindow, connWindow int64
	raw                      syscall.RawConn // nil under TLS
	remote                   string

	// The goroutine that reads owns the fields up to mu. in[r:w] are the bytes that were read and not used.
	in       []byte
	r, w     int
	n        int
	inErr    error
	full     bool // the last read filled the buffer
	big      bool // the next buffer is a large one
	pullFunc func(fd uintptr) bool
	deadline time.Time
	heard    time.Time // when the last bytes arrived
	pinged   bool
	// partialSince is when the frame, or header block, began that has not ended.
	partialSince time.Time
	greeted      bool // the client's first SETTINGS have arrived
	decoder      *hpack.Decoder
	head         head
	// block is a header block that is not complete, of the stream blockOf; blockSince is when it began.
	block      []byte
	blockOf    uint32
	blockFlags uint8
	blockSince time.Time
	blockParts int
	credit     credit
	// pingAfter is how long a peer with open streams may be silent before a PING checks it. idle is how long the
	// connection may have no stream, if not as the limits say.
	pingAfter, idle time.Duration
	// ready are streams whose requests have bodies that may arrive with this read.
	ready []*stream

	mu      sync.Mutex
	err     error // why the connection has ended
	streams map[uint32]*flow
	running int
	// lastID is the last stream that the client has opened. goAway is set when it was told to open no more, up to
	// goAwayID; last when the connection ends after its exchanges, and ending when it does.
	lastID, goAwayID     uint32
	goAway, last, ending bool
	lingersUntil         time.Time
	emptySince           time.Time // when the last exchange ended
	// reset remembers the streams that were reset here: their clients may not know yet.
	reset   [32]uint32
	resetAt int
	// unread is the number of bytes that the client may still send, owed those of which it is to be told.
	unread, owed int64
	output
}

// side is the end of a connection that is not the peer's.
type side interface {
	// takeBlock takes a whole header block.
	takeBlock(id uint32, flags uint8, block []byte) error
	// takeLeave takes GOAWAY.
	takeLeave(last uint32)
	// field takes a field from the decoder.
	field(f hpack.HeaderField)
	// data takes bytes of a body whose flow control has been done, and reports whether it kept them. conn.mu is held.
	data(f *flow, p []byte, ends bool) (taken bool)
	// ended is called outside conn.mu after each frame.
	ended()
}

func newConn(nc net.Conn, limits *h1.Limits, streamWindow, connWindow int64) *conn {
	c := &conn{
		Conn: nc, limits: limits, streamWindow: streamWindow, connWindow: connWindow, unread: connWindow,
		remote: nc.RemoteAddr().String(), streams: map[uint32]*flow{}, emptySince: time.Now(),
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.pullFunc = c.pull
	c.init(c)
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) { c.side.field(f) })
	c.decoder.SetMaxStringLength(2 * limits.Head)
	return c
}

// newServerConn returns a client's connection.
func newServerConn(s *Server, nc net.Conn, prefix []byte) *conn {
	c := newConn(nc, &s.limits, streamWindow, connWindow)
	c.server = s
	c.head.conn = c
	c.side = (*serverSide)(c)
	c.pingAfter = pingAfter
	if len(prefix) > 0 {
		c.in = buffer.Large()
		c.w = copy(c.in, prefix)
	}
	return c
}

// serverSide is the server's end of a connection.
type serverSide conn

func (s *serverSide) takeBlock(id uint32, flags uint8, block []byte) error {
	return (*conn)(s).takeRequestBlock(id, flags, block)
}

func (s *serverSide) field(f hpack.HeaderField)     { s.head.field(f) }
func (s *serverSide) takeLeave(uint32)              {}
func (s *serverSide) data(*flow, []byte, bool) bool { return false }
func (s *serverSide) ended()                        {}

// serve reads frames until the connection ends, and waits for its exchanges.
func (c *conn) serve() {
	c.mu.Lock()
	c.out = appendSettings(c.out, settingStreams, mostStreams, settingWindow, streamWindow, settingHeaderList, uint32(2*c.limits.Head)) //nolint:gosec // far below
	c.out = appendWindow(c.out, 0, connWindow-defaultWindow)
	if c.last {
		c.tellGoAway(codeNo)
	}
	c.mu.Unlock()
	c.loop(c.readPreface)
}

// loop reads frames until the connection ends.
func (c *conn) loop(first func() error) {
	c.heard = time.Now()
	err := first()
	for err == nil {
		if err = c.readFrame(); err == nil {
			c.side.ended()
		}
	}
	c.begin() // the exchanges see that their client has gone
	if failed, ok := errors.AsType[*connError](err); ok {
		c.endWith(failed.code)
	}
	c.fail(err)
	buffer.Recycle(c.in)
	c.in = nil
}

// connError ends the connection with a code.
type connError struct {
	code code
	text string
}

func (e *connError) Error() string { return "http2: " + e.text }

func (c *conn) readPreface() error {
	if err := c.need(len(preface)); err != nil {
		return err
	}
	if string(c.in[c.r:c.r+len(preface)]) != preface {
		return &connError{codeProtocol, "malformed preface"}
	}
	c.r += len(preface)
	return nil
}

// readFrame reads the next frame and does as it says.
func (c *conn) readFrame() error {
	if err := c.need(frameHeader); err != nil {
		return err
	}
	f, length := parseFrame(c.in[c.r:])
	if length > maxFrame {
		return &connError{codeFrameSize, "frame too large"}
	}
	if err := c.need(frameHeader + length); err != nil {
		return err
	}
	payload := c.in[c.r+frameHeader : c.r+frameHeader+length]
	c.r += frameHeader + length
	switch {
	case !c.greeted && (f.kind != frameSettings || f.has(flagAck)):
		return &connError{codeProtocol, "no SETTINGS at the start"}
	case c.blockOf != 0 && (f.kind != frameContinuation || f.stream != c.blockOf):
		return &connError{codeProtocol, "a frame inside a header block"}
	}
	return c.take(f, payload)
}

// need reads until n bytes are buffered.
func (c *conn) need(n int) error {
	for c.w-c.r < n {
		c.makeRoom(n)
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom prepares the buffer for n bytes in one piece.
func (c *conn) makeRoom(n int) {
	c.big = c.full || n > buffer.SmallSize
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
		if c.in != nil && c.big && cap(c.in) < buffer.LargeSize {
			buffer.Recycle(c.in)
			c.in = nil
		}
	case c.big && cap(c.in) < buffer.LargeSize:
		bigger := buffer.Large()
		c.r, c.w = 0, copy(bigger, c.in[c.r:c.w])
		buffer.Recycle(c.in)
		c.in = bigger
	case c.r+n > len(c.in):
		c.r, c.w = 0, copy(c.in, c.in[c.r:c.w])
	}
}

// takeBuffer takes a buffer, if there is none.
func (c *conn) takeBuffer() {
	switch {
	case c.in != nil:
	case c.big:
		c.in = buffer.Large()
	default:
		c.in = buffer.Small()
	}
}

// fill waits for bytes. Before, it does what the frames have asked for that were read so far.
func (c *conn) fill() error {
	c.begin()
	if err := c.flushControl(); err != nil {
		return err
	}
	for {
		now := time.Now()
		if !c.partial() {
			c.partialSince = time.Time{}
		} else if c.partialSince.IsZero() {
			c.partialSince = now
		}
		c.within(now)
		err := c.read()
		if err == nil {
			c.heard, c.pinged = time.Now(), false
			if !c.partialSince.IsZero() && c.heard.Sub(c.partialSince) > c.partialLimit() {
				return errLate
			}
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := c.silent(time.Now()); err != nil {
			return err
		}
	}
}

var errLate = &connError{codeNo, "a frame does not arrive in time"}

// partial reports whether a frame, or a header block, has begun and not ended.
func (c *conn) partial() bool { return !c.greeted || c.blockOf != 0 || c.r < c.w }

// partialLimit is how long a frame or a header block may take.
func (c *conn) partialLimit() time.Duration {
	limits := c.limits
	if c.greeted && c.blockOf == 0 && c.w-c.r > 3 && frameType(c.in[c.r+3]) == frameData {
		return limits.BodyTimeout
	}
	return limits.HeadTimeout
}

// read reads once.
func (c *conn) read() error {
	if c.raw == nil {
		c.takeBuffer()
		n, err := c.Read(c.in[c.w:])
		c.w += n
		c.full = c.w == len(c.in)
		if n > 0 {
			return nil
		}
		return err
	}
	c.n, c.inErr = 0, nil
	if err := c.raw.Read(c.pullFunc); err != nil {
		return err
	}
	c.w += c.n
	c.full = c.n > 0 && c.w == len(c.in)
	return c.inErr
}

// pull reads from the socket, into a buffer that it takes only now. It returns false if it would have to wait.
func (c *conn) pull(fd uintptr) bool {
	c.takeBuffer()
	n, err := socket.Receive(fd, c.in[c.w:])
	if n > 0 {
		c.n = n
		return true
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		if c.r == c.w { // an idle connection has no buffer
			buffer.Recycle(c.in)
			c.in, c.r, c.w = nil, 0, 0
		}
		return false
	case errors.Is(err, syscall.EINTR):
		return c.pull(fd)
	case err == nil:
		err = io.EOF
	}
	c.inErr = err
	return true
}

// within sets the deadline of the next read, coarsely.
func (c *conn) within(now time.Time) {
	d := c.readLimit()
	if left := c.deadline.Sub(now); left < d-d/8 || left > d+d/8 {
		c.deadline = now.Add(d)
		_ = c.SetReadDeadline(c.deadline)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err != nil || !c.lingersUntil.IsZero() {
			c.shorten()
		}
	}
}

// readLimit is how long a read may take before silent looks at the connection.
func (c *conn) readLimit() time.Duration {
	limits := c.limits
	switch {
	case c.pinged:
		return pingTimeout
	case c.partial() && c.partialLimit() < limits.BodyTimeout:
		return min(limits.HeadTimeout, c.pingAfter)
	}
	return min(c.pingAfter, c.idleTimeout())
}

// idleTimeout is how long the connection may have no stream.
func (c *conn) idleTimeout() time.Duration {
	if c.idle > 0 {
		return c.idle
	}
	return c.limits.IdleTimeout
}

// silent decides about a client that has sent nothing for a while: an error ends the connection.
func (c *conn) silent(now time.Time) error {
	c.deadline = time.Time{}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case !c.lingersUntil.IsZero():
		return net.ErrClosed
	case !c.partialSince.IsZero() && now.Sub(c.partialSince) >= c.partialLimit()*7/8:
		return errLate
	case c.running == 0:
		if idle := c.idleTimeout(); now.Sub(later(c.emptySince, c.heard)) >= idle-idle/8 {
			c.goAway, c.goAwayID = true, c.lastID
			return &connError{codeNo, "idle"}
		}
		return nil
	case c.pinged:
		return &connError{codeNo, "a PING was not answered"}
	case now.Sub(c.heard) >= c.pingAfter-c.pingAfter/8:
		c.pinged = true
		c.out = append(appendFrame(c.out, 8, frame{kind: framePing}), "mirrorgt"...)
		go c.flush()
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// begin starts the exchanges whose heads have arrived.
func (c *conn) begin() {
	for i, s := range c.ready {
		c.ready[i] = nil
		s.begin <- struct{}{}
	}
	c.ready = c.ready[:0]
}

// fail ends the connection for all its streams.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if err == nil {
		err = net.ErrClosed
	}
	c.err = err
	for _, s := range c.streams {
		s.cut = true
		s.unprocessed = s.unprocessed || s.id > c.takenID
		s.lose()
	}
	c.changed.Broadcast()
	_ = c.SetDeadline(past)
	_ = c.Close()
}

var past = time.Unix(1, 0)

// shorten makes the read that is under way end, at once or after the time to linger.
func (c *conn) shorten() {
	at := past
	if c.err == nil {
		at = c.lingersUntil
	}
	_ = c.SetReadDeadline(at)
}

// tellGoAway asks the client to open no further stream. c.mu is held.
func (c *conn) tellGoAway(why code) {
	if c.goAway {
		return
	}
	c.goAway, c.goAwayID = true, c.lastID
	c.out = appendGoAway(c.out, c.lastID, why)
}

// retire asks the client to open another connection, and ends this one once its exchanges have ended.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	c.tellGoAway(codeNo)
	go c.flush()
	c.endIfDone()
}

// endIfDone ends the connection if the client was told so and no exchange is left. c.mu is held.
func (c *conn) endIfDone() {
	if !c.goAway || c.running > 0 || c.ending || c.err != nil {
		return
	}
	c.ending = true
	go func() {
		c.flush()
		c.closeWrite()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lingersUntil = time.Now().Add(lingerTime)
		c.shorten()
	}()
}

// closeWrite ends the sending half, so that the client reads everything before it sees the end.
func (c *conn) closeWrite() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// endWith tells the client why the connection ends.
func (c *conn) endWith(why code) {
	c.mu.Lock()
	c.out = appendGoAway(c.out, c.lastID, why)
	c.mu.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(lingerTime))
	c.flush()
	c.closeWrite()
	_ = c.SetReadDeadline(time.Now().Add(lingerTime / 4))
	scratch := buffer.Small()
	defer buffer.Recycle(scratch)
	for n := 0; n < 1<<20; {
		m, err := c.Read(scratch)
		if err != nil {
			return
		}
		n += m
	}
}
