// Package h2 terminates HTTP/2 with net/http: a handler for the client's side, a transport for the backend's,
// and a sender of copies over the transport.
package h2

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Handler answers the requests of one listener.
type Handler struct {
	Core *core.Core
	// Listener is the listener's name in the table.
	Listener string
	// MaxFields is the most header fields of a request, and MaxHead the most bytes of them. http.Server has a bound
	// that is larger, since it refuses requests without a trace.
	MaxFields, MaxHead int
	// BodyTimeout is how long a body, in either direction, may stand still; the request of a call of gRPC may do so
	// for longer, because PINGs find clients that have vanished.
	BodyTimeout time.Duration

	// Dismissed, while it is true, has the effect of Drain; nil means false.
	Dismissed *atomic.Bool

	draining atomic.Bool
}

// Drain makes every later response ask the client to open another connection.
func (h *Handler) Drain() { h.draining.Store(true) }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := &stream{w: w, r: r, handler: h, control: http.NewResponseController(w)}
	s.x = core.Exchange{Listener: h.Listener, Remote: r.RemoteAddr, Downstream: s}
	defer s.leave()
	if status := s.head(h.MaxFields, h.MaxHead); status != 0 {
		h.Core.Refuse(&s.x, status, strings.ToLower(http.StatusText(status)))
		return
	}
	s.patient = core.IsGRPC(&s.x.Request)
	h.Core.Serve(&s.x) //nolint:contextcheck // an exchange ends by Gone and its deadline
	if s.aborted {
		panic(http.ErrAbortHandler)
	}
}

// stream is one request of an HTTP/2 connection. It implements core.Downstream.
type stream struct {
	w       http.ResponseWriter
	r       *http.Request
	handler *Handler
	control *http.ResponseController
	x       core.Exchange
	buf     []byte
	done    bool
	aborted bool
	// patient lets the client be silent for as long as it likes: a call of gRPC is a conversation.
	patient bool
}

// head copies the request's head into the exchange, or returns the status with which to refuse it. It checks
// what net/http lets pass: a line feed in a method would be a second request once it is sent on as HTTP/1.1.
func (s *stream) head(maxFields, maxHead int) (status int) {
	r, req := s.r, &s.x.Request
	target := r.RequestURI
	req.Method, req.Target, req.Authority = r.Method, target, r.Host
	req.Major, req.Minor, req.Length = r.ProtoMajor, r.ProtoMinor, r.ContentLength
	req.Path, req.Query, _ = strings.Cut(target, "?")
	switch {
	case r.Method == http.MethodConnect:
		return http.StatusNotImplemented
	case !message.ValidToken(r.Method), !message.ValidHost(r.Host), !message.ValidTarget(target),
		target[0] != '/' && (target != "*" || r.Method != http.MethodOptions), !s.agrees():
		return http.StatusBadRequest
	}
	size := len(r.Method) + len(target) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value)
			if !message.ValidToken(name) || !message.ValidValue(value) {
				return http.StatusBadRequest
			}
			if len(req.Fields) == maxFields || size > maxHead {
				return http.StatusRequestHeaderFieldsTooLarge
			}
			req.Fields = append(req.Fields, message.Field{Name: name, Value: message.Trim(value)})
			req.HopByHop = req.HopByHop || message.HopByHop(name)
		}
	}
	req.Expect = strings.EqualFold(r.Header.Get("Expect"), "100-continue")
	return 0
}

// agrees reports whether the fields agree with the values that net/http derived from them: a backend that
// gets them as HTTP/1.1 goes by the fields.
func (s *stream) agrees() bool {
	if host := s.r.Header["Host"]; len(host) > 1 || len(host) == 1 && !message.EqualFold(host[0], s.r.Host) {
		return false
	}
	length, ok := s.r.Header["Content-Length"]
	return !ok || len(length) == 1 && length[0] == strconv.FormatInt(s.r.ContentLength, 10)
}

// leave ends the use of the stream. net/http writes the rest of the response after that, and gets the time of
// one more piece for it; the deadline ends with the stream.
func (s *stream) leave() {
	if s.buf != nil {
		buffer.Recycle(s.buf)
	}
	if s.r.Context().Err() == nil {
		_ = s.control.SetWriteDeadline(time.Now().Add(s.handler.BodyTimeout))
	}
}

// within bounds a wait for the client. A deadline of net/http breaks the stream for good when it passes,
// whether anything waits or not: so it must not outlast the wait.
func (s *stream) within(set func(time.Time) error, wait func() error) error {
	_ = set(time.Now().Add(s.handler.BodyTimeout))
	err := wait()
	_ = set(time.Time{})
	return err
}

// Next implements core.Body.
func (s *stream) Next() ([]byte, error) {
	if s.buf == nil {
		s.buf = buffer.Large()
	}
	for !s.done {
		n := 0
		read := func() (err error) {
			n, err = s.r.Body.Read(s.buf)
			return err
		}
		var err error
		if s.patient {
			err = read()
		} else {
			err = s.within(s.control.SetReadDeadline, read)
		}
		s.done = errors.Is(err, io.EOF)
		if n > 0 {
			return s.buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, io.EOF
}

// Ready implements core.Body.
func (s *stream) Ready() bool { return s.done }

// Whole implements core.RequestBody. net/http does not show how much of a body has arrived.
func (s *stream) Whole() bool { return s.done }

// Trailers implements core.Body.
func (s *stream) Trailers() []message.Field { return fieldsOf(s.r.Trailer, message.TrailerForbidden) }

// fieldsOf returns net/http's fields without those that are forbidden and those that HTTP/1.1 could not
// carry.
func fieldsOf(header http.Header, forbidden func(name string) bool) []message.Field {
	fields := make([]message.Field, 0, len(header))
	for name, values := range header {
		for _, value := range values {
			if message.ValidToken(name) && message.ValidValue(value) && !forbidden(name) {
				fields = append(fields, message.Field{Name: name, Value: value})
			}
		}
	}
	return fields
}

// Interrupt implements core.Downstream: once a deadline of the stream has passed, it cannot be moved.
func (s *stream) Interrupt() { _ = s.control.SetReadDeadline(time.Unix(1, 0)) }

// Gone implements core.Downstream.
func (s *stream) Gone() bool { return s.r.Context().Err() != nil }

// Inform implements core.Downstream. net/http answers 100 itself when the body is read.
func (s *stream) Inform(r *message.Reply) error {
	if r.Status == http.StatusContinue {
		return nil
	}
	s.fields(r)
	// When the client leaves, WriteHeader returns while net/http still writes the fields. With this field,
	// which it does not send, net/http writes a copy of them.
	s.w.Header()["Content-Length"] = nil
	s.w.WriteHeader(r.Status)
	clear(s.w.Header())
	return nil
}

// fields copies the fields of a response to net/http.
func (s *stream) fields(r *message.Reply) {
	header := s.w.Header()
	for name, value := range r.Each {
		// The strings lie in the backend's buffer, which is reused.
		name = http.CanonicalHeaderKey(strings.Clone(name))
		header[name] = append(header[name], strings.Clone(value))
	}
}

// Begin implements core.Downstream.
func (s *stream) Begin(r *message.Reply) error {
	s.fields(r)
	header := s.w.Header()
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // keeps net/http from guessing
	}
	if r.Length == message.Unknown || r.Status == http.StatusNoContent {
		delete(header, "Content-Length")
	}
	if s.handler.draining.Load() || s.handler.Dismissed != nil && s.handler.Dismissed.Load() {
		header.Set("Connection", "close") // becomes a GOAWAY
	}
	s.w.WriteHeader(r.Status)
	return nil
}

// Write implements core.Downstream.
func (s *stream) Write(p []byte) error {
	return s.within(s.control.SetWriteDeadline, func() error {
		_, err := s.w.Write(p)
		return err
	})
}

// Flush implements core.Downstream.
func (s *stream) Flush() error { return s.within(s.control.SetWriteDeadline, s.control.Flush) }

// End implements core.Downstream.
func (s *stream) End(trailers []message.Field) error {
	for _, f := range trailers {
		key := http.TrailerPrefix + strings.Clone(f.Name)
		s.w.Header()[key] = append(s.w.Header()[key], strings.Clone(f.Value))
	}
	return nil
}

// Abort implements core.Downstream: the stream is reset.
func (s *stream) Abort() { s.aborted = true }

// Tunnel implements core.Downstream. HTTP/2 has no upgrades, and head refuses CONNECT.
func (s *stream) Tunnel(*message.Reply) (core.Tunnel, error) { return nil, http.ErrNotSupported }
