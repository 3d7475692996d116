// A request's way to the backend.

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

// writeRequest sends the head, and the body too if it is there already; else a goroutine sends the
// body while the answer is awaited. An error may come with an answer, so that is read anyway, but for
// errStale: then nothing was sent.
func (c *clientConn) writeRequest(s *core.Send, reused bool) error {
	out := message.AppendRequest(buffer.Small()[:0], &s.Out)
	defer buffer.Recycle(out)
	if s.Out.Length == 0 {
		return c.ask(reused, out)
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
			return c.ask(false, out, large)
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

// How far ask has come.
type asking uint8

const (
	asked  asking = iota // all of it is sent
	toLook               // see whether the connection, which was idle, is quiet
	toSend
	stale   // it was not quiet, and nothing was sent
	partial // the socket did not take all of it, or failed
)

// ask sends the end of a request, and waits for the beginning of the answer, which it leaves to
// readHead. It does both in one go: as the runtime minds what arrives from before the request is
// sent, nothing need be read in vain before the wait. reused says that the connection was idle.
func (c *clientConn) ask(reused bool, pieces ...[]byte) error {
	if c.in.raw == nil {
		return c.finished(c.out.write(pieces...))
	}
	if err := c.body.prepare(); err != nil {
		return err
	}
	c.out.load(pieces...)
	if c.asking = toSend; reused {
		c.asking = toLook
	}
	for {
		err := c.in.fillBy(c.exchange)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.failure = c.again(err)
		}
		switch {
		case c.asking == stale:
			return errStale
		case c.asking == partial:
			return c.finished(c.out.flush())
		case c.asking == asked || c.failure != nil:
			return nil //nolint:nilerr // readHead meets any other error of the socket's, too
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if err := c.body.prepare(); err != nil { // the deadline had passed before the request was sent
			return err
		}
	}
}

// askAndPull does what ask is for.
func (c *clientConn) askAndPull(fd uintptr) bool {
	switch c.asking {
	case toLook:
		if c.in.peek(fd); !c.in.quiet {
			c.asking = stale
			return true
		}
	case asked:
		return c.in.pull(fd)
	}
	if !c.out.push(fd) || c.out.err != nil {
		c.asking = partial
		return true
	}
	c.asking = asked
	_ = c.finished(nil)
	return false
}

// finished notes that the request is sent.
func (c *clientConn) finished(err error) error {
	if err == nil {
		c.sent = true
		c.send.Sent()
	}
	return err
}

// upload streams the body. If the client's side fails, nobody waits for an answer any more.
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

// appendEnd appends the last chunk and the trailers.
func appendEnd(dst []byte, trailers []message.Field) []byte {
	dst = append(dst, "0\r\n"...)
	for _, f := range trailers {
		dst = message.AppendField(dst, f.Name, f.Value)
	}
	return append(dst, crlf...)
}
