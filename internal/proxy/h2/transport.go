// Requests to backends that speak HTTP/2, and their answers.

package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Transport sends requests over HTTP/2: with the TLS of their endpoint, or without and by prior knowledge. It implements
// core.Transport.
type Transport struct {
	transport *http.Transport
}

// connWindow is how many bytes of all answers on one connection may be unread: as many as 256 clients of a
// primary can leave unread, so that fewer of them cannot hold up the answers to others.
const connWindow = 64 << 20

// pingInterval is how long a connection to a backend may be silent before a PING checks it. gRPC servers end a
// connection, with every stream on it, whose PINGs come more often than every five minutes. TCP notices a host
// that has vanished much sooner (dial).
const pingInterval = 5*time.Minute + 10*time.Second

// NewTransport returns a transport with connections of its own. headBytes is the most bytes of an answer's
// head, and window the most bytes of its body that may be unread; idle is how long idle connections are kept. Close
// ends the transport.
func NewTransport(headBytes, window int, idle time.Duration) *Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &Transport{&http.Transport{
		Protocols:              &protocols,
		DialContext:            dial,
		DialTLSContext:         dial,
		DisableCompression:     true,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: int64(headBytes),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingInterval, PingTimeout: 15 * time.Second,
			MaxReceiveBufferPerStream: window, MaxReceiveBufferPerConnection: connWindow,
		},
	}}
}

// Close closes the idle connections.
func (t *Transport) Close() { t.transport.CloseIdleConnections() }

type endpointKey struct{}

// vanished is how long a backend's host may leave bytes, or keep-alive probes, without an acknowledgement.
const vanished = 30 * time.Second

// dial connects through the endpoint of the request, so that the endpoint learns of failures.
func dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return Dial(ctx, ctx.Value(endpointKey{}).(*upstream.Endpoint))
}

// Dial connects to an endpoint for HTTP/2, and lets the kernel notice a host that has vanished.
func Dial(ctx context.Context, to *upstream.Endpoint) (net.Conn, error) {
	conn, err := to.Dial(ctx, true)
	below := conn
	if secured, ok := conn.(*tls.Conn); ok {
		below = secured.NetConn()
	}
	if tcp, ok := below.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: vanished / 2, Interval: vanished / 6, Count: 3})
		boundUnacknowledged(tcp)
	}
	return conn, err
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
	interim := make(interimResponses, most1xx)
	conns := &connections{cancel: a.cancel}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: interim.take, GotConn: conns.got})
	req := request(ctx, to, &s.Out)
	var body *attempt
	if s.Out.Length != 0 {
		var err error
		if body, err = a.attach(s, req.Trailer); err != nil {
			a.cancel()
			return nil, err
		}
		req.Body = body
	}
	resp, err := t.roundTrip(req, interim, s, a.cancel) //nolint:bodyclose // Finish closes it
	s.Reused = conns.reused.Load() && !s.Fresh
	if err != nil {
		a.cancel()
		return nil, conns.failure(err, body, s)
	}
	if body == nil {
		if at := sent.Load(); at != nil {
			s.SentAt = *at
		}
		s.Sent()
	} else {
		body.answered()
	}
	a.resp = resp
	a.read()
	return a, nil
}

// attach returns the request's body for an attempt.
func (a *answer) attach(s *core.Send, trailer http.Header) (*attempt, error) {
	a.body, _ = s.Carried.(*upload)
	if a.body == nil {
		a.body = newUpload(s)
		s.Carried = a.body
		if s.Out.Expect {
			// It is of no use to wait for the backend: the body has a stream of its own.
			if err := s.Inform(&message.Response{Status: http.StatusContinue, Reason: "Continue"}); err != nil {
				return nil, err
			}
		}
	}
	return a.body.attempt(trailer), nil
}

// clientCheckInterval is how often an exchange checks whether its client is still there.
const clientCheckInterval = time.Second

// watch cancels an exchange, which resets its stream, when the client has left: otherwise a silent backend
// would go on working for nobody. Pings find a backend that is dead.
func watch(ctx context.Context, gone func() bool, cancel func()) {
	tick := time.NewTicker(clientCheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if gone() {
			cancel()
			return
		}
	}
}

// most1xx is how many interim responses one answer may have.
const most1xx = 64

var errInterim = errors.New("too many interim responses")

// interimResponses carries the interim responses of one exchange from net/http to Send. net/http reads them
// for all exchanges of a connection, and possibly for longer than this exchange lasts.
type interimResponses chan *message.Response

// take implements httptrace.ClientTrace.Got1xxResponse. It neither waits nor uses the exchange.
func (c interimResponses) take(status int, header textproto.MIMEHeader) error {
	if status == http.StatusContinue || status == http.StatusSwitchingProtocols {
		return nil // Send has sent 100 itself, and HTTP/2 has no 101
	}
	select {
	case c <- &message.Response{Status: status, Reason: http.StatusText(status), Fields: fieldsOf(http.Header(header), message.HopByHop)}:
		return nil
	default:
		return errInterim
	}
}

// roundTrip passes interim responses on while it waits for the final one, and none after that.
func (t *Transport) roundTrip(req *http.Request, interim interimResponses, s *core.Send, cancel func()) (resp *http.Response, err error) {
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

// answer implements core.Answer.
type answer struct {
	cancel context.CancelFunc
	body   *upload // nil without a body
	resp   *http.Response
	head   message.Response
	buf    []byte
	done   bool
}

// read takes the head from net/http's response.
func (a *answer) read() {
	resp := a.resp
	a.head = message.Response{
		Status: resp.StatusCode, Reason: http.StatusText(resp.StatusCode), Fields: fieldsOf(resp.Header, message.HopByHop), Length: resp.ContentLength,
	}
	if resp.Request.Method == http.MethodHead || resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusNoContent {
		a.head.Bodyless, a.head.Length = true, 0
	}
	// If no body follows, the head must not be flushed before the stream's end: that is how gRPC knows that
	// the head's fields are trailers.
	a.done = a.head.Length == 0
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
func (a *answer) Trailers() []message.Field {
	return fieldsOf(a.resp.Trailer, message.TrailerForbidden)
}

// Tunnel implements core.Answer. HTTP/2 has no tunnels here, so it is nil.
func (a *answer) Tunnel() core.Tunnel { return nil }

// Finish implements core.Answer.
func (a *answer) Finish(complete bool) bool {
	if complete {
		a.body.complete()
	}
	sent := a.body.Release()
	a.cancel()
	_ = a.resp.Body.Close()
	if a.buf != nil {
		buffer.Recycle(a.buf)
	}
	return sent
}

// timed returns a context whose request stores the time at which it was sent.
func timed(ctx context.Context) (context.Context, *atomic.Pointer[time.Time]) {
	var sent atomic.Pointer[time.Time]
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		now := time.Now()
		sent.Store(&now)
	}}), &sent
}
