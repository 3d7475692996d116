// The terminator of connections that are passed through: nobody looks into their bytes.

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

// passthrough is the terminator of a listener that passes TCP through.
type passthrough struct {
	server   *Server
	config   *atomic.Pointer[Listener]
	listener string
	metrics  *core.PassthroughMetrics
	ctx      context.Context // ends all connections
	stop     context.CancelFunc
	retired  context.Context // ends connections in their pauses
	retires  context.CancelFunc
}

func newPassthrough(s *Server, config *atomic.Pointer[Listener]) *passthrough {
	listener := config.Load().Name
	p := &passthrough{server: s, config: config, listener: listener, metrics: s.core.PassthroughMetrics(listener)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.retired, p.retires = context.WithCancel(context.Background())
	return p
}

func (p *passthrough) start() {}

// drain does nothing: the protocol is not known, so no client can be asked to leave.
func (p *passthrough) drain() {}

// retire ends each connection in a pause, if a Shutdown with a bound is under way.
func (p *passthrough) retire() { p.retires() }

func (p *passthrough) wait() { p.stop() } // the listener waits for connections

func (p *passthrough) kill() { p.stop() }

func (p *passthrough) serve(client *slotted) {
	backend, leave, err := p.open(client)
	if err != nil {
		p.refuse(client, err)
		return
	}
	p.pass(client, backend, leave)
}

// open connects to an endpoint for a client.
func (p *passthrough) open(client *slotted) (backend *net.TCPConn, leave func(), err error) {
	conn, leave, err := p.server.core.Open(p.ctx, p.listener, client.RemoteAddr().String())
	if err != nil {
		return nil, nil, err
	}
	if p.config.Load().SendProxyProtocol {
		if _, err := conn.Write(appendProxyHeader(nil, addrPort(client.RemoteAddr()), addrPort(client.LocalAddr()))); err != nil {
			_ = conn.Close()
			leave()
			return nil, nil, err
		}
	}
	return conn.(*net.TCPConn), leave, nil
}

// refuse ends the connection of a client for which there is no backend.
func (p *passthrough) refuse(client *slotted, err error) {
	outcome := core.Connect
	if errors.Is(err, core.ErrNoEndpoint) {
		outcome = core.NoEndpoint
	}
	p.metrics.Count(outcome)
	_ = client.SetLinger(0) // a reset, as if the client had connected to the backend itself
	_ = client.Close()
}

// pass joins a client to a backend until both have ended.
func (p *passthrough) pass(client *slotted, backend *net.TCPConn, leave func()) {
	defer leave()
	p.metrics.Open.Inc()
	defer p.metrics.Open.Dec()
	p.metrics.Count(p.join(&passage{client: client, backend: backend, idle: p.server.options.PassIdle}))
}

// join passes bytes in both directions until both sides have ended.
func (p *passthrough) join(c *passage) core.Outcome {
	c.received.Store(time.Now().UnixNano())
	c.answered.Store(c.received.Load())
	c.timer = time.AfterFunc(time.Hour, c.checkIdle)
	c.timer.Reset(c.idle) // only now, because checkIdle uses c.timer
	defer c.timer.Stop()
	defer context.AfterFunc(p.ctx, c.abort)()
	over := make(chan struct{})
	defer context.AfterFunc(p.retired, func() { c.leave(p.server.bound(), over) })()
	var wg sync.WaitGroup
	wg.Go(func() { c.relay(c.backend, c.client.TCPConn, p.metrics.Received, &c.received) })
	c.relay(c.client.TCPConn, c.backend, p.metrics.Sent, &c.answered)
	wg.Wait()
	close(over)
	_ = c.client.Close()
	_ = c.backend.Close()
	switch {
	case c.expired.Load():
		return core.Idle
	case c.broken.Load():
		return core.Broken
	}
	return core.Ended
}

// passage is a client's connection and the backend's to which it is joined.
type passage struct {
	client  *slotted
	backend *net.TCPConn
	idle    time.Duration
	timer   *time.Timer
	// received and answered are when the last bytes arrived from the client and from the backend, in Unix nanoseconds.
	received, answered atomic.Int64
	// left is set when the backend was told that its client has ended, and the client was not asked.
	left            atomic.Bool
	expired, broken atomic.Bool
}

// checkIdle breaks the connection off if it has been idle for too long, or else checks again when it would
// be.
func (c *passage) checkIdle() {
	rest := c.idle - time.Since(time.Unix(0, max(c.received.Load(), c.answered.Load())))
	if rest > 0 {
		c.timer.Reset(rest)
		return
	}
	c.expired.Store(true)
	c.abort()
}

// leave ends the connection in a pause before the bound, unless it is over: when the backend has spoken last, a while ago,
// its answer most likely has ended. The backend takes it for the end of its client, and ends the connection as its
// protocol wants.
func (c *passage) leave(bound time.Time, over <-chan struct{}) {
	if bound.IsZero() {
		return
	}
	total := time.Until(bound)
	tick := time.NewTicker(shortest)
	defer tick.Stop()
	for {
		answered := c.answered.Load()
		silent := time.Since(time.Unix(0, answered))
		if answered >= c.received.Load() && silent > pause(total, time.Until(bound)) {
			c.left.Store(true)
			_ = c.backend.CloseWrite()
			return
		}
		select {
		case <-tick.C:
		case <-over:
			return
		}
	}
}

// shortest is the shortest silence that is taken for a pause.
const shortest = 10 * time.Millisecond

// pause returns which silence is taken for a pause when so much of a total time is left: first a long one, which leaves a
// slow answer its time, then shorter ones. It shrinks in steps, so that most pauses are noticed at their beginning: one that
// shrank all the time would end each connection when its client is about to speak.
func pause(total, left time.Duration) time.Duration {
	share := total / 4
	for step := total / 2; left < step && share > shortest; step /= 2 {
		share /= 8
	}
	return max(share, shortest)
}

// abort resets both connections, so that neither side takes it for a proper end.
func (c *passage) abort() {
	c.broken.Store(true)
	for _, conn := range []*net.TCPConn{c.client.TCPConn, c.backend} {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

// relay copies until from ends, and then ends the same direction of to. After an error it breaks off both
// directions. It keeps in last when bytes arrived.
func (c *passage) relay(to, from *net.TCPConn, count prometheus.Counter, last *atomic.Int64) {
	buf := buffer.Small()
	defer func() { buffer.Recycle(buf) }()
	for {
		n, err := from.Read(buf)
		if n > 0 {
			last.Store(time.Now().UnixNano())
			if _, failed := to.Write(buf[:n]); failed != nil {
				c.abort()
				return
			}
			count.Add(float64(n))
			buf = fit(buf, n)
		}
		switch {
		case errors.Is(err, io.EOF):
			if to.CloseWrite() != nil {
				c.abort()
			}
			if from == c.backend && c.left.Load() {
				_ = c.client.SetReadDeadline(past)
			}
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			c.abort()
			return
		}
	}
}

// fit returns the buffer for the next read: a large one while there is much to read, so that an idle
// connection holds small ones. n is the size of the last read.
func fit(buf []byte, n int) []byte {
	switch {
	case n == buffer.SmallSize:
		buffer.Recycle(buf)
		return buffer.Large()
	case n < buffer.SmallSize && len(buf) > buffer.SmallSize:
		buffer.Recycle(buf)
		return buffer.Small()
	}
	return buf
}
