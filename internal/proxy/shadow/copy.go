package shadow

// A copy of a request, from its head to the moment it is submitted.

import (
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Copy is a shadow request. It has a head and a body of its own, so that it is independent of the original
// request; at most it borrows the body until Submit returns. From Admit until Submit or Discard it must be
// used by one goroutine only.
type Copy struct {
	// IsHead reports whether the method is HEAD, so that the answer has no body. Chunked reports whether the
	// length of the request's body was unknown.
	IsHead, Chunked bool
	// Major is the version of HTTP over which the request arrived.
	Major int
	// Trailers are set by Trail.
	Trailers []message.Field
	// Begin is when sending the copy began, and Until the deadline for reading its answer.
	Begin, Until time.Time
	// End is when the answer had been read. The Sender sets it.
	End time.Time
	// Latency is the time from the end of the copy to the head of its final answer, 0 if the head came first.
	// The Sender sets it.
	Latency time.Duration
	// GRPC is the value of grpc-status in the answer to a call of gRPC, "" for none. The Sender sets it.
	GRPC string
	// Spent reports that there is no idle connection and that the limit of new connections is reached. The
	// Sender sets it.
	Spent bool
	// Capture collects the answer, where it is compared; else nil.
	Capture *Capture
	// Avoid is the address of an endpoint that the copy goes to only if there is no other.
	Avoid string

	queue    *Queue
	endpoint *upstream.Endpoint
	observer Observer
	compare  *Comparison
	maxBody  int64
	timeout  time.Duration
	buf      []byte
	head     int
	// borrowed is the body while it is still in the request's memory, and lent its length.
	borrowed []byte
	lent     int
	reserved int64
	next     *Copy
	answered Answered
}

// Timed reports whether the Sender must set Latency.
func (c *Copy) Timed() bool { return c.compare != nil || c.Capture != nil }

// Wire returns the head in HTTP/1.1's format and the body. The body may be borrowed from the request: a
// Sender that has not sent all of it when Send returns must call Keep first.
func (c *Copy) Wire() (head, body []byte) {
	if c.borrowed != nil {
		return c.buf[:c.head], c.borrowed
	}
	return c.buf[:c.head], c.buf[c.head:]
}

// Size returns the length of head and body together, in bytes.
func (c *Copy) Size() int { return len(c.buf) + len(c.borrowed) }

// Keep copies a borrowed body, so that the copy is independent of the request.
func (c *Copy) Keep() {
	c.buf = append(c.buf, c.borrowed...) // Borrow has reserved the capacity
	c.borrowed, c.lent = nil, 0
}

// Return ends the use of a borrowed body, once it has been sent.
func (c *Copy) Return() { c.borrowed = nil }

// Outgoing parses the head, for a protocol that does not send it in HTTP/1.1's format.
func (c *Copy) Outgoing() message.Outgoing {
	first, rest, _ := strings.Cut(string(c.buf[:c.head]), "\r\n")
	req := &message.Request{Length: int64(len(c.buf) - c.head)}
	out := message.Outgoing{Request: req}
	req.Method, first, _ = strings.Cut(first, " ")
	req.Target, _, _ = strings.Cut(first, " ")
	out.Target = req.Target
	req.Path, req.Query, _ = strings.Cut(req.Target, "?")
	for line := range strings.SplitSeq(rest, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && !message.Is(name, "transfer-encoding") && !message.Is(name, "connection") {
			req.Fields = append(req.Fields, message.Field{Name: name, Value: value})
			if message.Is(name, "host") {
				out.Authority = value
			}
		}
	}
	return out
}

// Line returns the method, the request target and the Host that are sent. They are valid as long as the copy.
func (c *Copy) Line() (method, target, host string) {
	first, _, _ := strings.Cut(buffer.View(c.buf[:c.head]), "\r\n")
	method, rest, _ := strings.Cut(first, " ")
	target, _, _ = strings.Cut(rest, " ")
	host, _ = c.Get("host")
	return method, target, host
}

// Get returns the value of the first field with the given name, which must be in lower case. The value is
// valid as long as the copy.
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

// Write appends a piece of the body. It returns false if the copy became too large: then the copy is dropped
// and must not be used any more.
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

// Borrow is like Write, for the whole body at once. The caller must not change p until Submit has returned or
// the copy is discarded. The body is copied only if it cannot be sent by then, but its size counts in any
// case.
func (c *Copy) Borrow(p []byte) bool {
	kept := len(c.buf)
	if c.borrowed != nil {
		c.Keep() // only one piece can be borrowed
		kept = len(c.buf)
	}
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

// borrowFrom is the size in bytes from which borrowing is cheaper than copying.
const borrowFrom = 4 << 10

// Trail stores the trailers.
func (c *Copy) Trail(fields []message.Field) { c.Trailers = append(c.Trailers[:0], fields...) }

// grow makes room for size bytes in total. The capacity counts against the budget, not the bytes in use.
func (c *Copy) grow(size int) bool {
	if size <= cap(c.buf) {
		return true
	}
	capacity := buffer.LargeSize
	if size > capacity {
		capacity = max(size, min(2*cap(c.buf), c.head+int(c.maxBody)))
	}
	if !c.queue.reserve(int64(capacity)) {
		return false
	}
	var bigger []byte
	if capacity == buffer.LargeSize {
		bigger = buffer.Large()
	} else {
		bigger = make([]byte, capacity)
	}
	bigger = bigger[:copy(bigger, c.buf)]
	buffer.Recycle(c.buf)
	c.queue.held.Add(-c.reserved)
	c.buf, c.reserved = bigger, int64(capacity)
	return true
}

// Submit sends the copy or queues it. It never blocks.
func (c *Copy) Submit() { c.queue.submit(c) }

// Discard drops the copy, and reports the reason to the observer.
func (c *Copy) Discard(why Reason) {
	c.observer.Dropped(why)
	c.Capture.dropped(why)
	c.free()
}

// free returns the memory of the copy.
func (c *Copy) free() {
	c.queue.held.Add(-c.reserved)
	buffer.Recycle(c.buf)
	trailers := c.Trailers[:0]
	clear(c.Trailers)
	*c = Copy{Trailers: trailers}
	copies.Put(c)
}
