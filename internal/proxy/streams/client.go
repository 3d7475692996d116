// Connections to backends, shared by exchanges up to the backend's limit, and opened by need.

package streams

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

const (
	// backendWindow is how many bytes of all answers on one connection may be unread: as many as 256 clients of a primary
	// can leave unread, so that fewer of them cannot hold up the answers to others.
	backendWindow = 64 << 20
	// backendPing is how long a connection to a backend may be silent before a PING checks it. gRPC servers end a
	// connection, with every stream on it, whose PINGs come more often than every five minutes.
	backendPing = 5*time.Minute + 10*time.Second
	// firstCalls is how many streams a backend is taken to accept before it says so, and maxCalls the most.
	firstCalls = 100
	maxCalls   = 10_000
	lastCallID = 1<<31 - 1000
)

// Dial opens a connection to an endpoint for HTTP/2.
type Dial func(ctx context.Context, to *upstream.Endpoint) (net.Conn, error)

// Transport sends requests over HTTP/2. It implements core.Transport.
type Transport struct {
	limits h1.Limits
	window int64
	idle   time.Duration
	dial   Dial

	running sync.WaitGroup
	mu      sync.Mutex
	groups  map[*upstream.Endpoint]*group
	closed  bool
}

// group is the connections to one endpoint.
type group struct {
	conns   []*backend
	dialing *dialing
}

// dialing is a connection that is being opened: done is closed when it is there, or failed with err.
type dialing struct {
	done chan struct{}
	err  error
}

// NewTransport returns a transport with connections of its own. window is the most bytes of an answer's body that may be
// unread, and idle is how long idle connections are kept. Close ends the transport.
func NewTransport(limits *h1.Limits, window int, idle time.Duration, dial Dial) *Transport {
	return &Transport{limits: limits.Defaulted(), window: int64(window), idle: idle, dial: dial, groups: map[*upstream.Endpoint]*group{}}
}

// Close closes all connections. No exchange may be under way, except those whose end nobody waits for.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	for _, g := range t.groups {
		for _, b := range g.conns {
			b.fail(net.ErrClosed)
		}
	}
	t.mu.Unlock()
	t.running.Wait()
}

// backend is a connection to a backend.
type backend struct {
	*conn
	transport *Transport
	to        *upstream.Endpoint
	head      answerHead
	// finished are the copies that have ended, whose Done is still to be called.
	finished []*call
}

// take returns a connection that has a place for one more stream, which it takes.
func (t *Transport) take(to *upstream.Endpoint, fresh bool, deadline time.Time) (b *backend, reused bool, err error) {
	for waited := false; ; {
		t.mu.Lock()
		g := t.groups[to]
		if g == nil {
			g = &group{}
			t.groups[to] = g
		}
		if !fresh || waited {
			if b := g.find(); b != nil {
				t.mu.Unlock()
				return b, !waited, nil
			}
		}
		if other := g.dialing; other != nil {
			t.mu.Unlock()
			<-other.done
			waited = true
			if other.err != nil {
				return nil, false, other.err
			}
			continue
		}
		g.dialing = &dialing{done: make(chan struct{})}
		t.mu.Unlock()
		b, err := t.open(to, g, deadline)
		return b, false, err
	}
}

// find takes a place on a connection of the group. The transport's lock is held.
func (g *group) find() *backend {
	for _, b := range slices.Backward(g.conns) {
		if b.enter() {
			return b
		}
	}
	return nil
}

// enter takes a place for one more stream.
func (b *backend) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil || b.goAway || b.running >= b.mostCalls || b.lastID >= lastCallID {
		return false
	}
	b.running++
	return true
}

// leave gives back a place. b.mu is held.
func (b *backend) leave() {
	if b.running--; b.running == 0 {
		b.emptySince = time.Now()
	}
	b.endIfDone()
}

// open opens a connection and takes a place on it.
func (t *Transport) open(to *upstream.Endpoint, g *group, deadline time.Time) (*backend, error) {
	ctx := context.Background()
	if !deadline.IsZero() {
		bounded, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		ctx = bounded
	}
	nc, err := t.dial(ctx, to)
	var b *backend
	if err == nil {
		b = &backend{conn: newConn(nc, &t.limits, t.window, backendWindow), transport: t, to: to}
		b.side, b.pingAfter, b.idle, b.mostCalls = b, backendPing, t.idle, firstCalls
		b.running = 1
		b.out = append(b.out, preface...)
		b.out = appendSettings(b.out, settingPush, 0, settingWindow, uint32(b.streamWindow)) //nolint:gosec // far below
		b.out = appendWindow(b.out, 0, backendWindow-defaultWindow)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ours := g.dialing
	g.dialing, ours.err = nil, err
	defer close(ours.done)
	if err != nil {
		if len(g.conns) == 0 && t.groups[to] == g {
			delete(t.groups, to)
		}
		return nil, err
	}
	if t.closed {
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	g.conns = append(g.conns, b)
	t.running.Go(b.serve)
	return b, nil
}

// serve reads frames until the connection ends.
func (b *backend) serve() {
	b.loop(func() error { return nil })
	b.ended()
	t := b.transport
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[b.to]
	if g == nil {
		return
	}
	for i, other := range g.conns {
		if other == b {
			g.conns = append(g.conns[:i], g.conns[i+1:]...)
			break
		}
	}
	if len(g.conns) == 0 && g.dialing == nil {
		delete(t.groups, b.to)
	}
}

// takeLeave takes GOAWAY: streams after the last one that the backend has taken are sent elsewhere.
func (b *backend) takeLeave(last uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.goAway = true
	for id, f := range b.streams {
		if id > last {
			delete(b.streams, id)
			f.unprocessed = true
			f.lose()
		}
	}
	b.endIfDone()
}

func (b *backend) field(f hpack.HeaderField) { b.head.field(f) }

// ended calls Done of the copies that have ended.
func (b *backend) ended() {
	b.mu.Lock()
	finished := b.finished
	b.finished = nil
	b.mu.Unlock()
	for _, a := range finished {
		a.timer.Stop()
		most := mostTries
		if a.code != codeRefused {
			most = mostConnections
		}
		if a.unprocessed && !a.lent && a.tries < most && errors.Is(a.err, errCut) {
			go (&Sender{b.transport}).send(b.to, a.copied, a.tries+1)
			continue
		}
		a.copied.Done(a.status, a.err)
	}
}

// data implements side: the answers to copies are dropped as they arrive.
func (b *backend) data(f *flow, p []byte, ends bool) bool {
	a := f.call
	if a.copied == nil {
		return false
	}
	b.giveBack(len(p))
	f.giveBack(len(p))
	a.copied.Capture.Write(p)
	a.dropped += len(p)
	switch {
	case ends:
		a.finishCopy(nil)
	case a.dropped > discardLimit:
		b.out = appendReset(b.out, f.id, codeCancel)
		f.localClosed = true
		a.finishCopy(nil)
	}
	return true
}

// cutoff ends the use of a stream that has not ended. b.mu is held.
func (b *backend) cutoff(f *flow) {
	if b.streams[f.id] != f {
		return
	}
	delete(b.streams, f.id)
	if !f.localClosed || !f.remoteClosed {
		b.out = appendReset(b.out, f.id, codeCancel)
		b.reset[b.resetAt%len(b.reset)] = f.id
		b.resetAt++
	}
}

var (
	_ core.Transport = (*Transport)(nil)
)
