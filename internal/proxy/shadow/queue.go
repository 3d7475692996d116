// Package shadow sends copies of requests to variants. Whatever a variant does, nothing here makes
// the primary wait: a copy is admitted against bounds before anything is copied, sent once, to one
// endpoint, by the primary's goroutine only as far as that does not wait, and dropped and counted when
// there is no room for it.
package shadow

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Reason is why a copy was dropped, as metrics name it.
type Reason string

// All reasons.
const (
	QueueFull  Reason = "queue_full" // as many copies are under way and waiting as may be
	Budget     Reason = "budget"     // all copies together would hold too many bytes
	TooLarge   Reason = "too_large"  // the body is longer than the mirror copies
	Penalty    Reason = "penalty"    // the target failed repeatedly and is left alone
	Loop       Reason = "loop"       // the request is a copy itself
	NoEndpoint Reason = "no_endpoint"
	Connect    Reason = "connect"    // no connection
	Churn      Reason = "churn"      // no connection either: the variant ends them, and had as many as it gets
	Reset      Reason = "reset"      // the connection broke, or what came was no answer
	Timeout    Reason = "timeout"    // no answer in time
	Incomplete Reason = "incomplete" // the client did not send its request to the end
	Primary    Reason = "primary"    // the request could not be sent to the primary
	Shutdown   Reason = "shutdown"
)

// Reasons lists them all.
var Reasons = []Reason{QueueFull, Budget, TooLarge, Penalty, Loop, NoEndpoint, Connect, Churn, Reset, Timeout, Incomplete, Primary, Shutdown}

// Observer is told what becomes of the copies of one mirror. It is called from many goroutines.
type Observer interface {
	Dropped(why Reason)
	// Answered is a copy that was sent and got an answer.
	Answered(a *Answered)
}

// Answered tells of a copy that got an answer. It is valid only during the call.
type Answered struct {
	Copy     *Copy
	Status   int
	Sent     int // bytes, the head included
	Begin    time.Time
	Took     time.Duration
	Endpoint string
}

// Sender carries copies in one protocol.
type Sender interface {
	// Send sends the copy and calls c.Done, from any goroutine and perhaps before it returns, once the
	// answer has been read, by c.Until, or there will be none. It sets c.End, and c.Latency if c.Timed.
	// Unless wait is set it must not wait, and returns false if it would have to: then nothing was sent,
	// nor will be if it sets c.Spent. It keeps nothing of the copy after Done.
	Send(to *upstream.Endpoint, c *Copy, wait bool) bool
}

// Config is what a table says about a target.
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

// Configure replaces limits and endpoints for all copies that are not being sent yet.
func (q *Queue) Configure(c *Config) { q.config.Store(c) }

// InFlight is how many copies are being sent.
func (q *Queue) InFlight() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running
}

// Held is how many bytes all copies hold that wait or are under way.
func (q *Queue) Held() int64 { return q.held.Load() }

// Admit makes a copy of a request, its body still to be written, or drops it before any work is
// done for it and returns nil.
func (q *Queue) Admit(out *message.Outgoing, mirror *routing.Mirror, observer Observer, compare *Comparison, now time.Time) *Copy {
	config := q.config.Load()
	if out.Length > mirror.MaxBody {
		observer.Dropped(TooLarge)
		return nil
	}
	if len(config.Endpoints) == 0 {
		observer.Dropped(NoEndpoint)
		return nil
	}
	if q.full(&config.Limits) {
		observer.Dropped(QueueFull)
		return nil
	}
	if q.breaker.open(now) {
		observer.Dropped(Penalty)
		return nil
	}
	c := copies.Get().(*Copy)
	c.queue, c.observer, c.compare = q, observer, compare
	c.maxBody, c.timeout = mirror.MaxBody, mirror.Timeout
	c.Chunked, c.IsHead = out.Length == message.Unknown, out.Method == "HEAD"
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

func (q *Queue) reserve(n int64) bool {
	if q.held.Add(n) > q.config.Load().Limits.Budget {
		q.held.Add(-n)
		return false
	}
	return true
}

func (q *Queue) full(limits *routing.Limits) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running >= limits.MaxInFlight && q.queued >= limits.Queue
}

// submit starts to send the copy if there is room, or else queues it.
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

// dispatch sends a copy, or, if that one cannot be sent, the next that waits. It does not wait itself:
// what would is left to a goroutine.
func (q *Queue) dispatch(c *Copy) {
	for ; c != nil; c = q.next() {
		config := q.config.Load()
		c.Begin = time.Now()
		endpoint := config.Endpoints.Pick(nil, c.Begin)
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

// next returns the copy that takes the place of one that has ended, or nil.
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

// Done tells how sending the copy ended; status is that of its answer unless there is an error. The
// copy must not be used any more.
func (c *Copy) Done(status int, err error) {
	q := c.queue
	c.endpoint.Leave()
	if errors.Is(err, upstream.ErrChurn) {
		q.breaker.release() // nothing was tried
	} else {
		q.breaker.report(&q.config.Load().Limits.Penalty, err == nil)
	}
	if err != nil {
		c.Discard(reasonOf(err))
	} else {
		c.answered = Answered{Copy: c, Status: status, Sent: len(c.buf) + c.lent, Begin: c.Begin, Took: c.End.Sub(c.Begin), Endpoint: c.endpoint.Address}
		c.observer.Answered(&c.answered)
		if c.compare != nil {
			c.compare.variant(status, c.Latency)
		}
		c.free()
	}
	q.dispatch(q.next())
}

func reasonOf(err error) Reason {
	var timeout net.Error
	switch {
	case errors.Is(err, upstream.ErrChurn):
		return Churn
	case errors.Is(err, upstream.ErrConnect):
		return Connect
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return Reset
}

// Close drops what waits and waits for what is under way, which their timeouts bound.
func (q *Queue) Close() {
	q.Drop()
	q.mu.Lock()
	for q.running > 0 {
		q.idle.Wait()
	}
	q.mu.Unlock()
}

// Drop drops what waits, and whatever is submitted from now on.
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
