// Package shadow sends copies of requests to variants. A variant never delays the primary: limits are checked
// before anything is copied, a copy is sent once and to one endpoint, the primary's goroutine sends it only
// as far as that does not block, and a copy without room is dropped and counted.
package shadow

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Reason is why a copy was dropped: the value of a metric's label.
type Reason string

// All reasons.
const (
	QueueFull  Reason = "queue_full"  // too many copies are under way and queued
	Budget     Reason = "budget"      // all copies of the target together would hold too many bytes
	TooLarge   Reason = "too_large"   // the body is longer than the mirror's maxBody
	Rate       Reason = "rate"        // the mirror has had its maxPerSecond
	Penalty    Reason = "penalty"     // the breaker is open: the target failed repeatedly
	Loop       Reason = "loop"        // the request is a copy itself
	NoEndpoint Reason = "no_endpoint" // the target has no ready endpoint
	Connect    Reason = "connect"     // connecting failed
	Unsecured  Reason = "tls"         // the connection could not be secured, so that nothing was sent
	Churn      Reason = "churn"       // the variant closes its connections, and the limit of new ones is reached
	Reset      Reason = "reset"       // the connection broke, or the answer was invalid
	Timeout    Reason = "timeout"     // no answer in time
	Incomplete Reason = "incomplete"  // the client did not send its whole request
	Primary    Reason = "primary"     // the request could not be sent to the primary
	Shutdown   Reason = "shutdown"    // the target was removed, or the proxy is shutting down
)

// Reasons lists all reasons.
var Reasons = []Reason{QueueFull, Budget, TooLarge, Rate, Penalty, Loop, NoEndpoint, Connect, Unsecured, Churn, Reset, Timeout, Incomplete, Primary, Shutdown}

// Observer counts the copies of one mirror. It must be safe for concurrent use.
type Observer interface {
	// Dropped is called for a copy that was dropped.
	Dropped(why Reason)
	// Answered is called for a copy that was sent and got an answer.
	Answered(a *Answered)
}

// Answered describes a copy that got an answer. It is valid only during the call.
type Answered struct {
	Copy     *Copy
	Status   int
	Sent     int // bytes, the head included
	Begin    time.Time
	Took     time.Duration
	Endpoint string
}

// Sender sends copies in one protocol.
type Sender interface {
	// Send sends the copy. It calls c.Done once the answer has been read or has failed, at the latest at
	// c.Until, from any goroutine and possibly before Send returns. It sets c.End, and c.Latency if c.Timed.
	// Unless wait is set Send must not block. If it would have to, it returns false and has sent nothing: the
	// caller tries again with wait, or drops the copy if Send has set c.Spent. The Sender must not use the
	// copy after Done.
	Send(to *upstream.Endpoint, c *Copy, wait bool) bool
}

// Config is the configuration of a Queue.
type Config struct {
	Limits    routing.Limits
	Endpoints upstream.Set
	Sender    Sender
}

// Queue sends the copies for one target, and holds those that wait for their turn. It outlives tables.
type Queue struct {
	config  atomic.Pointer[Config]
	held    atomic.Int64
	breaker breaker

	mu          sync.Mutex
	idle        sync.Cond
	running     int
	queued      int
	first, last *Copy
	closed      bool
}

var copies = sync.Pool{New: func() any { return new(Copy) }}

// NewQueue returns a queue; Configure may be called again at any time.
func NewQueue(c *Config) *Queue {
	q := &Queue{}
	q.idle.L = &q.mu
	q.Configure(c)
	return q
}

// Configure replaces the configuration, for all copies whose sending has not begun.
func (q *Queue) Configure(c *Config) { q.config.Store(c) }

// InFlight returns the number of copies that are being sent.
func (q *Queue) InFlight() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running
}

// Held returns the number of bytes that all copies hold, queued or under way.
func (q *Queue) Held() int64 { return q.held.Load() }

// Admit makes a copy of a request, without its body. It returns nil if a limit forbids the copy: then the
// drop is reported to the observer.
func (q *Queue) Admit(out *message.Outgoing, mirror *routing.Mirror, observer Observer, compare *Comparison, now time.Time) *Copy {
	config := q.config.Load()
	var why Reason
	switch {
	case out.Length > mirror.MaxBody:
		why = TooLarge
	case len(config.Endpoints) == 0:
		why = NoEndpoint
	case q.full(&config.Limits):
		why = QueueFull
	case q.breaker.open(now):
		why = Penalty
	case !mirror.Admits(now):
		why = Rate
	}
	if why != "" {
		observer.Dropped(why)
		return nil
	}
	c := copies.Get().(*Copy)
	c.queue, c.observer, c.compare = q, observer, compare
	c.maxBody, c.timeout = mirror.MaxBody, mirror.Timeout
	c.Major, c.Chunked, c.IsHead = out.Major, out.Length == message.Unknown, out.Method == "HEAD"
	c.buf = message.AppendRequest(buffer.Small()[:0], out)
	c.head = len(c.buf)
	if !q.reserve(int64(cap(c.buf))) {
		c.Discard(Budget)
		return nil
	}
	c.reserved = int64(cap(c.buf))
	if out.Length > 0 && !c.grow(c.head+int(out.Length)) {
		c.Discard(Budget)
		return nil
	}
	return c
}

// reserve reports whether n more bytes are within the budget, and adds them if so.
func (q *Queue) reserve(n int64) bool {
	if q.held.Add(n) > q.config.Load().Limits.Budget {
		q.held.Add(-n)
		return false
	}
	return true
}

// full reports whether no further copy can be sent or queued.
func (q *Queue) full(limits *routing.Limits) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running >= limits.MaxInFlight && q.queued >= limits.Queue
}

// submit begins to send the copy if the limit of copies under way allows it, else queues it.
func (q *Queue) submit(c *Copy) {
	limits := &q.config.Load().Limits
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		c.Discard(Shutdown)
	case q.running < limits.MaxInFlight:
		q.running++
		q.mu.Unlock()
		q.dispatch(c)
	case q.queued < limits.Queue:
		q.queued++
		c.Keep()
		if q.last == nil {
			q.first = c
		} else {
			q.last.next = c
		}
		q.last = c
		q.mu.Unlock()
	default:
		q.mu.Unlock()
		c.Discard(QueueFull)
	}
}

// dispatch sends a copy or, if that copy cannot be sent, the next one in the queue. It never blocks: sending
// that would block is done in a new goroutine.
func (q *Queue) dispatch(c *Copy) {
	for ; c != nil; c = q.next() {
		config := q.config.Load()
		c.Begin = time.Now()
		endpoint := c.pick(config.Endpoints)
		if endpoint == nil {
			c.Discard(NoEndpoint)
			continue
		}
		if !q.breaker.claim(c.Begin) {
			c.Discard(Penalty)
			continue
		}
		c.Until, c.endpoint = c.Begin.Add(c.timeout), endpoint
		endpoint.Enter()
		if config.Sender.Send(endpoint, c, false) {
			return
		}
		if !c.Spent {
			c.Keep()
			go config.Sender.Send(endpoint, c, true)
			return
		}
		endpoint.Leave()
		q.breaker.release()
		c.Discard(Churn)
	}
}

// pick returns an endpoint for the copy, nil if there is none.
func (c *Copy) pick(set upstream.Set) *upstream.Endpoint {
	if c.Avoid != "" {
		for _, e := range set {
			if e.Address == c.Avoid {
				if other := set.Pick([]*upstream.Endpoint{e}, c.Begin); other != nil {
					return other
				}
				break
			}
		}
	}
	return set.Pick(nil, c.Begin)
}

// next takes the next copy from the queue, in place of one that has ended. It returns nil if the queue is
// empty.
func (q *Queue) next() *Copy {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.first
	if c == nil {
		if q.running--; q.running == 0 {
			q.idle.Broadcast()
		}
		return nil
	}
	q.first, c.next = c.next, nil
	q.queued--
	if q.first == nil {
		q.last = nil
	}
	return c
}

// Done reports how sending the copy ended: with an error, or with the status of its answer. The caller must
// not use the copy any more.
func (c *Copy) Done(status int, err error) {
	q := c.queue
	c.endpoint.Leave()
	if errors.Is(err, upstream.ErrChurn) {
		q.breaker.release() // no connection was tried
	} else {
		q.breaker.report(&q.config.Load().Limits.Penalty, err == nil)
	}
	if err != nil {
		c.Discard(reasonOf(err))
	} else {
		c.answered = Answered{Copy: c, Status: status, Sent: len(c.buf) + c.lent, Begin: c.Begin, Took: c.End.Sub(c.Begin), Endpoint: c.endpoint.Address}
		c.observer.Answered(&c.answered)
		c.Capture.Finish(c.Latency)
		if c.compare != nil {
			c.compare.variant(status, c.Latency)
		}
		c.free()
	}
	q.dispatch(q.next())
}

func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, upstream.ErrChurn):
		return Churn
	case errors.Is(err, upstream.ErrTLS), upstream.IsTLSAlert(err):
		return Unsecured
	case errors.Is(err, upstream.ErrConnect):
		return Connect
	case upstream.IsTimeout(err):
		return Timeout
	}
	return Reset
}

// Close drops all queued copies and waits until the copies under way have ended, which their timeouts bound.
func (q *Queue) Close() {
	q.Drop()
	q.mu.Lock()
	for q.running > 0 {
		q.idle.Wait()
	}
	q.mu.Unlock()
}

// Drop drops all queued copies, and every copy that is submitted later.
func (q *Queue) Drop() {
	q.mu.Lock()
	q.closed = true
	c := q.first
	q.first, q.last, q.queued = nil, nil, 0
	q.mu.Unlock()
	for c != nil {
		next := c.next
		c.Discard(Shutdown)
		c = next
	}
}
