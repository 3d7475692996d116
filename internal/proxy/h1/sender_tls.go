// Copies over HTTP/1.1 and TLS. A goroutine for each copy sends it and reads the answer: encryption cannot be left to
// the socket.

package h1

import (
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// sendSecured sends a copy and reads its answer.
func (s *Sender) sendSecured(to *upstream.Endpoint, copied *shadow.Copy) {
	c, err := s.securedConn(to, copied)
	if err != nil {
		copied.Done(0, err)
		return
	}
	c.until(copied.Until)
	c.sent, c.failure = true, c.writeCopy(copied)
	c.sentAt = time.Now()
	status, reusable, err := c.answer(copied, c.failure)
	copied.End = time.Now()
	if reusable {
		c.in.release()
		reusable = to.Put(c, copied.End)
	}
	if !reusable {
		c.destroy()
	}
	copied.Done(status, err)
}

// securedConn takes an idle connection whose peer has been quiet, or opens one.
func (s *Sender) securedConn(to *upstream.Endpoint, copied *shadow.Copy) (*senderConn, error) {
	for idle := to.Take(); idle != nil; idle = to.Take() {
		if c := idle.(*senderConn); c.alive() {
			return c, nil
		}
		_ = idle.Close()
	}
	conn, err := dial(to, copied.Until)
	if err != nil {
		return nil, err
	}
	c := &senderConn{clientConn: clientConn{Conn: conn, endpoint: to, limits: &s.limits}}
	c.init()
	return c, nil
}
