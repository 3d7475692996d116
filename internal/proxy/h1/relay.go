// Long bodies of answers go from socket to socket inside the kernel: nobody looks into their bytes, so they
// need not be copied into the proxy and out of it again.

package h1

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

const (
	// relayFrom is the number of unread bytes from which two more system calls are worth it.
	relayFrom = 32 << 10
	// relayPiece is how many bytes go through the pipe at once.
	relayPiece = 64 << 10
)

// Relay implements core.Relayer. It returns how many bytes it has sent to the client; the caller sends the
// rest of the body.
func (c *serverConn) Relay(from core.Answer) (sent int64, err error) {
	backend, ok := from.(*clientConn)
	if !ok || c.chunked || c.to.raw == nil || backend.in.raw == nil {
		return 0, nil
	}
	body := &backend.body
	if read := int64(backend.in.buffered()); body.kind != byLength || body.left-read < relayFrom {
		return 0, nil
	}
	p := takePipe()
	if p == nil {
		return 0, nil
	}
	defer p.put()
	if backend.in.buffered() > 0 { // arrived with the head
		piece, err := body.Next()
		if err != nil {
			return 0, truncated(err)
		}
		if err = c.writeWith(piece); err != nil {
			return 0, err
		}
		sent = int64(len(piece))
	} else if err := c.Flush(); err != nil {
		return 0, err
	}
	for body.left > 0 {
		err := backend.draw(p)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
			return sent, nil // splice does not work here: the caller goes on
		}
		if err != nil {
			return sent, truncated(err)
		}
		n := p.held
		body.left -= int64(n)
		if err := p.empty(&c.to); err != nil {
			return sent + int64(n-p.held), err
		}
		sent += int64(n)
	}
	body.done = true
	return sent, nil
}

// truncated marks an error as the backend's, unless the client made it.
func truncated(err error) error {
	if errors.Is(err, core.ErrGone) {
		return err
	}
	return fmt.Errorf("%w: %w", core.ErrTruncated, err)
}

// draw waits for more of the body, as Next does, and leaves it in the pipe.
func (c *clientConn) draw(p *pipe) error {
	c.silenceEnd = noDeadline
	for {
		err := c.body.prepare()
		if err == nil {
			err = p.fill(c.in.raw, c.body.left)
		}
		if err == nil {
			return nil
		}
		if err == io.EOF { //nolint:errorlint // set by fill
			return io.ErrUnexpectedEOF
		}
		if err = c.retryRead(err); err != nil {
			return err
		}
	}
}
