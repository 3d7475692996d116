// Package core forwards a request from the client to a backend: it finds the rule, applies filters, makes
// copies, retries, enforces timeouts and counts. It is independent of HTTP/1.1 and HTTP/2: the terminators of
// these protocols implement Downstream, the client's side, and Transport, the backend's.
package core

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Body is the body of a request or of a response, read piece by piece.
type Body interface {
	// Next returns the next bytes, valid until the next call. It blocks only if none have arrived yet, and
	// returns io.EOF at the end of the body.
	Next() ([]byte, error)
	// Ready reports whether Next returns without blocking.
	Ready() bool
	// Trailers returns the trailer fields, once Next has returned io.EOF.
	Trailers() []message.Field
}

// RequestBody is the body of a request.
type RequestBody interface {
	Body
	// Whole reports whether the whole body is in memory: then Next never blocks, and its results are valid
	// until the exchange ends.
	Whole() bool
}

// Downstream is the client's side of one exchange: the body of the request, and the response.
type Downstream interface {
	RequestBody
	// Inform sends an interim response.
	Inform(r *message.Reply) error
	// Begin sends the head of the final response. It may buffer it until Flush.
	Begin(r *message.Reply) error
	// Write sends a piece of the response's body. It may buffer it until Flush.
	Write(p []byte) error
	// Flush sends everything that is buffered.
	Flush() error
	// End ends the response.
	End(trailers []message.Field) error
	// Abort ends the response in a way that lets the client notice that it is incomplete.
	Abort()
	// Interrupt makes Next return an error, even a call that is blocked already.
	Interrupt()
	// Gone reports whether the client has aborted its connection or stream, or closed its connection. Gone may
	// be called from any goroutine.
	Gone() bool
	// Tunnel sends the head of a 101, or of a 2xx that answers CONNECT, and hands over the connection.
	Tunnel(r *message.Reply) (Tunnel, error)
}

// Relayer is implemented by a Downstream that may have a faster path for a response's body.
type Relayer interface {
	// Relay, called after Begin, forwards the rest of the body by a faster path (splice) where there is one,
	// and returns how many bytes it forwarded. The caller forwards the remainder. The error is ErrTruncated if
	// it is the backend's.
	Relay(from Answer) (sent int64, err error)
}

// Tunnel is one side of a connection that changed its protocol.
type Tunnel interface {
	// Next returns the next bytes, valid until the next call, and io.EOF once the peer has closed its half of
	// the connection.
	Next() ([]byte, error)
	Write(p []byte) (int, error)
	CloseWrite() error
	Close() error
}

// Send is one attempt to send a request to an endpoint.
type Send struct {
	Out  message.Outgoing
	Body RequestBody
	// Now is the current time if the caller has just read it, else zero.
	Now time.Time
	// Deadline is when the response must be complete; zero means no deadline.
	Deadline time.Time
	// Inform is called for every interim response.
	Inform func(*message.Response) error
	// Sent is called when the whole request has been written.
	Sent func()
	// SentAt is when the request was written, if the Transport notices only later; else zero.
	SentAt time.Time
	// Gone reports whether the client no longer waits for the answer.
	Gone func() bool
	// Interrupt makes Body.Next return an error.
	Interrupt func()
	// Carried is what the Transport keeps from one attempt to the next; nil at first. After a failure the core
	// releases it, unless it makes another attempt.
	Carried Carried
	// Copied is set if copies wait for the end of the request's body.
	Copied bool
	// Fresh demands a new connection.
	Fresh bool
	// Reused is set by the Transport if it used a connection that had been used before.
	Reused bool
}

// Carried is what a Transport keeps of an exchange from one attempt to the next.
type Carried interface {
	// Release ends the use of the request's body, and reports whether it was read to its end.
	Release() (sent bool)
}

// Transport sends requests in one protocol.
type Transport interface {
	// Send sends the request and returns once the head of the final response has arrived. Errors are
	// upstream.ErrConnect, ErrRefused, ErrUnanswered, ErrGone, a timeout, or any other error for an invalid
	// answer. After an error Send uses s no more, except by what it left in s.Carried.
	Send(to *upstream.Endpoint, s *Send) (Answer, error)
}

// Answer is a response that has begun.
type Answer interface {
	Body
	Head() *message.Response
	// Tunnel hands over the connection after a 101, or after a 2xx that answers CONNECT, once the request is
	// sent. It returns nil if that fails, or if the protocol has no tunnels.
	Tunnel() Tunnel
	// Finish ends the exchange. complete reports whether the answer's body was read to its end; if not, the
	// connection is closed. Finish returns whether the whole body of the request was sent, and does not use
	// that body any more.
	Finish(complete bool) (sent bool)
}

// Options configure a Core.
type Options struct {
	HTTP, H2C  Transport
	ShadowHTTP shadow.Sender
	ShadowH2C  shadow.Sender
	Pool       *upstream.Pool // of primaries
	ShadowPool *upstream.Pool // of variants; separate, so that neither uses up the other's connections
	Metrics    *Metrics
	// Failed is called for every answer of the proxy's own with a status of 5xx; nil means not at all. It must not
	// block.
	Failed func(*Exchange)
	// HideReason leaves out the field ReasonField of the proxy's own errors.
	HideReason bool
	// Compare returns the comparison of the answers to a mirror's copies, nil for none. Nil compares none.
	Compare func(*routing.Mirror) *shadow.Compared
	// AccessLog is called after every exchange, and after every copy that was answered. Nil means no log. It
	// must not block, because primaries and copies share it.
	AccessLog func(*Record)
}

// maxAttempts is how many endpoints are tried for one request or connection.
const maxAttempts = 3

// Core serves exchanges according to the current table.
type Core struct {
	options Options
	state   atomic.Pointer[state]
	queues  map[string]*shadow.Queue
	// ids counts, for every ID of an endpoint, the ports of the current table that have it.
	ids map[string]int
	// secured are the settings of TLS of the current table, by their keys.
	secured map[string]*upstream.TLS
	// removed holds the last *state of every removed listener, by name, until ForgetListener.
	removed sync.Map
}

// state is a table, with the core's data about its entries in slices with the same indexes.
type state struct {
	table     *routing.Table
	listeners map[string]int
	ports     []port
	queues    []*shadow.Queue
	// meters are those of requests to a port, by the indexes of listener and port; nil until there is one.
	meters  [][]atomic.Pointer[meter]
	mirrors []*mirrorObserver
	// counts are those of the mirrors, by name.
	counts map[string]*mirrorCounts
	// compared are the comparisons of answers, by mirror; nil for a mirror without.
	compared []*shadow.Compared
}

// New returns a core that answers 503 until SetTable is called.
func New(o *Options) *Core {
	return &Core{options: *o, queues: map[string]*shadow.Queue{}, ids: map[string]int{}}
}

// SetTable makes all later requests follow the table. Calls must not overlap.
func (c *Core) SetTable(table *routing.Table) {
	before := c.state.Load()
	if before != nil {
		table.Inherit(before.table)
	}
	s := &state{table: table, listeners: map[string]int{}, counts: make(map[string]*mirrorCounts, len(table.Mirrors))}
	for i, l := range table.Listeners {
		s.listeners[l.Name] = i
	}
	s.ports = c.ports(table)
	for range table.Listeners {
		s.meters = append(s.meters, make([]atomic.Pointer[meter], len(table.Ports)))
	}
	for _, m := range table.Mirrors {
		s.counts[m.Name] = c.countsOf(before, m)
		s.mirrors = append(s.mirrors, &mirrorObserver{c.options.Metrics.mirror(m), s.counts[m.Name], m, c.options.AccessLog})
		var compared *shadow.Compared
		if c.options.Compare != nil {
			compared = c.options.Compare(m)
		}
		s.compared = append(s.compared, compared)
	}
	names := map[string]bool{}
	for _, t := range table.Targets {
		names[t.Name] = true
		s.queues = append(s.queues, c.queue(s, t))
		if t.Port != nil {
			s.ports[t.Port.Index].target = t
		}
	}
	if before != nil {
		for name := range before.listeners {
			if _, ok := s.listeners[name]; !ok {
				c.removed.Store(name, before)
			}
		}
	}
	c.state.Store(s)
	c.forget(before, s, names)
}

// lookup returns the state that serves a listener. It is an older state if the listener was removed while the
// request arrived.
func (c *Core) lookup(listener string) (s *state, index int, ok bool) {
	s = c.state.Load()
	if s == nil {
		return nil, 0, false
	}
	if index, ok = s.listeners[listener]; ok {
		return s, index, true
	}
	if last, found := c.removed.Load(listener); found {
		s = last.(*state)
		index, ok = s.listeners[listener]
	}
	return s, index, ok
}

// ForgetListener drops the state of a listener that SetTable removed. Call it when no more requests can
// arrive at that listener.
func (c *Core) ForgetListener(name string) {
	c.removed.Delete(name)
	if s := c.state.Load(); s != nil {
		if _, again := s.listeners[name]; again {
			return
		}
	}
	c.options.Metrics.forgetMeters(func(at *place) bool { return at.listener == name })
	p := c.options.Metrics.passthrough
	forgetSeries(prometheus.Labels{"listener": name}, p.connections.MetricVec, p.bytes.MetricVec, p.open.MetricVec)
}

// queue returns the queue of a target. It may hold copies that were made by the previous table.
func (c *Core) queue(s *state, t *routing.MirrorTarget) *shadow.Queue {
	var ready []string
	var secure *upstream.TLS
	if t.Port != nil {
		ready, secure = t.Port.Ready, s.ports[t.Port.Index].secure
	}
	config := c.config(t, ready, secure)
	queue := c.queues[t.Name]
	if queue == nil {
		queue = shadow.NewQueue(config)
		c.queues[t.Name] = queue
		c.options.Metrics.queues.Store(t.Name, queue)
		return queue
	}
	queue.Configure(config)
	return queue
}

// forget drops queues, endpoints and metrics that only the previous table needed. A queue sends the copies
// that are under way to their end.
func (c *Core) forget(before, now *state, targets map[string]bool) {
	clear(c.ids)
	for i := range now.ports {
		c.retain(now.ports[i].ids)
	}
	known := func(id string) bool { return c.ids[id] > 0 }
	c.options.Pool.Keep(known)
	c.options.ShadowPool.Keep(known)
	for name, queue := range c.queues {
		if !targets[name] {
			delete(c.queues, name)
			c.options.Metrics.queues.Delete(name)
			go queue.Close()
		}
	}
	if before != nil {
		c.options.Metrics.forget(now)
	}
}

// Close drops queued copies and waits for those under way. All exchanges must have ended.
func (c *Core) Close() {
	for _, queue := range c.queues {
		queue.Close()
	}
}

// Abandon drops queued copies, and does not wait for those under way.
func (c *Core) Abandon() {
	for _, queue := range c.queues {
		queue.Drop()
	}
}
