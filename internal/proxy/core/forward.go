package core

// Forwarding a request to a backend, with its copies and retries, and the answer to the client.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// ErrUnanswered reports a connection that ended before the first byte of an answer. Most likely the peer
// closed it while it was idle, or is shutting down.
var ErrUnanswered = errors.New("connection closed before an answer")

// ErrRefused reports a request that the backend has certainly not processed, and that may be sent again.
var ErrRefused = errors.New("the backend has refused the request")

// ErrNoEndpoint reports a service without ready endpoints.
var ErrNoEndpoint = errors.New("no endpoint is ready")

// ErrTruncated reports an answer that the backend has not sent to its end.
var ErrTruncated = errors.New("the answer ended early")

// ErrGone reports a client that left before its answer arrived.
var ErrGone = errors.New("the client has gone")

// Serve answers one request.
func (c *Core) Serve(x *Exchange) {
	x.begin(time.Now())
	c.options.Metrics.inFlight.Add(1)
	state, listener, ok := c.lookup(x.Listener)
	if x.state, x.listener = state, listener; ok {
		x.rule = state.table.Match(listener, &x.match)
		l := state.table.Listeners[listener]
		if x.forwarded = nil; l.Forwards {
			x.forwarded = message.NewForwarded(&x.Request, x.Remote, l.Scheme(), l.TrustedHops)
		}
		x.affinity = x.affinityAt(l)
	}
	switch {
	case x.state == nil:
		c.respond(x, http.StatusServiceUnavailable, NoTable, "no routes yet")
	case x.match.Refused != 0:
		c.respond(x, x.match.Refused, refusalReason(x.match.Refused), "too long for so many regular expressions")
	case x.rule == nil:
		c.respond(x, http.StatusNotFound, NoRule, "no rule matches")
	case x.rule.Redirect != nil:
		c.redirect(x)
	default:
		c.forward(x)
	}
	c.options.Metrics.inFlight.Add(-1)
	c.record(x)
}

func (c *Core) forward(x *Exchange) {
	backend, status := x.rule.Pick()
	x.backend = backend
	if status != 0 {
		c.respond(x, status, NoBackend, "no such backend")
		return
	}
	set := *x.state.ports[backend.Port.Index].set.Load()
	if len(set) == 0 {
		c.respond(x, http.StatusServiceUnavailable, NoReady, "no endpoint is ready")
		return
	}
	if x.Request.Upgrade != "" && backend.Port.Protocol.H2(x.Request.Major) {
		if x.Request.Method == http.MethodConnect {
			c.respond(x, http.StatusNotImplemented, NoTunnel, "the backend speaks HTTP/2, which has no tunnels here")
			return
		}
		x.Request.Upgrade = "" // HTTP/2 has no Upgrade, so the backend answers without changing the protocol
	}
	x.outgoing(&x.send.Out, &backend.Rewrite, &backend.RequestHeaders)
	toOriginForm(&x.send.Out)
	if x.Request.Upgrade == "" {
		c.admit(x, x.rule.Mirrors)
		c.admit(x, backend.Mirrors)
	}
	x.send.Copied = len(x.copies)+len(x.held) > 0
	answer, err := c.attempt(x, set)
	if err != nil {
		x.abandon()
		if x.failure != nil {
			x.discard(shadow.Incomplete)
		} else {
			x.discard(shadow.Primary)
		}
		c.fail(x, err)
		return
	}
	c.deliver(x, answer)
	x.discard(shadow.Incomplete)
	x.endpoint.Leave()
}

// admit begins a copy for every mirror that samples the request and whose queue has room.
func (c *Core) admit(x *Exchange, mirrors []*routing.Mirror) {
	if len(mirrors) == 0 {
		return
	}
	_, loop := x.Request.Get(message.Marker)
	for _, m := range mirrors {
		if m.Control {
			c.admitControl(x, m)
			continue
		}
		if !m.Sample(&x.match) {
			continue
		}
		observer := x.state.mirrors[m.Index]
		if loop {
			observer.Dropped(shadow.Loop)
			continue
		}
		x.outgoingCopy(m)
		var compare *shadow.Comparison
		if m.Compare {
			compare = &shadow.Comparison{Report: observer.compared}
		}
		copied := x.state.queues[m.Target.Index].Admit(&x.shadow, m, observer, compare, x.start)
		if copied == nil {
			x.notCollected(m)
			continue
		}
		x.mirrored++
		if !x.collect(copied, m) {
			x.copies = append(x.copies, copied)
		}
		if compare != nil {
			x.compares = append(x.compares, compare)
		}
	}
}

// outgoingCopy fills in x.shadow with the copy for a mirror.
func (x *Exchange) outgoingCopy(m *routing.Mirror) {
	x.outgoing(&x.shadow, &m.Rewrite, &m.Headers)
	x.host = m.AppendHost(x.host[:0], x.shadow.Authority)
	x.shadow.Authority = buffer.View(x.host)
	toOriginForm(&x.shadow)
	x.shadow.Shadow = true
}

// attempt sends the request, and again where that is safe, until there is an answer or nothing is left to try.
func (c *Core) attempt(x *Exchange, set upstream.Set) (Answer, error) {
	answer, err := c.attempts(x, set)
	x.answer = answer
	if err != nil && x.send.Carried != nil {
		x.send.Carried.Release()
	}
	if x.gone && x.failure == nil {
		x.failure = ErrGone
	}
	return answer, err
}

// attempts sends the request to an endpoint of the set, and to another endpoint if connecting fails or the
// backend refuses the request, if there is one. An idempotent request without a body is also sent again if the
// connection ended before an answer: over a new connection if that one had been used before, else to another
// endpoint.
func (c *Core) attempts(x *Exchange, set upstream.Set) (Answer, error) {
	timeouts := &x.rule.Timeouts
	x.send.Fresh, x.send.Reused, x.send.Carried, x.send.Now = false, false, nil, x.start
	for last, refused := upstream.ErrConnect, 0; ; {
		endpoint := choose(set, &x.affinity, x.tried, x.start)
		if endpoint == nil && refused > 0 {
			endpoint = x.again(set, refused)
		}
		if endpoint == nil {
			return nil, last
		}
		x.endpoint = endpoint
		x.send.Deadline, x.send.SentAt = deadline(x.start, timeouts), time.Time{}
		endpoint.Enter()
		transport, err := c.transport(x, endpoint)
		if err == nil {
			var answer Answer
			if answer, err = transport.Send(endpoint, &x.send); err == nil {
				return answer, nil
			}
		}
		endpoint.Leave()
		last = err
		x.gone = errors.Is(err, ErrGone)
		unanswered := errors.Is(err, ErrUnanswered) && x.Request.Length == 0 && message.Idempotent(x.Request.Method)
		unprocessed := errors.Is(err, ErrRefused)
		switch {
		case x.gone, x.broken(), expired(x.start, timeouts.Request):
			return nil, err
		case unanswered && x.send.Reused:
			x.send.Fresh = true
		case (unanswered || unprocessed || errors.Is(err, upstream.ErrConnect)) && len(x.tried)+1 < maxAttempts:
			x.tried = append(x.tried, endpoint)
			if unprocessed {
				refused++
			}
			// Reload the set: it may already exclude endpoints that are terminating.
			set = *x.state.ports[x.backend.Port.Index].set.Load()
		default:
			return nil, err
		}
		x.send.Now = time.Time{}
		c.options.Metrics.retries.Inc()
	}
}

// transport returns the transport of the version of HTTP that an endpoint gets.
func (c *Core) transport(x *Exchange, to *upstream.Endpoint) (Transport, error) {
	protocol := x.backend.Port.Protocol
	h2 := protocol.H2(x.Request.Major)
	if protocol == routing.Auto && to.Secured() {
		ctx := context.Background()
		if !x.send.Deadline.IsZero() {
			bounded, cancel := context.WithDeadline(ctx, x.send.Deadline)
			defer cancel()
			ctx = bounded
		}
		var err error
		if h2, err = to.H2(ctx, h2); err != nil {
			return nil, err
		}
		if h2 && x.Request.Method == http.MethodConnect {
			return nil, errNoTunnel
		}
		if h2 {
			x.Request.Upgrade = "" // HTTP/2 has no Upgrade
		}
	}
	if h2 {
		return c.options.H2C, nil
	}
	return c.options.HTTP, nil
}

var errNoTunnel = errors.New("the backend speaks HTTP/2, which has no tunnels here")

// refusalPause is how long a request waits before an endpoint that refused it twice gets it again.
const refusalPause = 25 * time.Millisecond

// again returns an endpoint for a request that every endpoint was tried for and some refused.
func (x *Exchange) again(set upstream.Set, refused int) *upstream.Endpoint {
	if refused > 1 {
		time.Sleep(refusalPause)
	}
	return choose(set, &x.affinity, nil, time.Now())
}

// broken reports whether the client's side has failed. While a Transport still reads the request's body, that
// is not known: the next attempt will meet the failure.
func (x *Exchange) broken() bool { return x.send.Carried == nil && x.failure != nil }

// deadline returns the earlier of two deadlines: that of the whole request, and that of an attempt which
// begins now.
func deadline(start time.Time, t *routing.Timeouts) (at time.Time) {
	if t.Request > 0 {
		at = start.Add(t.Request)
	}
	if t.BackendRequest > 0 {
		if attempt := time.Now().Add(t.BackendRequest); at.IsZero() || attempt.Before(at) {
			at = attempt
		}
	}
	return at
}

func expired(start time.Time, after time.Duration) bool {
	return after > 0 && time.Since(start) >= after
}

// deliver forwards the answer to the client as it arrives.
func (c *Core) deliver(x *Exchange, answer Answer) {
	head := answer.Head()
	x.status = head.Status
	if len(x.compares) > 0 {
		var took time.Duration
		if x.submitted.Load() {
			took = time.Since(x.sentAt)
		}
		for _, compare := range x.compares {
			compare.Primary(head.Status, took)
		}
	}
	if len(x.triples) > 0 {
		x.answered(head)
		defer x.abandon() // has no effect on answers that have ended
	}
	x.reply = message.Reply{Response: x.pin(head), Edits: &x.backend.ResponseHeaders}
	if x.Request.Upgrade != "" && (head.Status == http.StatusSwitchingProtocols ||
		x.Request.Method == http.MethodConnect && head.Status/100 == 2) {
		c.tunnel(x, answer)
		return
	}
	err := x.Downstream.Begin(&x.reply)
	if relayer, ok := x.Downstream.(Relayer); ok && err == nil && !x.collects() {
		x.sent, err = relayer.Relay(answer)
	}
	x.reason = ClientGone // unless the backend ends it
	if errors.Is(err, ErrTruncated) {
		x.reason = Truncated
	}
	for err == nil {
		if !answer.Ready() {
			if err = x.Downstream.Flush(); err != nil {
				break
			}
		}
		var p []byte
		if p, err = answer.Next(); err != nil {
			x.reason = endReason(err)
			break
		}
		x.sent += int64(len(p))
		x.collectPiece(p)
		err = x.Downstream.Write(p)
	}
	if err != io.EOF { //nolint:errorlint // by the contract of Body
		if x.reason == Truncated {
			_ = x.Downstream.Flush()
		}
		answer.Finish(false)
		x.Downstream.Abort()
		return
	}
	x.collected(answer.Trailers())
	if err = x.Downstream.End(answer.Trailers()); err != nil {
		x.reason = ClientGone
		x.Downstream.Abort()
	}
	answer.Finish(true)
}

// endReason returns the reason for which an answer ended with err, none for its proper end.
func endReason(err error) Reason {
	switch {
	case err == io.EOF: //nolint:errorlint // by the contract of Body
		return ""
	case errors.Is(err, ErrGone):
		return ClientGone
	}
	return Truncated
}
