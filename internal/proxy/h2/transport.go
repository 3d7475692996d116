package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Transport sends requests over HTTP/2 without TLS, by prior knowledge. It implements core.Transport.
type Transport struct {
	transport *http.Transport
}

// connWindow is how many bytes all answers on one connection may have on their way: as many as 256
// clients of a primary leave unread, lest those keep the answers of others from coming.
const connWindow = 64 << 20

// NewTransport returns a transport with connections of its own. headBytes bounds the heads of
// answers, and window how many bytes of each one's body are held that nobody has read. Close ends it.
func NewTransport(headBytes, window int) *Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &Transport{&http.Transport{
		Protocols:              &protocols,
		DialContext:            dial,
		DisableCompression:     true,
		IdleConnTimeout:        55 * time.Second,
		MaxResponseHeaderBytes: int64(headBytes),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second,
			MaxReceiveBufferPerStream: window, MaxReceiveBufferPerConnection: connWindow,
		},
	}}
}

// Close closes idle connections.
func (t *Transport) Close() { t.transport.CloseIdleConnections() }

type endpointKey struct{}

// dial connects through the endpoint of the request, so that it learns of failures.
func dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return ctx.Value(endpointKey{}).(*upstream.Endpoint).Dial(ctx)
}

// Send implements core.Transport.
func (t *Transport) Send(to *upstream.Endpoint, s *core.Send) (core.Answer, error) {
	ctx, sent := timed(context.WithValue(context.Background(), endpointKey{}, to))
	a := &answer{}
	if s.Deadline.IsZero() {
		ctx, a.cancel = context.WithCancel(ctx)
	} else {
		ctx, a.cancel = context.WithDeadline(ctx, s.Deadline)
	}
	go watch(ctx, s.Gone, a.cancel)
	interim := make(informs, most1xx)
	req := request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: interim.take}), to, &s.Out)
	if s.Out.Length != 0 {
		a.body = &uploadBody{send: s, trailer: req.Trailer}
		req.Body = a.body
		if s.Out.Expect {
			// Nothing is gained by waiting for the backend: the body flows in its own stream.
			if err := s.Inform(&message.Response{Status: http.StatusContinue, Reason: "Continue"}); err != nil {
				a.cancel()
				return nil, err
			}
		}
	}
	resp, err := t.roundTrip(req, interim, s, a.cancel) //nolint:bodyclose // Finish closes it
	if err != nil {
		a.cancel()
		a.detach(s)
		if s.Gone() {
			err = core.ErrGone
		}
		return nil, err
	}
	if a.body == nil {
		if at := sent.Load(); at != nil {
			s.SentAt = *at
		}
		s.Sent()
	}
	a.send, a.resp = s, resp
	a.read()
	return a, nil
}

// lookAround is how often an exchange looks whether its client is still there.
const lookAround = time.Second

// watch ends an exchange, which resets its stream, when the client has left: a backend that says
// nothing would go on working for nobody. A backend that is dead is found by pings.
func watch(ctx context.Context, gone func() bool, cancel func()) {
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for !gone() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	cancel()
}

// most1xx is how many interim responses one answer may have.
const most1xx = 64

var errInterim = errors.New("too many interim responses")

// informs are the interim responses of one exchange on their way from net/http, which reads them
// for all exchanges of a connection and possibly longer than this one lasts, to Send.
type informs chan *message.Response

// take implements httptrace.ClientTrace.Got1xxResponse. It neither waits nor touches the exchange.
func (c informs) take(status int, header textproto.MIMEHeader) error {
	if status == http.StatusContinue || status == http.StatusSwitchingProtocols {
		return nil // Send has said the one, HTTP/2 does not know the other
	}
	select {
	case c <- &message.Response{Status: status, Reason: http.StatusText(status), Fields: fields(http.Header(header))}:
		return nil
	default:
		return errInterim
	}
}

// roundTrip passes interim responses on while it waits for the final one, and none after that.
func (t *Transport) roundTrip(req *http.Request, interim informs, s *core.Send, cancel func()) (resp *http.Response, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err = t.transport.RoundTrip(req) //nolint:bodyclose // Finish closes it
	}()
	count := 0
	pass := func(r *message.Response) error {
		if count++; count > most1xx {
			return errInterim
		}
		return s.Inform(r)
	}
	for {
		select {
		case r := <-interim:
			if broken := pass(r); broken != nil {
				cancel()
				<-done
				return nil, broken
			}
		case <-done:
			for err == nil && len(interim) > 0 {
				err = pass(<-interim)
			}
			return resp, err
		}
	}
}

// request builds what net/http sends as the same head: no field added, none encoded anew.
func request(ctx context.Context, to *upstream.Endpoint, out *message.Outgoing) *http.Request {
	req := (&http.Request{
		Method: strings.Clone(out.Method), Host: strings.Clone(out.Authority), Proto: "HTTP/2.0", ProtoMajor: 2,
		ContentLength: out.Length, Header: http.Header{}, Body: http.NoBody,
	}).WithContext(ctx)
	target := strings.Clone(out.Target)
	if target[0] != '/' && target != "*" { // an absolute form has its authority in Host
		if target = out.Path; out.Query != "" {
			target += "?" + out.Query
		}
	}
	req.URL = opaque(to.Address, req.Host, target)
	for name, value := range out.Each {
		name = http.CanonicalHeaderKey(strings.Clone(name))
		switch name {
		case "Host", "Content-Length", "Expect":
		default:
			req.Header[name] = append(req.Header[name], strings.Clone(value))
		}
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // none of net/http's either
	}
	for _, names := range req.Header["Trailer"] {
		for name := range func(yield func(string) bool) { message.Tokens(names, yield) } {
			if !message.TrailerForbidden(name) && message.ValidToken(name) {
				if req.Trailer == nil {
					req.Trailer = http.Header{}
				}
				req.Trailer[http.CanonicalHeaderKey(name)] = nil
			}
		}
	}
	delete(req.Header, "Trailer")
	return req
}

// uploadBody is the request's body, which net/http reads in a goroutine of its own, possibly longer
// than the exchange lasts: after detach it touches nothing of it.
type uploadBody struct {
	mu      sync.Mutex
	send    *core.Send
	trailer http.Header
	rest    []byte
	sent    bool
}

var errDetached = errors.New("the exchange has ended")

// Read implements io.Reader.
func (b *uploadBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.send == nil {
		return 0, errDetached
	}
	if len(b.rest) == 0 {
		next, err := b.send.Body.Next()
		if err == io.EOF && !b.sent { //nolint:errorlint // by the contract of Body
			b.sent = true
			for _, f := range b.send.Body.Trailers() {
				name := http.CanonicalHeaderKey(f.Name)
				if _, announced := b.trailer[name]; announced {
					b.trailer[name] = append(b.trailer[name], strings.Clone(f.Value))
				}
			}
			b.send.Sent()
		}
		if err != nil {
			return 0, err
		}
		b.rest = next
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *uploadBody) Close() error { return nil }

// detach ends the use of the request's body and says whether it was read to its end.
func (a *answer) detach(s *core.Send) bool {
	if a.body == nil {
		return true
	}
	if !a.body.mu.TryLock() {
		s.Interrupt()
		a.body.mu.Lock()
	}
	defer a.body.mu.Unlock()
	a.body.send = nil
	return a.body.sent
}

// answer implements core.Answer.
type answer struct {
	cancel context.CancelFunc
	body   *uploadBody
	send   *core.Send
	resp   *http.Response
	head   message.Response
	buf    []byte
	done   bool
}

func (a *answer) read() {
	resp := a.resp
	a.head = message.Response{
		Status: resp.StatusCode, Reason: http.StatusText(resp.StatusCode), Fields: fields(resp.Header), Length: resp.ContentLength,
	}
	if resp.Request.Method == http.MethodHead || resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusNoContent {
		a.head.Bodyless, a.head.Length = true, 0
	}
	// Nothing follows the head: it must not be flushed apart from the stream's end, by which gRPC
	// knows that what it carries are trailers.
	a.done = a.head.Length == 0
}

func fields(header http.Header) []message.Field {
	out := make([]message.Field, 0, len(header))
	for name, values := range header {
		for _, value := range values {
			if message.ValidToken(name) && message.ValidValue(value) && !message.HopByHop(name) {
				out = append(out, message.Field{Name: name, Value: value})
			}
		}
	}
	return out
}

// Head implements core.Answer.
func (a *answer) Head() *message.Response { return &a.head }

// Next implements core.Body.
func (a *answer) Next() ([]byte, error) {
	if a.buf == nil {
		a.buf = buffer.Large()
	}
	for !a.done {
		n, err := a.resp.Body.Read(a.buf)
		a.done = errors.Is(err, io.EOF)
		if n > 0 {
			return a.buf[:n], nil
		}
		if err != nil && !a.done {
			return nil, err
		}
	}
	return nil, io.EOF
}

// Ready implements core.Body.
func (a *answer) Ready() bool { return a.done }

// Trailers implements core.Body.
func (a *answer) Trailers() []message.Field { return fieldsOf(a.resp.Trailer) }

// Tunnel implements core.Answer; HTTP/2 has none.
func (a *answer) Tunnel() core.Tunnel { return nil }

// Finish implements core.Answer.
func (a *answer) Finish(bool) bool {
	sent := a.detach(a.send)
	a.cancel()
	_ = a.resp.Body.Close()
	if a.buf != nil {
		buffer.Recycle(a.buf)
	}
	return sent
}

// timed notes when the request of the context has been sent.
func timed(ctx context.Context) (context.Context, *atomic.Pointer[time.Time]) {
	var sent atomic.Pointer[time.Time]
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		now := time.Now()
		sent.Store(&now)
	}}), &sent
}

// copyBody is a copy's body, which net/http may read on when the copy's buffer is used again
// already: after detach it touches nothing of it.
type copyBody struct {
	mu   sync.Mutex
	rest *bytes.Reader
}

// Read implements io.Reader.
func (b *copyBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == nil {
		return 0, errDetached
	}
	return b.rest.Read(p)
}

// Close implements io.Closer.
func (b *copyBody) Close() error { return nil }

func (b *copyBody) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rest = nil
}

// Leg sends copies over a Transport. It implements shadow.Sender.
type Leg struct {
	Transport *Transport
}

// discardLimit is how many bytes of an answer's body are read before the stream is reset.
const discardLimit = 256 << 10

// Send implements shadow.Sender. The transport may wait, for a stream or for the window.
func (l *Leg) Send(to *upstream.Endpoint, c *shadow.Copy, wait bool) bool {
	if !wait {
		return false
	}
	status, err := l.exchange(to, c)
	c.End = time.Now()
	c.Done(status, err)
	return true
}

func (l *Leg) exchange(to *upstream.Endpoint, c *shadow.Copy) (status int, err error) {
	ctx, cancel := context.WithDeadline(context.WithValue(context.Background(), endpointKey{}, to), c.Until)
	defer cancel()
	ctx, sent := timed(ctx)
	out := c.Outgoing()
	req := request(ctx, to, &out)
	_, body := c.Wire()
	if len(body) > 0 {
		upload := &copyBody{rest: bytes.NewReader(body)}
		defer upload.detach()
		req.Body = upload
	}
	req.ContentLength = int64(len(body))
	resp, err := l.Transport.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	if at := sent.Load(); at != nil {
		c.Latency = time.Since(*at)
	}
	_, err = io.CopyN(io.Discard, resp.Body, discardLimit)
	_ = resp.Body.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return resp.StatusCode, nil
}
