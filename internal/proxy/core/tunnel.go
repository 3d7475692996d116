package core

// Tunnels: connections that change their protocol after an upgrade or CONNECT.

import (
	"errors"
	"io"
	"net/http"
)

// tunnel copies bytes between client and backend after an upgrade, until both have closed their half or one
// connection breaks.
func (c *Core) tunnel(x *Exchange, answer Answer) {
	backend := answer.Tunnel()
	if backend == nil { // checked before the head is sent
		answer.Finish(false)
		c.respond(x, http.StatusBadGateway, NoTunnel, "the backend's connection cannot become a tunnel")
		return
	}
	client, err := x.Downstream.Tunnel(&x.reply)
	if err != nil {
		answer.Finish(false)
		x.Downstream.Abort()
		return
	}
	c.options.Metrics.tunnels.Inc()
	defer c.options.Metrics.tunnels.Dec()
	done := make(chan int64, 1)
	go func() { done <- relay(backend, client) }()
	x.sent = relay(client, backend)
	x.received = <-done
	_ = client.Close()
	_ = backend.Close()
}

// relay copies from one side to the other until from ends, and then closes the sending half of to. After an
// error it closes both.
func relay(to, from Tunnel) (n int64) {
	for {
		p, err := from.Next()
		if err == nil {
			n += int64(len(p))
			_, err = to.Write(p)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) || to.CloseWrite() != nil {
			_ = to.Close()
			_ = from.Close()
		}
		return n
	}
}
