package core

import (
	"errors"
	"io"
	"net/http"
)

// tunnel joins client and backend after an upgrade, until both have closed their half or one of
// the two breaks.
func (c *Core) tunnel(x *Exchange, answer Answer) {
	backend := answer.Tunnel()
	if backend == nil { // asked first: a head that was sent cannot be taken back
		answer.Finish(false)
		c.respond(x, http.StatusBadGateway, "the backend's connection cannot become a tunnel")
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

// relay copies until from ends, which it passes on as the end of one direction. If anything breaks
// it breaks both directions.
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
