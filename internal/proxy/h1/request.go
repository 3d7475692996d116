// The request's way to the backend. Where possible, one goroutine sends all of it and starts to wait for the
// answer in the same call.

package h1

import (
	"errors"
	"io"
	"os"
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// writeRequest sends the head, with the body if that has arrived; otherwise a goroutine sends the body during
// the wait for the answer. After an error there may still be an answer to read, except after errStale: then
// nothing was sent.
func (c *clientConn) writeRequest(s *core.Send, reused bool) error {
	out := message.AppendRequest(buffer.Small()[:0], &s.Out)
	defer buffer.Recycle(out)
	if s.Out.Length == 0 {
		return c.sendAndWait(reused, out)
	}
	if reused && !c.alive() {
		return errStale
	}
	if !s.Body.Whole() {
		if err := c.out.write(out); err != nil {
			return err
		}
		if c.uploaded == nil {
			c.uploaded = make(chan struct{}, 1)
		}
		c.uploading = true
		c.gone.Store(false)
		c.flowing.Store(true)
		c.now = noDeadline
		go c.upload(s)
		return nil
	}
	var large []byte
	for {
		p, err := s.Body.Next()
		if err == io.EOF { //nolint:errorlint // by the contract of Body
			return c.sendAndWait(false, out, large)
		}
		if err != nil {
			return err
		}
		if len(large) == 0 && len(out)+len(p) <= cap(out) {
			out = append(out, p...)
			continue
		}
		if len(large) > 0 {
			if err := c.out.write(out, large); err != nil {
				return err
			}
			out, c.now = out[:0], noDeadline
		}
		large = p
	}
}

// sendPhase is the progress of sendAndWait.
type sendPhase uint8

const (
	phaseSent    sendPhase = iota // everything is sent
	phaseCheck                    // check that the connection, which was idle, is quiet
	phaseSend                     // send
	phaseStale                    // the connection was not quiet, and nothing was sent
	phasePartial                  // the socket failed, or did not take everything
)

// sendAndWait sends the end of a request and waits for the beginning of the answer, which it leaves to
// readHead. It does both in one read: the runtime watches the socket from before the request is sent, so no
// read in vain is needed before the wait. reused reports that the connection was idle.
func (c *clientConn) sendAndWait(reused bool, pieces ...[]byte) error {
	if c.in.raw == nil {
		if reused && !c.alive() {
			return errStale
		}
		return c.finished(c.out.write(pieces...))
	}
	if err := c.body.prepare(); err != nil {
		return err
	}
	c.out.load(pieces...)
	if c.phase = phaseSend; reused {
		c.phase = phaseCheck
	}
	for {
		err := c.in.fillBy(c.pushAndPullFunc)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.failure = c.retryRead(err)
		}
		switch {
		case c.phase == phaseStale:
			return errStale
		case c.phase == phasePartial:
			return c.finished(c.out.flush())
		case c.phase == phaseSent || c.failure != nil:
			return nil //nolint:nilerr // readHead meets any other error of the socket, too
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if err := c.body.prepare(); err != nil { // the deadline had passed before the request was sent
			return err
		}
	}
}

// pushAndPull is the read of sendAndWait: it sends the request, once, and then reads.
func (c *clientConn) pushAndPull(fd uintptr) bool {
	switch c.phase {
	case phaseCheck:
		if c.in.peek(fd); !c.in.quiet {
			c.phase = phaseStale
			return true
		}
	case phaseSent:
		return c.in.pull(fd)
	}
	if !c.out.push(fd) || c.out.err != nil {
		c.phase = phasePartial
		return true
	}
	c.phase = phaseSent
	_ = c.finished(nil)
	return false
}

// finished notes that the request is sent, unless err is set, and returns err.
func (c *clientConn) finished(err error) error {
	if err == nil {
		c.sent = true
		c.send.Sent()
	}
	return err
}

// upload streams the body. If the client's side fails, it interrupts the wait for the answer.
func (c *clientConn) upload(s *core.Send) {
	defer func() {
		c.flowing.Store(false)
		c.uploaded <- struct{}{}
	}()
	var size [20]byte
	chunked := s.Out.Length == message.Unknown
	for {
		p, err := s.Body.Next()
		if err == io.EOF { //nolint:errorlint // by the contract of Body
			if chunked {
				err = c.out.write(appendEnd(nil, s.Body.Trailers()))
			} else {
				err = nil
			}
			_ = c.finished(err)
			return
		}
		if err != nil {
			c.gone.Store(true)
			_ = c.SetReadDeadline(past)
			return
		}
		if chunked {
			err = c.out.write(append(strconv.AppendInt(size[:0], int64(len(p)), 16), "\r\n"...), p, crlf)
		} else {
			err = c.out.write(p)
		}
		if err != nil {
			return
		}
	}
}

// appendEnd appends the last chunk, of size 0, and the trailers.
func appendEnd(dst []byte, trailers []message.Field) []byte {
	dst = append(dst, "0\r\n"...)
	for _, f := range trailers {
		dst = message.AppendField(dst, f.Name, f.Value)
	}
	return append(dst, crlf...)
}
