package core

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

// Exchange is one request and its response. A terminator fills the exported fields and calls
// Core.Serve; it may use the same Exchange again and again, so that a request allocates nothing.
type Exchange struct {
	// Listener is the name of the listener, and Remote the client's address for the access log.
	Listener, Remote string
	Request          message.Request
	Downstream       Downstream
	// End is when the exchange ended; Core.Serve sets it.
	End time.Time

	state   *state
	rule    *routing.Rule
	backend *routing.Backend
	match   routing.Request
	// submitted says that the whole request has been sent on.
	submitted atomic.Bool
	send      Send
	shadow    message.Outgoing
	host      []byte // of the copy that is being made
	copies    []*shadow.Copy
	compares  []*shadow.Comparison
	tried     []*upstream.Endpoint
	affine    bool // the endpoint belongs to the client
	endpoint  *upstream.Endpoint
	reply     message.Reply
	answer    Answer
	record    Record

	start          time.Time
	sentAt         time.Time // only for comparisons
	mirrored       int
	status         int
	received, sent int64 // bytes of bodies
	failure        error // of the client's side of the request's body
	whole          bool  // the request's body has arrived
	bound          bool  // send has its callbacks
}

// begin makes the exchange ready for its next request.
func (x *Exchange) begin(now time.Time) {
	if !x.bound {
		x.bound = true
		x.send.Inform, x.send.Sent, x.send.Interrupt = x.inform, x.submit, x.Downstream.Interrupt
		x.send.Body, x.send.Gone = (*upload)(x), x.Downstream.Gone
	}
	x.start, x.status, x.received, x.sent, x.failure, x.mirrored = now, 0, 0, 0, nil, 0
	x.rule, x.backend, x.endpoint, x.answer = nil, nil, nil, nil
	x.copies, x.compares, x.tried = x.copies[:0], x.compares[:0], x.tried[:0]
	x.submitted.Store(false)
	x.whole = false
	r := &x.Request
	x.match = routing.Request{Method: r.Method, Host: r.Authority, Path: r.Path, RawQuery: r.Query, Header: r}
}

// outgoing fills in what a rewrite leaves of target and authority.
func (x *Exchange) outgoing(out *message.Outgoing, rewrite *routing.Rewrite, edits *message.HeaderEdits) {
	r := &x.Request
	out.Request, out.Edits, out.Target, out.Authority = r, edits, r.Target, r.Authority
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

// toOriginForm takes the authority out of an absolute form if the request goes to another one now: the
// next hop must not find two (RFC 9112 section 3.2.2).
func toOriginForm(out *message.Outgoing) {
	r := out.Request
	if out.Authority == r.Authority || out.Target[0] == '/' || r.Path == "" || r.Path[0] != '/' {
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

// submit hands over the copies: the primary has its request.
func (x *Exchange) submit() {
	if len(x.compares) > 0 {
		if x.sentAt = x.send.SentAt; x.sentAt.IsZero() {
			x.sentAt = time.Now()
		}
	}
	x.submitted.Store(true)
	for _, c := range x.copies {
		c.Submit()
	}
	x.copies = x.copies[:0]
}

// discard drops the copies that were not submitted.
func (x *Exchange) discard(why shadow.Reason) {
	for _, c := range x.copies {
		c.Discard(why)
	}
	x.copies = x.copies[:0]
}

// upload is the request's body on its way to the primary, copied in passing.
type upload Exchange

func (u *upload) Next() ([]byte, error) {
	p, err := u.Downstream.Next()
	switch {
	case err == nil:
		u.received += int64(len(p))
		if len(u.copies) > 0 {
			u.tee(p)
		}
	case errors.Is(err, io.EOF):
		for _, c := range u.copies {
			c.Trail(u.Downstream.Trailers())
		}
	default:
		u.failure = err
	}
	return p, err
}

func (u *upload) tee(p []byte) {
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
