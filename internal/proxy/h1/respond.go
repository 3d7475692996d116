// The response's way to the client: heads, bodies and tunnels, written through one buffer.

package h1

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Inform implements core.Downstream. HTTP/1.0 has no interim responses.
func (c *serverConn) Inform(r *message.Reply) error {
	if c.x.Request.Minor == 0 {
		return nil
	}
	c.appendHead(r)
	c.out = append(c.out, crlf...)
	return c.Flush()
}

// appendHead appends the head of a response without a body, up to its empty line.
func (c *serverConn) appendHead(r *message.Reply) {
	c.ownBuffer()
	c.out = message.AppendStatus(c.out, r.Status, r.Reason)
	for name, value := range r.Each {
		if !message.Is(name, "content-length") {
			c.out = message.AppendField(c.out, name, value)
		}
	}
}

// ownBuffer takes a buffer for out, if there is none.
func (c *serverConn) ownBuffer() {
	if c.out == nil {
		c.out = buffer.Small()[:0]
	}
}

// Begin implements core.Downstream. The head leaves with the first bytes of the body. An answer before the
// request's end is the connection's last: the rest of the body would be read as a request.
func (c *serverConn) Begin(r *message.Reply) error {
	c.ownBuffer()
	req := &c.x.Request
	c.chunked = r.Length == message.Unknown && !r.Bodyless && req.Minor > 0
	c.framed = c.chunked || r.Length > 0
	if c.server.last() || !c.whole.Load() ||
		r.Length == message.Unknown && !r.Bodyless && !c.chunked {
		c.keep = false
	}
	c.out = message.AppendStatus(c.out, r.Status, r.Reason)
	c.appendFields(r)
	switch {
	case !c.keep:
		c.out = append(c.out, "Connection: close\r\n"...)
	case req.Minor == 0:
		c.out = append(c.out, "Connection: keep-alive\r\n"...)
	}
	c.out = append(c.out, crlf...)
	return nil
}

// appendFields appends the response's fields and the framing of its body.
func (c *serverConn) appendFields(r *message.Reply) {
	length := false
	for name, value := range r.Each {
		if len(name) == 14 && message.Is(name, "content-length") {
			if length = true; c.chunked || r.Status == http.StatusNoContent {
				continue
			}
		}
		c.out = message.AppendField(c.out, name, value)
	}
	switch {
	case c.chunked:
		c.out = append(c.out, "Transfer-Encoding: chunked\r\n"...)
	case !length && !r.Bodyless && r.Length >= 0:
		c.out = append(strconv.AppendInt(append(c.out, "Content-Length: "...), r.Length, 10), crlf...)
	}
}

// Write implements core.Downstream: small pieces are collected, a large one leaves together with those that
// were collected before.
func (c *serverConn) Write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.chunked {
		c.out = append(strconv.AppendInt(c.out, int64(len(p)), 16), crlf...)
	}
	if len(c.out)+len(p)+len(crlf) <= cap(c.out) {
		c.out = append(c.out, p...)
	} else if err := c.writeWith(p); err != nil {
		return err
	}
	if c.chunked {
		c.out = append(c.out, crlf...)
	}
	return nil
}

// writeWith sends p after the collected bytes.
func (c *serverConn) writeWith(p []byte) error {
	err := c.to.write(c.out, p)
	c.out = c.out[:0]
	return err
}

// Flush implements core.Downstream.
func (c *serverConn) Flush() error {
	if len(c.out) == 0 {
		return nil
	}
	return c.writeWith(nil)
}

// End implements core.Downstream.
func (c *serverConn) End(trailers []message.Field) error {
	if c.chunked {
		c.out = appendEnd(c.out, trailers)
	}
	return c.Flush()
}

// Abort implements core.Downstream. If the response would end with its connection, that is reset, because the client
// must not take what it has for the whole.
func (c *serverConn) Abort() {
	c.aborted, c.keep = true, false
}

var errTunnelVersion = errors.New("no upgrade in HTTP/1.0")

// Tunnel implements core.Downstream.
func (c *serverConn) Tunnel(r *message.Reply) (core.Tunnel, error) {
	if c.x.Request.Minor == 0 && r.Status == http.StatusSwitchingProtocols {
		return nil, errTunnelVersion
	}
	c.appendHead(r)
	if r.Status == http.StatusSwitchingProtocols {
		c.out = message.AppendField(c.out, "Connection", "Upgrade")
		c.out = message.AppendField(c.out, "Upgrade", message.Find(r.Fields, "upgrade"))
	}
	c.out = append(c.out, crlf...)
	c.keep = false
	if err := c.Flush(); err != nil {
		return nil, err
	}
	c.in.within(0, c.now)
	_ = c.SetWriteDeadline(noDeadline)
	c.body.reset(0, true)
	c.body.wait = nil
	return &tunnel{c.Conn, &c.in, &c.body}, nil
}
