// Copies over HTTP/2.

package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// copyBody is a copy's body. net/http may go on reading it when the copy's buffer is already in use again:
// after detach it does not read the buffer.
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

// Sender sends copies over a Transport. It implements shadow.Sender.
type Sender struct {
	Transport *Transport
}

// discardLimit is the most bytes of an answer's body that are read before the stream is reset.
const discardLimit = 256 << 10

// Send implements shadow.Sender. It sends only if wait is set: net/http may wait for a stream or for the
// window.
func (s *Sender) Send(to *upstream.Endpoint, c *shadow.Copy, wait bool) bool {
	if !wait {
		return false
	}
	status, err := s.exchange(to, c)
	c.End = time.Now()
	c.Done(status, err)
	return true
}

// exchange sends the copy and reads its answer.
func (s *Sender) exchange(to *upstream.Endpoint, c *shadow.Copy) (status int, err error) {
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
	resp, err := s.Transport.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	if at := sent.Load(); at != nil {
		c.Latency = time.Since(*at)
	}
	if c.Capture != nil {
		a := answer{resp: resp}
		a.read()
		c.Capture.Head(&a.head)
	}
	_, err = io.CopyN(collected{c.Capture}, resp.Body, discardLimit)
	_ = resp.Body.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if c.GRPC = resp.Trailer.Get("grpc-status"); c.GRPC == "" {
		c.GRPC = resp.Header.Get("grpc-status") // an answer of a status alone
	}
	if c.Capture != nil {
		c.Capture.Trail(fieldsOf(resp.Trailer, message.TrailerForbidden))
	}
	return resp.StatusCode, nil
}

// collected drops the body of an answer, except for the part that is to be compared.
type collected struct{ capture *shadow.Capture }

// Write implements io.Writer.
func (c collected) Write(p []byte) (int, error) {
	c.capture.Write(p)
	return len(p), nil
}
