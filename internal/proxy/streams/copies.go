// Copies over HTTP/2: nothing waits for their answers but their connection.

package streams

import (
	"os"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Sender sends copies over a Transport. It implements shadow.Sender.
type Sender struct {
	Transport *Transport
}

// Send implements shadow.Sender. Without wait it sends over a connection that is open and has room for the whole copy.
func (s *Sender) Send(to *upstream.Endpoint, c *shadow.Copy, wait bool) bool {
	t := s.Transport
	if !wait {
		t.mu.Lock()
		var b *backend
		if g := t.groups[to]; g != nil {
			b = g.find()
		}
		t.mu.Unlock()
		if b == nil {
			c.Spent = to.Spent()
			return false
		}
		return b.sendNow(c, to.Secured())
	}
	s.send(to, c, 0)
	return true
}

// mostTries is how often a copy is sent again that the variant has refused, and mostConnections how often one whose
// connection ended before it was processed: the limit of new connections ends that sooner.
const (
	mostTries       = 3
	mostConnections = 100
)

// send sends a copy, and opens a connection for it if there is none.
func (s *Sender) send(to *upstream.Endpoint, c *shadow.Copy, tries int) {
	b, _, err := s.Transport.take(to, false, c.Until)
	if err != nil {
		c.End = time.Now()
		c.Done(0, err)
		return
	}
	b.sendCopy(c, to.Secured(), tries)
}

// newCopyCall returns the call of a copy. b.mu is held.
func (b *backend) newCopyCall(c *shadow.Copy) *call {
	id := b.lastID + 2
	if b.lastID == 0 {
		id = 1
	}
	b.lastID = id
	a := &call{flow: newFlow(), arrived: make(chan struct{}, 1), backend: b, copied: c, isHead: c.IsHead}
	a.call = a
	a.reset(b.conn, id)
	a.window = b.initialWindow
	b.streams[id] = &a.flow
	a.timer = time.AfterFunc(time.Until(c.Until), a.expire)
	return a
}

// expire ends a copy that takes too long.
func (a *call) expire() {
	b := a.backend
	b.mu.Lock()
	if b.streams[a.id] == &a.flow {
		b.cutoff(&a.flow)
		a.status = 0
		a.finishCopy(os.ErrDeadlineExceeded)
		signal(a.writable)
	}
	b.post()
	b.ended()
}

// sendNow sends a copy without waiting, and returns false if it cannot.
func (b *backend) sendNow(c *shadow.Copy, secured bool) bool {
	head, body := c.Wire()
	block := appendWire(buffer.Small()[:0], head, secured)
	defer buffer.Recycle(block)
	b.mu.Lock()
	if n := int64(len(body)); b.err != nil || b.goAway || len(b.out) > mostOut || n > buffer.LargeSize || n > min(b.window, b.initialWindow) {
		b.leave()
		b.mu.Unlock()
		return false
	}
	a := b.newCopyCall(c)
	a.sendHead(block, len(body) == 0)
	if len(body) > 0 {
		a.window -= int64(len(body))
		b.window -= int64(len(body))
		a.sendBody(body)
	}
	a.sentAt = c.Begin
	if c.Timed() {
		a.sentAt = time.Now()
	}
	c.Return()
	_, rest := c.Wire()
	a.lent = len(rest) < len(body)
	b.mu.Unlock()
	if b.flushControl() != nil {
		go b.flush()
	}
	return true
}

// sendHead appends the head of a copy. conn.mu is held.
func (a *call) sendHead(block []byte, ends bool) {
	flags := uint8(0)
	if ends {
		flags, a.localClosed = flagEndStream, true
	}
	a.conn.appendHead(a.id, flags, block)
}

// sendBody appends the whole body. conn.mu is held.
func (a *call) sendBody(body []byte) {
	a.flow.copied(body, len(a.copied.Trailers) == 0)
	if len(a.copied.Trailers) > 0 {
		a.conn.appendHead(a.id, flagEndStream, appendTrailers(nil, a.copied.Trailers))
	}
	a.localClosed = true
}

func appendTrailers(dst []byte, trailers []message.Field) []byte {
	for _, f := range trailers {
		dst = appendField(dst, f.Name, f.Value)
	}
	return dst
}

// sendCopy sends a copy, and waits for the backend's windows. The copy may end meanwhile: so its body is read under the
// connection's lock, or from memory of its own.
func (b *backend) sendCopy(c *shadow.Copy, secured bool, tries int) {
	head, body := c.Wire()
	block := appendWire(buffer.Small()[:0], head, secured)
	own := append([]byte(nil), body...)
	trailers := append([]message.Field(nil), c.Trailers...)
	b.mu.Lock()
	if b.err != nil || b.goAway {
		b.leave()
		b.mu.Unlock()
		buffer.Recycle(block)
		if tries < mostConnections { // nothing was sent
			(&Sender{b.transport}).send(b.to, c, tries+1)
			return
		}
		c.End = time.Now()
		c.Done(0, upstream.ErrConnect)
		return
	}
	a := b.newCopyCall(c)
	a.tries = tries
	a.sendHead(block, len(own) == 0)
	buffer.Recycle(block)
	a.sentAt = time.Now()
	if len(own) > 0 {
		if err := a.transmitBody(own, len(trailers) == 0); err == nil && len(trailers) > 0 {
			b.appendHead(a.id, flagEndStream, appendTrailers(nil, trailers))
			a.localClosed = true
		}
		a.sentAt = time.Now()
	}
	b.post()
}

// headOfCopy takes the head of a copy's answer. conn.mu is held.
func (a *call) headOfCopy() {
	c := a.copied
	if c.Timed() {
		c.Latency = time.Since(a.sentAt)
	}
	a.status = a.head.Status
	c.Capture.Head(&a.head)
}

// finishCopy ends a copy; its Done follows outside conn.mu, which is held.
func (a *call) finishCopy(err error) {
	b := a.backend
	delete(b.streams, a.id)
	if err == nil && !a.localClosed {
		b.out = appendReset(b.out, a.id, codeCancel)
	}
	a.localClosed, a.lost, a.err = true, true, err
	if err != nil {
		a.status = 0
	}
	a.copied.End = time.Now()
	a.free()
	b.finished = append(b.finished, a)
	b.leave()
	signal(a.writable)
}

// appendWire appends the head of a copy, which is in the format of HTTP/1.1.
func appendWire(dst, wire []byte, secured bool) []byte {
	line, rest, _ := strings.Cut(buffer.View(wire), "\r\n")
	method, line, _ := strings.Cut(line, " ")
	target, _, _ := strings.Cut(line, " ")
	host := ""
	for lines := rest; lines != ""; {
		var field string
		field, lines, _ = strings.Cut(lines, "\r\n")
		if name, value, ok := strings.Cut(field, ": "); ok && message.Is(name, "host") {
			host = value
			break
		}
	}
	dst = appendRequestLine(dst, method, target, host, secured)
	for lines := rest; lines != ""; {
		var field string
		field, lines, _ = strings.Cut(lines, "\r\n")
		name, value, ok := strings.Cut(field, ": ")
		if !ok || message.Is(name, "host") || message.HopByHop(name) && !message.Is(name, "te") || message.Is(name, "expect") {
			continue
		}
		dst = appendField(dst, name, value)
	}
	return dst
}
