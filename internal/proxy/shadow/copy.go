package shadow

import (
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Copy is a shadow request: a head and a body of its own, so that nothing ties it to the request
// it was made from; at most it borrows the body until Submit returns. From Admit until Submit or
// Discard it belongs to one goroutine.
type Copy struct {
	// IsHead says that the method is HEAD, so that the answer has no body; Chunked that the
	// request's body came without a length.
	IsHead, Chunked bool
	// Trailers are copied by Trail.
	Trailers []message.Field
	// Begin is when the copy is sent, and Until when the answer must have been read.
	Begin, Until time.Time
	// End is when the answer had been read; the Sender sets it.
	End time.Time
	// Latency is from the copy sent to the head of its final answer; the Sender sets it. 0 if the
	// answer came earlier.
	Latency time.Duration
	// Spent says that there is no connection, and may be no further one; the Sender sets it.
	Spent bool

	queue    *Queue
	endpoint *upstream.Endpoint
	observer Observer
	compare  *Comparison
	maxBody  int64
	timeout  time.Duration
	buf      []byte
	head     int
	// borrowed is a body that is the request's, as long as it is; lent is how long it was.
	borrowed []byte
	lent     int
	reserved int64
	next     *Copy
	answered Answered
}

// Timed says that Latency is wanted.
func (c *Copy) Timed() bool { return c.compare != nil }

// Wire is the head in HTTP/1.1's format and the bytes of the body. Of a Sender that must not wait, they
// may be the request's: what is not sent when Send returns is to be kept first.
func (c *Copy) Wire() (head, body []byte) {
	if c.borrowed != nil {
		return c.buf[:c.head], c.borrowed
	}
	return c.buf[:c.head], c.buf[c.head:]
}

// Size is how many bytes Wire is.
func (c *Copy) Size() int { return len(c.buf) + len(c.borrowed) }

// Keep makes the copy independent of the request.
func (c *Copy) Keep() {
	c.buf = append(c.buf, c.borrowed...) // room was made
	c.borrowed, c.lent = nil, 0
}

// Return gives back what was borrowed: it has been sent.
func (c *Copy) Return() { c.borrowed = nil }

// Outgoing takes the head apart again, for a protocol that does not send it as it is.
func (c *Copy) Outgoing() message.Outgoing {
	first, rest, _ := strings.Cut(string(c.buf[:c.head]), "\r\n")
	req := &message.Request{Length: int64(len(c.buf) - c.head)}
	out := message.Outgoing{Request: req}
	req.Method, first, _ = strings.Cut(first, " ")
	req.Target, _, _ = strings.Cut(first, " ")
	out.Target = req.Target
	req.Path, req.Query, _ = strings.Cut(req.Target, "?")
	for line := range strings.SplitSeq(rest, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && !message.Is(name, "transfer-encoding") {
			req.Fields = append(req.Fields, message.Field{Name: name, Value: value})
			if message.Is(name, "host") {
				out.Authority = value
			}
		}
	}
	return out
}

// Line returns method, target and Host as they are sent, valid as long as the copy is.
func (c *Copy) Line() (method, target, host string) {
	first, _, _ := strings.Cut(buffer.View(c.buf[:c.head]), "\r\n")
	method, rest, _ := strings.Cut(first, " ")
	target, _, _ = strings.Cut(rest, " ")
	host, _ = c.Get("host")
	return method, target, host
}

// Get returns the first field of that name, which is in lower case, valid as long as the copy is.
func (c *Copy) Get(name string) (string, bool) {
	for rest := buffer.View(c.buf[:c.head]); rest != ""; {
		var line string
		line, rest, _ = strings.Cut(rest, "\r\n")
		if len(line) > len(name) && line[len(name)] == ':' && message.Is(line[:len(name)], name) {
			return line[len(name)+len(": "):], true
		}
	}
	return "", false
}

// Write appends a piece of the body. If that is too much the copy is dropped, and must not be used
// any more: Write returns false.
func (c *Copy) Write(p []byte) bool {
	size := len(c.buf) + len(p)
	if int64(size-c.head) > c.maxBody {
		c.Discard(TooLarge)
		return false
	}
	if !c.grow(size) {
		c.Discard(Budget)
		return false
	}
	c.buf = append(c.buf, p...)
	return true
}

// Borrow is Write of the whole body, which stays as it is until Submit has returned or the copy is
// discarded. It is copied only if it cannot be sent by then, but counts as if it were.
func (c *Copy) Borrow(p []byte) bool {
	kept := len(c.buf)
	if len(p) < borrowFrom || kept > c.head {
		return c.Write(p)
	}
	if int64(len(p)) > c.maxBody {
		c.Discard(TooLarge)
		return false
	}
	if !c.grow(kept + len(p)) {
		c.Discard(Budget)
		return false
	}
	c.borrowed, c.lent = p, len(p)
	return true
}

// borrowFrom is from how many bytes on it is worth it.
const borrowFrom = 4 << 10

// Trail keeps the trailers.
func (c *Copy) Trail(fields []message.Field) { c.Trailers = append(c.Trailers[:0], fields...) }

// grow makes room for size bytes in all. What counts is what is held, not what is used.
func (c *Copy) grow(size int) bool {
	if size <= cap(c.buf) {
		return true
	}
	want := buffer.LargeSize
	if size > want {
		want = max(size, min(2*cap(c.buf), c.head+int(c.maxBody)))
	}
	if !c.queue.reserve(int64(want)) {
		return false
	}
	var bigger []byte
	if want == buffer.LargeSize {
		bigger = buffer.Large()
	} else {
		bigger = make([]byte, want)
	}
	bigger = bigger[:copy(bigger, c.buf)]
	buffer.Recycle(c.buf)
	c.queue.held.Add(-c.reserved)
	c.buf, c.reserved = bigger, int64(want)
	return true
}

// Submit hands the copy over to be sent. It never waits.
func (c *Copy) Submit() { c.queue.submit(c) }

// Discard drops the copy.
func (c *Copy) Discard(why Reason) {
	c.observer.Dropped(why)
	c.free()
}

func (c *Copy) free() {
	c.queue.held.Add(-c.reserved)
	buffer.Recycle(c.buf)
	trailers := c.Trailers[:0]
	clear(c.Trailers)
	*c = Copy{Trailers: trailers}
	copies.Put(c)
}
