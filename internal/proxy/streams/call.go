// One request to a backend, and its answer.

package streams

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

const (
	// most1xx is how many interim responses one answer may have.
	most1xx = 64
	// clientCheckInterval is how often an exchange checks whether its client is still there.
	clientCheckInterval = time.Second
	// discardLimit is the most bytes of the answer to a copy that are read before the stream is reset.
	discardLimit = 256 << 10
)

// call is one request to a backend. It implements core.Answer.
type call struct {
	flow
	backend *backend
	send    *core.Send
	body    *upload // nil without a body
	sending chan struct{}
	running bool // a goroutine sends the body
	isHead  bool
	timer   *time.Timer

	// conn.mu guards the rest. arrived is signalled for each head.
	arrived  chan struct{}
	answered bool
	head     message.Response
	interim  []*message.Response
	informed int

	// The rest is for copies.
	copied  *shadow.Copy
	sentAt  time.Time
	dropped int
	status  int
	err     error
	lent    bool // the body was the request's, and is gone
	tries   int
}

var calls = sync.Pool{New: func() any {
	a := &call{flow: newFlow(), arrived: make(chan struct{}, 1), sending: make(chan struct{}, 1)}
	a.call = a
	a.timer = time.NewTimer(time.Hour)
	a.timer.Stop()
	return a
}}

// appendRequest appends the head of a request.
func appendRequest(dst []byte, out *message.Outgoing, secured bool) []byte {
	dst = appendRequestLine(dst, out.Method, out.Target, out.Authority, secured)
	for name, value := range out.Each {
		if len(name) == 4 && message.Is(name, "host") || len(name) == 6 && message.Is(name, "expect") {
			continue
		}
		dst = appendField(dst, name, value)
	}
	return dst
}

// appendRequestLine appends the pseudo-header fields of a request.
func appendRequestLine(dst []byte, method, target, authority string, secured bool) []byte {
	switch method {
	case http.MethodGet:
		dst = append(dst, indexed|2)
	case http.MethodPost:
		dst = append(dst, indexed|3)
	default:
		dst = appendLiteral(dst, 2, method)
	}
	if secured {
		dst = append(dst, indexed|7)
	} else {
		dst = append(dst, indexed|6)
	}
	dst = appendLiteral(dst, 1, authority)
	if target == "/" {
		return append(dst, indexed|4)
	}
	return appendLiteral(dst, 4, target)
}

func appendLiteral(dst []byte, index int, value string) []byte {
	dst = appendInt(dst, 4, index)
	return append(appendInt(dst, 7, len(value)), value...)
}

// Send implements core.Transport.
func (t *Transport) Send(to *upstream.Endpoint, s *core.Send) (core.Answer, error) {
	b, reused, err := t.take(to, s.Fresh, s.Deadline)
	if err != nil {
		return nil, err
	}
	s.Reused = reused && !s.Fresh
	a := calls.Get().(*call)
	a.backend, a.send, a.isHead, a.body = b, s, s.Out.Method == http.MethodHead, nil
	a.answered, a.interim, a.informed, a.running = false, a.interim[:0], 0, false
	drain(a.arrived)
	if err := a.begin(to.Secured()); err != nil {
		a.release()
		return nil, err
	}
	err = a.await()
	if err != nil {
		return nil, a.fail(err)
	}
	if a.body == nil {
		return a, nil
	}
	a.body.answered()
	return a, nil
}

// begin sends the head, and the body as far as that needs no wait.
func (a *call) begin(secured bool) error {
	s, b := a.send, a.backend
	first := s.Carried == nil // later, an attempt before may still read the body
	if s.Out.Length != 0 {
		if err := a.attach(); err != nil {
			b.mu.Lock()
			b.leave()
			b.mu.Unlock()
			return err
		}
	}
	block := appendRequest(buffer.Small()[:0], &s.Out, secured)
	defer buffer.Recycle(block)
	b.mu.Lock()
	if b.err != nil || b.goAway {
		err := fmt.Errorf("%w: the connection has ended", core.ErrRefused)
		b.leave()
		b.mu.Unlock()
		if a.body != nil {
			a.body.current.stop()
		}
		return err
	}
	id := b.lastID + 2
	if b.lastID == 0 {
		id = 1
	}
	b.lastID = id
	a.reset(b.conn, id)
	a.window = b.initialWindow
	b.streams[id] = &a.flow
	flags := uint8(0)
	if a.body == nil {
		flags, a.localClosed = flagEndStream, true
	}
	b.appendHead(id, flags, block)
	if a.body == nil {
		b.post()
		s.Sent()
		return nil
	}
	inline := first && s.Out.Length > 0 && s.Out.Length <= min(b.window, b.initialWindow)
	if inline {
		a.prepaid = s.Out.Length
		b.window -= a.prepaid
	}
	b.post()
	if inline && s.Body.Whole() {
		a.upload(a.body.current)
		return nil
	}
	a.running = true
	go func() {
		a.upload(a.body.current)
		a.sending <- struct{}{}
	}()
	return nil
}

// attach prepares the request's body for an attempt.
func (a *call) attach() error {
	s := a.send
	a.body, _ = s.Carried.(*upload)
	if a.body == nil {
		a.body = newUpload(s)
		s.Carried = a.body
		if s.Out.Expect {
			// It is of no use to wait for the backend: the body has a stream of its own.
			if err := s.Inform(&message.Response{Status: http.StatusContinue, Reason: "Continue"}); err != nil {
				return err
			}
		}
	}
	a.body.attempt()
	return nil
}

// upload sends the body.
func (a *call) upload(body *attempt) {
	scratch := buffer.Large()
	defer buffer.Recycle(scratch)
	c := a.conn
	for {
		n, err := body.read(scratch[:maxDirect])
		c.mu.Lock()
		switch {
		case err == errEnd: //nolint:errorlint // returned by read itself
			if a.dead() == nil {
				if trailers := body.trailers(); len(trailers) > 0 {
					block := []byte(nil)
					for _, f := range trailers {
						block = appendField(block, f.Name, f.Value)
					}
					c.appendHead(a.id, flagEndStream, block)
				} else {
					c.out = appendFrame(c.out, 0, frame{frameData, flagEndStream, a.id})
				}
				a.localClosed = true
			}
			c.post()
			body.finish()
			return
		case err != nil:
			c.mu.Unlock()
			signal(a.arrived) // the exchange looks why
			return
		}
		err = a.transmitBody(scratch[:n], false)
		c.post()
		if err != nil {
			return
		}
	}
}

// pause waits for a signal, no longer than the exchange may last.
func (a *call) pause(c chan struct{}) error {
	select {
	case <-c:
		return nil
	default:
	}
	for {
		d := clientCheckInterval
		if !a.send.Deadline.IsZero() {
			left := time.Until(a.send.Deadline)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			d = min(d, left)
		}
		a.timer.Reset(d)
		select {
		case <-c:
			a.timer.Stop()
			return nil
		case <-a.timer.C:
		}
		if a.send.Gone() {
			return core.ErrGone
		}
	}
}

var (
	errInterim   = errors.New("too many interim responses")
	errMalformed = errors.New("the answer is malformed")
)

// await waits for the head of the answer, and passes interim ones on.
func (a *call) await() error {
	c := a.conn
	for {
		c.mu.Lock()
		var interim *message.Response
		if len(a.interim) > 0 {
			interim = a.interim[0]
			a.interim = a.interim[1:]
		}
		answered, lost, malformed := a.answered, a.lost, a.malformed
		c.mu.Unlock()
		switch {
		case interim != nil:
			if err := a.send.Inform(interim); err != nil {
				return err
			}
			continue
		case malformed != nil:
			return malformed
		case answered:
			return nil
		case lost:
			return errCut
		case a.body != nil && a.body.failed():
			return errClient
		}
		if err := a.pause(a.arrived); err != nil {
			return err
		}
	}
}

var errClient = errors.New("the client has not sent its request to the end")

// fail ends an attempt without an answer, and returns the core's error for it.
func (a *call) fail(err error) error {
	again := true
	if a.body != nil {
		again = a.body.current.stop()
	}
	a.end()
	switch {
	case !errors.Is(err, errCut):
	case a.unprocessed && again:
		err = fmt.Errorf("%w: %w", core.ErrRefused, err)
	case a.cut:
		err = fmt.Errorf("%w: %w", core.ErrUnanswered, err)
	default:
		err = fmt.Errorf("%w: RST_STREAM with code %d", err, a.code)
	}
	a.release()
	return err
}

// end ends the stream and the sending of its body.
func (a *call) end() {
	b := a.backend
	b.mu.Lock()
	b.cutoff(&a.flow)
	a.lost = true
	signal(a.writable)
	b.post()
	if a.running {
		<-a.sending
		a.running = false
	}
	b.mu.Lock()
	a.free()
	b.leave()
	b.post()
}

// lostAnswer tells the exchange, or ends the copy, of a stream that was lost. conn.mu is held.
func (a *call) lostAnswer() {
	signal(a.arrived)
	if a.copied != nil && a.err == nil {
		a.finishCopy(errCut)
	}
}

// release returns the call to the pool.
func (a *call) release() {
	clear(a.head.Fields)
	a.head.Fields = a.head.Fields[:0]
	clear(a.interim)
	a.interim = a.interim[:0]
	a.send, a.backend, a.body, a.conn, a.trailers = nil, nil, nil, nil, nil
	calls.Put(a)
}

// Head implements core.Answer.
func (a *call) Head() *message.Response { return &a.head }

// Next implements core.Body.
func (a *call) Next() ([]byte, error) {
	c := a.conn
	for {
		c.mu.Lock()
		a.recycle()
		p, err := a.next()
		c.post()
		if p != nil || err != nil {
			return p, err
		}
		if err := a.pause(a.readable); err != nil {
			return nil, err
		}
	}
}

// Ready implements core.Body.
func (a *call) Ready() bool {
	a.conn.mu.Lock()
	defer a.conn.mu.Unlock()
	return a.inAt < len(a.in) || a.remoteClosed || a.lost
}

// Trailers implements core.Body.
func (a *call) Trailers() []message.Field { return a.trailers }

// Tunnel implements core.Answer. HTTP/2 has no tunnels here, so it is nil.
func (a *call) Tunnel() core.Tunnel { return nil }

// Finish implements core.Answer.
func (a *call) Finish(complete bool) (sent bool) {
	if complete {
		a.body.complete()
	}
	sent = a.body.Release()
	a.end()
	a.release()
	return sent
}

// answerHead collects the fields of one header block of a backend.
type answerHead struct {
	backend   *backend
	fields    []message.Field
	status    int
	size      int
	length    int64
	regular   bool
	trailers  bool
	malformed bool
}

// field takes one field from the decoder.
func (h *answerHead) field(f hpack.HeaderField) {
	if h.backend == nil || h.malformed {
		return
	}
	limits := h.backend.limits
	h.size += len(f.Name) + len(f.Value)
	switch {
	case f.Name == ":status" && h.status == 0 && !h.regular && !h.trailers:
		n, ok := parseLength(f.Value)
		h.status, h.malformed = int(n), !ok || len(f.Value) != 3 || n < 100
	case !message.ValidToken(f.Name), hasUpper(f.Name), !message.ValidValue(f.Value), h.size > limits.Head:
		h.malformed = true
	case h.trailers && message.TrailerForbidden(f.Name), message.HopByHop(f.Name):
	default:
		h.regular = true
		if f.Name == "content-length" {
			n, ok := parseLength(f.Value)
			if h.malformed = !ok || h.length >= 0; h.malformed {
				return
			}
			h.length = n
		}
		h.fields = append(h.fields, message.Field{Name: f.Name, Value: message.Trim(f.Value)})
	}
}

// takeBlock implements side: it takes the head of an answer, or its trailers.
func (b *backend) takeBlock(id uint32, flags uint8, block []byte) error {
	if len(block) > 2*b.limits.Head {
		return &connError{codeExcess, "header block too long"}
	}
	b.mu.Lock()
	f, idle := b.streams[id], b.isIdle(id)
	answered := f != nil && f.call.answered
	b.mu.Unlock()
	if idle {
		return &connError{codeProtocol, "HEADERS on an idle stream"}
	}
	h := &b.head
	*h = answerHead{backend: b, fields: h.fields[:0], length: -1, trailers: answered}
	if f == nil {
		h.backend = nil
	}
	err := b.decodeBlock(block)
	if err != nil || f == nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streams[id] == f {
		b.takeHead(f, flags&flagEndStream != 0)
	}
	return nil
}

// takeHead takes a head that has been decoded. b.mu is held.
func (b *backend) takeHead(f *flow, ends bool) {
	h, a := &b.head, f.call
	switch {
	case h.malformed, f.remoteClosed, h.trailers && !ends, !h.trailers && (h.status == 0 || h.status == 101 || h.status < 200 && ends):
		f.malformed = errMalformed
		b.resetStream(f.id, f, codeProtocol)
	case h.trailers:
		f.trailers = append([]message.Field(nil), h.fields...)
		if a.copied != nil {
			a.copied.Capture.Trail(f.trailers)
		}
		b.keep(f, nil, true)
	case h.status < 200:
		a.takeInterim(h)
	default:
		b.takeFinal(f, ends)
	}
	signal(a.arrived)
}

// takeInterim takes an interim response.
func (a *call) takeInterim(h *answerHead) {
	if h.status == http.StatusContinue || a.copied != nil {
		return
	}
	if a.informed++; a.informed > most1xx {
		a.malformed = errInterim
		a.conn.resetStream(a.id, &a.flow, codeExcess)
		return
	}
	a.interim = append(a.interim, &message.Response{
		Status: h.status, Reason: http.StatusText(h.status), Fields: append([]message.Field(nil), h.fields...),
	})
}

// takeFinal takes the head of the final response. b.mu is held.
func (b *backend) takeFinal(f *flow, ends bool) {
	h, a := &b.head, f.call
	bodyless := a.isHead || h.status == http.StatusNoContent || h.status == http.StatusNotModified
	if ends && !bodyless && h.length > 0 {
		f.malformed = errMalformed
		b.resetStream(f.id, f, codeProtocol)
		return
	}
	a.answered = true
	a.head = message.Response{
		Status: h.status, Reason: http.StatusText(h.status), Bodyless: bodyless, Length: h.length,
		Fields: append(a.head.Fields[:0], h.fields...),
	}
	if bodyless || ends {
		a.head.Length = 0
	} else {
		f.left = h.length
	}
	if a.copied != nil {
		a.headOfCopy()
	}
	if ends {
		f.left = -1
		b.keep(f, nil, true)
	}
}
