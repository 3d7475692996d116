// Long bodies of answers that pass from socket to socket inside the kernel: what nobody looks at need
// not be copied into the proxy and out of it again.

package h1

import (
	"errors"
	"io"
	"syscall"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

const (
	// relayFrom is from how many bytes on, that have not been read yet, it is worth two more system calls.
	relayFrom = 32 << 10
	// atOnce is how many bytes go through the pipe at once.
	atOnce = 64 << 10
)

// Relay implements core.Relayer.
func (c *serverConn) Relay(from core.Answer) (sent int64, err error) {
	back, ok := from.(*clientConn)
	if !ok || c.chunked || c.to.raw == nil || back.in.raw == nil {
		return 0, nil
	}
	body := &back.body
	if read := int64(back.in.buffered()); body.kind != byLength || body.left-read < relayFrom {
		return 0, nil
	}
	p := takePipe()
	if p == nil {
		return 0, nil
	}
	defer p.put()
	if back.in.buffered() > 0 { // with the head
		piece, err := body.Next()
		if err != nil {
			return 0, err
		}
		if err = c.writeWith(piece); err != nil {
			return 0, err
		}
		sent = int64(len(piece))
	} else if err := c.Flush(); err != nil {
		return 0, err
	}
	for body.left > 0 {
		err := back.draw(p)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) {
			return sent, nil // not here: the longer way goes on
		}
		if err != nil {
			return sent, err
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

// draw waits for more of the body, as Next does, and leaves it in the pipe.
func (c *clientConn) draw(p *pipe) error {
	c.quietEnd = noDeadline
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
		if err = c.again(err); err != nil {
			return err
		}
	}
}
