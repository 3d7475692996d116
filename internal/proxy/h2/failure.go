// Failures of attempts: which of them left the request unprocessed, so that it may be sent again.

package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

// connections counts the connections on which net/http has tried one request. It tries again by itself, without
// a body, what a backend has not processed, at first at once and then after seconds.
type connections struct {
	tried  atomic.Int32
	reused atomic.Bool
	cancel context.CancelFunc
}

// got is httptrace.ClientTrace.GotConn. It ends the attempt where net/http would begin to wait: the core tries
// another endpoint.
func (c *connections) got(info httptrace.GotConnInfo) {
	c.reused.Store(info.Reused)
	if c.tried.Add(1) > 2 {
		c.cancel()
	}
}

// failure returns the core's error for an attempt that failed with err.
func (c *connections) failure(err error, body *attempt, s *core.Send) error {
	again := body.end()
	switch {
	case errors.Is(err, context.Canceled) && s.Gone():
		return core.ErrGone
	case again && (c.tried.Load() > 2 || unprocessed(err)):
		return fmt.Errorf("%w: %w", core.ErrRefused, err)
	case lost(err):
		return fmt.Errorf("%w: %w", core.ErrUnanswered, err)
	}
	return err
}

// closedByGoAway begins net/http's error for a connection that ended after a GOAWAY. It quotes the backend.
const closedByGoAway = "http2: server sent GOAWAY and closed the connection"

// wouldRetry is net/http's error for a request that it would send again by itself, if it could read the body again. Of
// requests with a body it says so only where nothing was written, or the connection took no new request.
const wouldRetry = "net/http: cannot rewind body after connection loss"

// unprocessed reports whether the backend has certainly not processed the request: it refused the stream, or
// its GOAWAY did not cover it (RFC 9113 section 8.7). net/http wraps neither error for a request with a body.
func unprocessed(err error) bool {
	text := err.Error()
	return text == wouldRetry || !strings.HasPrefix(text, closedByGoAway) &&
		(strings.Contains(text, "REFUSED_STREAM") || strings.Contains(text, "graceful shutdown GOAWAY"))
}

// lost reports whether the connection ended before an answer.
func lost(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	text := err.Error()
	return strings.HasPrefix(text, closedByGoAway) || strings.Contains(text, "http2: client conn")
}
