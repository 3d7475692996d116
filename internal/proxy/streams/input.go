// What each frame of a client does, and how many of them that do no work it may send.

package streams

import (
	"encoding/binary"
	"time"
)

// credit bounds the frames that cost work and carry none: PINGs, SETTINGS, resets, priorities, updates of windows,
// empty DATA. Answers earn credit, and so does time.
type credit struct {
	left int
	at   time.Time
}

const (
	// creditBurst is how many such frames may come at once, and creditRate how many in a second for ever.
	creditBurst = 10_000
	creditRate  = 500
	// Prices.
	priceFrame    = 1
	priceReset    = 2
	priceSettings = 20
	priceEmpty    = 5
)

var errExcess = &connError{codeExcess, "too many frames that do nothing"}

// spend takes credit, and returns an error if there is none.
func (c *conn) spend(price int) error {
	c.credit.left -= price
	if c.credit.left >= 0 {
		return nil
	}
	now := time.Now()
	if c.credit.at.IsZero() {
		c.credit.left = creditBurst - price
	} else {
		c.credit.left = min(c.credit.left+int(now.Sub(c.credit.at).Seconds()*creditRate), creditBurst)
	}
	c.credit.at = now
	c.mu.Lock()
	c.credit.left, c.earned = min(c.credit.left+c.earned, creditBurst), 0
	c.mu.Unlock()
	if c.credit.left < 0 {
		return errExcess
	}
	return nil
}

// take does as a frame says. An error ends the connection.
func (c *conn) take(f frame, p []byte) error {
	switch f.kind {
	case frameData:
		return c.takeData(f, p)
	case frameHeaders:
		return c.takeHeaders(f, p)
	case frameContinuation:
		return c.takeContinuation(f, p)
	case framePriority:
		return c.takePriority(f, p)
	case frameReset:
		return c.takeReset(f, p)
	case frameSettings:
		return c.takeSettings(f, p)
	case framePing:
		return c.takePing(f, p)
	case frameGoAway:
		if f.stream != 0 {
			return &connError{codeProtocol, "GOAWAY on a stream"}
		}
		if len(p) < 8 {
			return &connError{codeFrameSize, "GOAWAY of a wrong length"}
		}
		c.side.takeLeave(binary.BigEndian.Uint32(p) & maxWindow)
	case frameWindow:
		return c.takeWindow(f, p)
	case framePush:
		return &connError{codeProtocol, "PUSH_PROMISE from a client"}
	}
	return c.spend(priceFrame)
}

// unpad returns a payload without its padding.
func unpad(f frame, p []byte) ([]byte, error) {
	if !f.has(flagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, &connError{codeFrameSize, "no length of padding"}
	}
	n := int(p[0])
	if n >= len(p) {
		return nil, &connError{codeProtocol, "padding longer than its frame"}
	}
	return p[1 : len(p)-n], nil
}

// idle reports whether a stream was never opened.
func (c *conn) isIdle(id uint32) bool { return id%2 == 0 || id > c.lastID }

// ignores reports whether a client was told that its stream is not taken. c.mu is held.
func (c *conn) ignores(id uint32) bool { return c.server != nil && c.goAway && id > c.goAwayID }

func (c *conn) takeData(f frame, p []byte) error {
	if f.stream == 0 {
		return &connError{codeProtocol, "DATA without a stream"}
	}
	size := len(p)
	p, err := unpad(f, p)
	if err != nil {
		return err
	}
	if len(p) == 0 && !f.has(flagEndStream) {
		if err := c.spend(priceEmpty); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ignores(f.stream) {
		return nil
	}
	if c.isIdle(f.stream) {
		return &connError{codeProtocol, "DATA on an idle stream"}
	}
	if c.unread -= int64(size); c.unread < 0 {
		return &connError{codeFlowControl, "more bytes than the connection's window"}
	}
	s := c.streams[f.stream]
	switch {
	case s == nil || s.remoteClosed:
		c.giveBack(size)
		if s == nil && c.wasReset(f.stream) {
			return nil
		}
		c.resetStream(f.stream, s, codeStreamClosed)
	case int64(size) > s.unread:
		c.giveBack(size)
		c.resetStream(f.stream, s, codeFlowControl)
	default:
		s.unread -= int64(size)
		c.giveBack(size - len(p)) // padding
		s.giveBack(size - len(p))
		c.keep(s, p, f.has(flagEndStream))
	}
	return nil
}

// keep appends bytes to the body of a request. c.mu is held.
func (c *conn) keep(s *flow, p []byte, ends bool) {
	if s.left >= 0 {
		if s.left -= int64(len(p)); s.left < 0 || ends && s.left > 0 {
			c.giveBack(len(p))
			s.malformed = errLength
			c.resetStream(s.id, s, codeProtocol)
			return
		}
	}
	if !c.side.data(s, p, ends) {
		s.append(p)
	}
	s.remoteClosed = s.remoteClosed || ends
	signal(s.readable)
}

func (c *conn) takePriority(f frame, p []byte) error {
	if f.stream == 0 {
		return &connError{codeProtocol, "PRIORITY without a stream"}
	}
	if len(p) != 5 {
		return &connError{codeFrameSize, "PRIORITY of a wrong length"}
	}
	if binary.BigEndian.Uint32(p)&maxWindow == f.stream {
		return &connError{codeProtocol, "a stream that depends on itself"}
	}
	return c.spend(priceFrame)
}

func (c *conn) takeReset(f frame, p []byte) error {
	if f.stream == 0 {
		return &connError{codeProtocol, "RST_STREAM without a stream"}
	}
	if len(p) != 4 {
		return &connError{codeFrameSize, "RST_STREAM of a wrong length"}
	}
	if err := c.spend(priceReset); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ignores(f.stream) {
		return nil
	}
	if c.isIdle(f.stream) {
		return &connError{codeProtocol, "RST_STREAM on an idle stream"}
	}
	if s := c.streams[f.stream]; s != nil {
		delete(c.streams, f.stream)
		s.localClosed = true
		s.code = code(binary.BigEndian.Uint32(p))
		s.unprocessed = s.code == codeRefused
		s.lose()
	}
	return nil
}

func (c *conn) takeSettings(f frame, p []byte) error {
	if f.stream != 0 {
		return &connError{codeProtocol, "SETTINGS on a stream"}
	}
	if f.has(flagAck) {
		if len(p) != 0 {
			return &connError{codeFrameSize, "SETTINGS that acknowledge and set"}
		}
		return c.spend(priceFrame)
	}
	if len(p)%6 != 0 {
		return &connError{codeFrameSize, "SETTINGS of a wrong length"}
	}
	if c.greeted {
		if err := c.spend(priceSettings + len(p)/6); err != nil {
			return err
		}
	}
	c.greeted = true
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(p) > 0; p = p[6:] {
		if err := c.set(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.out = appendFrame(c.out, 0, frame{kind: frameSettings, flags: flagAck})
	return nil
}

// set takes one setting of the client. c.mu is held.
func (c *conn) set(id uint16, value uint32) error {
	switch id {
	case settingTableSize:
		c.tableChanged = true
	case settingStreams:
		c.mostCalls = int(min(value, maxCalls))
	case settingPush:
		if value > 1 {
			return &connError{codeProtocol, "ENABLE_PUSH is neither 0 nor 1"}
		}
	case settingWindow:
		if value > maxWindow {
			return &connError{codeFlowControl, "INITIAL_WINDOW_SIZE too large"}
		}
		delta := int64(value) - c.initialWindow
		c.initialWindow = int64(value)
		for _, s := range c.streams {
			if s.window += delta; s.window > maxWindow {
				return &connError{codeFlowControl, "a stream's window too large"}
			}
			signal(s.writable)
		}
	case settingFrameSize:
		if value < maxFrame || value > 1<<24-1 {
			return &connError{codeProtocol, "MAX_FRAME_SIZE out of bounds"}
		}
	}
	return nil
}

func (c *conn) takePing(f frame, p []byte) error {
	if f.stream != 0 {
		return &connError{codeProtocol, "PING on a stream"}
	}
	if len(p) != 8 {
		return &connError{codeFrameSize, "PING of a wrong length"}
	}
	if err := c.spend(priceFrame); err != nil || f.has(flagAck) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(appendFrame(c.out, 8, frame{kind: framePing, flags: flagAck}), p...)
	return nil
}

func (c *conn) takeWindow(f frame, p []byte) error {
	if len(p) != 4 {
		return &connError{codeFrameSize, "WINDOW_UPDATE of a wrong length"}
	}
	if err := c.spend(priceFrame); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 {
		if n == 0 {
			return &connError{codeProtocol, "WINDOW_UPDATE of 0"}
		}
		if c.window += n; c.window > maxWindow {
			return &connError{codeFlowControl, "the connection's window too large"}
		}
		c.wakeNext()
		return nil
	}
	if c.ignores(f.stream) {
		return nil
	}
	if c.isIdle(f.stream) {
		return &connError{codeProtocol, "WINDOW_UPDATE on an idle stream"}
	}
	s := c.streams[f.stream]
	switch {
	case s == nil:
	case n == 0:
		c.resetStream(s.id, s, codeProtocol)
	case s.window+n > maxWindow:
		c.resetStream(s.id, s, codeFlowControl)
	default:
		s.window += n
		signal(s.writable)
	}
	return nil
}

// resetStream ends a stream with a code; s is nil if it has ended before. c.mu is held.
func (c *conn) resetStream(id uint32, s *flow, why code) {
	c.out = appendReset(c.out, id, why)
	c.reset[c.resetAt%len(c.reset)] = id
	c.resetAt++
	if s != nil {
		s.localClosed = true
		delete(c.streams, id)
		s.lose()
	}
}

// wasReset reports whether a stream was reset here of late: frames that its client sent before it knew are ignored.
func (c *conn) wasReset(id uint32) bool {
	for _, other := range c.reset {
		if other == id {
			return true
		}
	}
	return false
}

// giveBack lets the client send n more bytes on the connection. c.mu is held.
func (c *conn) giveBack(n int) {
	if c.owed += int64(n); c.owed >= c.connWindow/4 {
		c.out = appendWindow(c.out, 0, int(c.owed))
		c.unread += c.owed
		c.owed = 0
	}
}
