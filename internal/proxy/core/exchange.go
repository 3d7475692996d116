package core

// One exchange: the state of a request while it is forwarded, reused from request to request.

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Exchange is one request and its response. A terminator fills in the exported fields and calls Core.Serve.
// It should reuse the Exchange for the next request, so that requests do not allocate.
type Exchange struct {
	// Listener is the name of the listener, and Remote the client's address as host:port.
	Listener, Remote string
	Request          message.Request
	Downstream       Downstream
	// End is when the exchange ended; Core.Serve sets it.
	End time.Time

	state    *state
	listener int // its index in state
	rule     *routing.Rule
	backend  *routing.Backend
	match    routing.Request
	// submitted reports whether the whole request has been sent to the primary.
	submitted atomic.Bool
	send      Send
	shadow    message.Outgoing
	host      []byte // the Host of the copy that is being made
	copies    []*shadow.Copy
	compares  []*shadow.Comparison
	// triples collect the answers that are compared. Copies that are held are submitted once the primary has answered.
	triples   []*shadow.Triple
	held      []*shadow.Copy
	tried     []*upstream.Endpoint
	affinity  affinity
	forwarded *message.Forwarded
	endpoint  *upstream.Endpoint
	reply     message.Reply
	answer    Answer
	record    Record

	start          time.Time
	sentAt         time.Time     // only for comparisons
	took           time.Duration // from sentAt to the head of the answer; only for comparisons of answers
	mirrored       int
	status         int
	reason         Reason // of an end that the backend has not made; empty for its answer
	received, sent int64  // bytes of bodies
	failure        error  // of reading the request's body from the client
	gone           bool   // the client left before its answer
	// interrupted is set when nobody reads the request's body any more: then its end is no failure of the client.
	interrupted atomic.Bool
	whole       bool // the request's body is in memory as a whole
	bound       bool // the callbacks of send are set
}

// begin resets the exchange for its next request.
func (x *Exchange) begin(now time.Time) {
	if !x.bound {
		x.bound = true
		x.send.Inform, x.send.Sent, x.send.Interrupt = x.inform, x.submit, x.interrupt
		x.send.Body, x.send.Gone = (*upload)(x), x.Downstream.Gone
	}
	x.start, x.status, x.received, x.sent, x.failure, x.gone, x.mirrored, x.took = now, 0, 0, 0, nil, false, 0, 0
	x.rule, x.backend, x.endpoint, x.answer, x.reason = nil, nil, nil, nil, ""
	x.copies, x.compares, x.tried = x.copies[:0], x.compares[:0], x.tried[:0]
	clear(x.triples) // an idle exchange must not keep answers
	x.triples, x.held = x.triples[:0], x.held[:0]
	x.submitted.Store(false)
	x.interrupted.Store(false)
	x.whole = false
	r := &x.Request
	x.match = routing.Request{Method: r.Method, Host: r.Authority, Path: r.Path, RawQuery: r.Query, Header: r}
}

// service returns the name of the backend, empty if none was chosen.
func (x *Exchange) service() string {
	if x.backend == nil {
		return ""
	}
	return x.backend.Name
}

// outgoing fills in out with the request, its target and authority rewritten.
func (x *Exchange) outgoing(out *message.Outgoing, rewrite *routing.Rewrite, edits *message.HeaderEdits) {
	r := &x.Request
	out.Request, out.Edits, out.Target, out.Authority, out.Forwarded = r, edits, r.Target, r.Authority, x.forwarded
	if rewrite.Hostname != "" {
		out.Authority = rewrite.Hostname
	}
	if rewrite.HasPath() && r.Path != "" && r.Path[0] == '/' {
		target := rewrite.AppendPath(make([]byte, 0, len(r.Target)+64), r.Path)
		if query := strings.IndexByte(r.Target, '?'); query >= 0 {
			target = append(target, r.Target[query:]...)
		}
		out.Target = string(target)
	}
}

// toOriginForm removes the authority from a target in absolute form, which is for proxies alone (RFC 9112 section
// 3.2.2): a backend that takes it for a path finds nothing there.
func toOriginForm(out *message.Outgoing) {
	r := out.Request
	if out.Target[0] == '/' || r.Path == "" || r.Path[0] != '/' {
		return
	}
	if query := strings.IndexByte(out.Target, '?'); query >= 0 {
		out.Target = r.Path + out.Target[query:]
	} else if out.Target[len(out.Target)-1] == '/' || r.Path != "/" || r.Method != "OPTIONS" {
		out.Target = r.Path
	} else {
		out.Target = "*" // RFC 9112 section 3.2.4
	}
}

func (x *Exchange) inform(r *message.Response) error {
	x.reply = message.Reply{Response: r}
	return x.Downstream.Inform(&x.reply)
}

// submit starts to send the copies, once the primary's request has been sent.
func (x *Exchange) submit() {
	if len(x.compares)+len(x.triples) > 0 {
		if x.sentAt = x.send.SentAt; x.sentAt.IsZero() {
			x.sentAt = time.Now()
		}
	}
	x.submitted.Store(true)
	for _, c := range x.copies {
		x.identify(c)
		c.Submit()
	}
	x.copies = x.copies[:0]
}

// interrupt ends the use of the request's body, also while it is read.
func (x *Exchange) interrupt() {
	x.interrupted.Store(true)
	x.Downstream.Interrupt()
}

// discard drops the copies that were not submitted.
func (x *Exchange) discard(why shadow.Reason) {
	for _, c := range x.copies {
		c.Discard(why)
	}
	for _, c := range x.held {
		c.Discard(why)
	}
	x.copies, x.held = x.copies[:0], x.held[:0]
}

// upload is the body of the request as the Transport reads it; every piece is written to the copies too.
type upload Exchange

func (u *upload) Next() ([]byte, error) {
	p, err := u.Downstream.Next()
	switch {
	case err == nil:
		u.received += int64(len(p))
		if len(u.copies) > 0 {
			u.copyToQueues(p)
		}
	case errors.Is(err, io.EOF):
		for _, c := range u.copies {
			c.Trail(u.Downstream.Trailers())
		}
	case !u.interrupted.Load():
		u.failure = err
	}
	return p, err
}

// copyToQueues writes a piece of the body to all copies, and forgets copies that were dropped for it.
func (u *upload) copyToQueues(p []byte) {
	kept := u.copies[:0]
	for _, c := range u.copies {
		write := c.Write
		if u.whole {
			write = c.Borrow
		}
		if write(p) {
			kept = append(kept, c)
		}
	}
	u.copies = kept
}

func (u *upload) Ready() bool { return u.Downstream.Ready() }

func (u *upload) Whole() bool {
	u.whole = u.Downstream.Whole()
	return u.whole
}

func (u *upload) Trailers() []message.Field { return u.Downstream.Trailers() }
