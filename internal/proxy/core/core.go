// Package core is what happens to a request between the client's side and a backend's: the rule it
// belongs to, filters, copies, attempts, timeouts, counting. It knows neither HTTP/1.1 nor HTTP/2;
// terminators hand it requests through Downstream, and carry them on through Transport.
package core

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Body is a body on its way through, in either direction.
type Body interface {
	// Next returns the bytes that follow, valid until the next call, and waits only if there are
	// none. After the last it returns io.EOF.
	Next() ([]byte, error)
	// Ready says that Next will not wait.
	Ready() bool
	// Trailers are the fields after the body, once Next returned io.EOF.
	Trailers() []message.Field
}

// RequestBody is the body of a request.
type RequestBody interface {
	Body
	// Whole says that all of it has arrived, and is short: Next will not wait until the end, and what
	// it returns is valid until the exchange ends.
	Whole() bool
}

// Downstream is the client's side of one exchange.
type Downstream interface {
	RequestBody
	// Inform sends an interim response.
	Inform(r *message.Reply) error
	// Begin sends the head of the final response. It may hold it back until Flush.
	Begin(r *message.Reply) error
	// Write sends a piece of its body, and may hold it back until Flush.
	Write(p []byte) error
	Flush() error
	// End ends the response.
	End(trailers []message.Field) error
	// Abort makes the client notice that the response is cut short.
	Abort()
	// Interrupt makes a Next that waits return an error, now and later.
	Interrupt()
	// Gone says that the client has broken off its connection or stream. One that has only closed
	// its sending half is there. It may be called from another goroutine.
	Gone() bool
	// Tunnel sends the head of a 101 or of a 2xx to CONNECT and hands the connection over.
	Tunnel(r *message.Reply) (Tunnel, error)
}

// Relayer is a Downstream that may know a shorter way for a body.
type Relayer interface {
	// Relay sends of an answer's body, after Begin, what goes the shorter way: all or nothing of what
	// is left, as a rule. It returns how many bytes that were; what is left then goes on as others do.
	Relay(from Answer) (sent int64, err error)
}

// Tunnel is one side of a connection that changed its protocol.
type Tunnel interface {
	// Next returns the bytes that follow, valid until the next call; io.EOF when the peer has
	// closed its half.
	Next() ([]byte, error)
	Write(p []byte) (int, error)
	CloseWrite() error
	Close() error
}

// Send is a request that is to be sent once.
type Send struct {
	Out  message.Outgoing
	Body RequestBody
	// Now is the time, or zero if it has passed since.
	Now time.Time
	// Deadline is when the response must be complete; zero is never.
	Deadline time.Time
	// Inform is called for every interim response.
	Inform func(*message.Response) error
	// Sent is called when the request has been written to its end.
	Sent func()
	// SentAt is when that was, if the Transport learns of it only later; else zero.
	SentAt time.Time
	// Gone says that nobody waits for the answer any more.
	Gone func() bool
	// Interrupt makes Body.Next return.
	Interrupt func()
	// Fresh forbids to use a connection that was used before.
	Fresh bool
	// Reused is set by the Transport if it used one.
	Reused bool
}

// Transport sends requests in one protocol.
type Transport interface {
	// Send sends the request and returns when the head of the final response is there. Errors:
	// upstream.ErrConnect, ErrUnanswered, ErrGone, a timeout, or anything else for an answer that is none.
	// After an error nothing of s is used any more.
	Send(to *upstream.Endpoint, s *Send) (Answer, error)
}

// Answer is a response that has begun.
type Answer interface {
	Body
	Head() *message.Response
	// Tunnel hands the connection over after a 101 or a 2xx to CONNECT. It is nil where the
	// protocol has no tunnels.
	Tunnel() Tunnel
	// Finish ends the exchange. complete says that the body was read to its end; if not, the
	// connection is thrown away. Finish returns whether the request's body was sent to its end,
	// and ends the use of it in either case.
	Finish(complete bool) (sent bool)
}

// Options are what a Core needs beside its table.
type Options struct {
	HTTP, H2C  Transport
	ShadowHTTP shadow.Sender
	ShadowH2C  shadow.Sender
	Pool       *upstream.Pool // of primaries
	ShadowPool *upstream.Pool // of variants, apart so that neither takes the other's connections
	Metrics    *Metrics
	// AccessLog is called after every exchange, and after every copy that was answered; nil for
	// none. It must not wait: copies and primaries share it.
	AccessLog func(*Record)
}

// maxAttempts is how many endpoints are tried for one request or connection.
const maxAttempts = 3

// Core serves exchanges by the current table.
type Core struct {
	options Options
	state   atomic.Pointer[state]
	queues  map[string]*shadow.Queue
	// addresses counts the ports of the current table that have an endpoint there.
	addresses map[string]int
	unmatched *ruleMetrics // of requests that match no rule
	// removed has, by the names of listeners that were removed, the last *state that knew them.
	removed sync.Map
}

// state is a table and everything that is looked up by the indexes of its entries.
type state struct {
	table     *routing.Table
	listeners map[string]int
	ports     []port
	queues    []*shadow.Queue
	rules     []*ruleMetrics
	mirrors   []*mirrorObserver
}

// New returns a core that answers 503 until it gets a table.
func New(o *Options) *Core {
	return &Core{options: *o, queues: map[string]*shadow.Queue{}, addresses: map[string]int{}, unmatched: o.Metrics.rule(nil)}
}

// SetTable makes every request that comes from now on follow the table. It is not safe for
// concurrent use with itself.
func (c *Core) SetTable(table *routing.Table) {
	before := c.state.Load()
	if before != nil {
		table.Inherit(before.table)
	}
	s := &state{table: table, listeners: map[string]int{}}
	for i, l := range table.Listeners {
		s.listeners[l.Name] = i
	}
	s.ports = c.ports(table)
	for _, r := range table.Rules {
		s.rules = append(s.rules, c.options.Metrics.rule(r))
	}
	for _, m := range table.Mirrors {
		s.mirrors = append(s.mirrors, &mirrorObserver{c.options.Metrics.mirror(m), c.options.AccessLog})
	}
	names := map[string]bool{}
	for _, t := range table.Targets {
		names[t.Name] = true
		s.queues = append(s.queues, c.queue(t))
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

// lookup returns the state that serves a listener, which is an older one if the listener was
// removed while the request arrived.
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

// ForgetListener says that no request comes in any more at a listener that SetTable removed.
func (c *Core) ForgetListener(name string) {
	c.removed.Delete(name)
	if s := c.state.Load(); s != nil {
		if _, again := s.listeners[name]; again {
			return
		}
	}
	c.options.Metrics.passthrough.forget(name)
}

// queue returns the queue of a target, which may have copies under way from the table before.
func (c *Core) queue(t *routing.MirrorTarget) *shadow.Queue {
	var ready []string
	if t.Port != nil {
		ready = t.Port.Ready
	}
	config := c.config(t, ready)
	queue := c.queues[t.Name]
	if queue == nil {
		queue = shadow.NewQueue(config)
		c.queues[t.Name] = queue
		c.options.Metrics.queue(t.Name, queue)
		return queue
	}
	queue.Configure(config)
	return queue
}

// forget drops what only the table before needed. Targets that are gone finish what they have.
func (c *Core) forget(before, now *state, targets map[string]bool) {
	clear(c.addresses)
	for i := range now.ports {
		c.retain(now.ports[i].addresses)
	}
	known := func(address string) bool { return c.addresses[address] > 0 }
	c.options.Pool.Keep(known)
	c.options.ShadowPool.Keep(known)
	for name, queue := range c.queues {
		if !targets[name] {
			delete(c.queues, name)
			c.options.Metrics.forgetQueue(name)
			go queue.Close()
		}
	}
	if before != nil {
		c.options.Metrics.forget(before, now)
	}
}

// Close drops copies that wait and waits for those under way. Exchanges must have ended.
func (c *Core) Close() {
	for _, queue := range c.queues {
		queue.Close()
	}
}

// Abandon drops copies that wait, and waits for nothing.
func (c *Core) Abandon() {
	for _, queue := range c.queues {
		queue.Drop()
	}
}
