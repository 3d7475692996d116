// Package upstream holds the endpoints that requests can be sent to: which one is chosen, and the
// connections that wait there for the next request. It knows no protocol.
package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/time/rate"

	"github.com/mirrorgate/mirrorgate/internal/proxy/splitmix"
)

// Idle is a connection between two requests.
type Idle interface {
	Close() error
}

// Endpoint is one address. The zero value is not usable; a Pool makes them.
type Endpoint struct {
	Address string

	// hash is of the address, for affinity.
	hash     uint64
	inFlight atomic.Int64
	// failed is when connecting failed last, in Unix nanoseconds.
	failed atomic.Int64
	// connects is nil if any number of connections may be opened.
	connects *rate.Limiter
	pool     *Pool

	mu      sync.Mutex
	idle    []idleConn
	retired bool
}

type idleConn struct {
	conn  Idle
	since time.Time
}

// ErrConnect wraps every error of Dial: nothing was sent.
var ErrConnect = errors.New("cannot connect")

type connectError struct{ error }

func (e connectError) Unwrap() []error { return []error{ErrConnect, e.error} }

// ErrChurn is the error of Dial when the endpoint was connected to as often as the pool allows.
var ErrChurn = errors.New("connected to too often")

// Spent says that Dial would fail with ErrChurn.
func (e *Endpoint) Spent() bool { return e.connects != nil && e.connects.Tokens() < 1 }

// Dial opens a connection within the pool's timeout and the deadline of ctx.
func (e *Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	if e.connects != nil && !e.connects.Allow() {
		return nil, connectError{ErrChurn}
	}
	dialer := net.Dialer{Timeout: e.pool.Timeout}
	conn, err := dialer.DialContext(ctx, "tcp", e.Address)
	if err != nil {
		e.failed.Store(time.Now().UnixNano())
		return nil, connectError{err}
	}
	return conn, nil
}

// Take returns the connection that waits the shortest, or nil. It may have ended meanwhile, or bytes
// may have arrived on it that nobody asked for and that would be read as the answer to the next
// request: who takes it has to look.
func (e *Endpoint) Take() Idle {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.idle)
	if n == 0 {
		return nil
	}
	conn := e.idle[n-1].conn
	e.idle[n-1] = idleConn{}
	e.idle = e.idle[:n-1]
	return conn
}

// Put keeps a connection for the next request. It returns false if there is no place for it: then it
// is to be closed.
func (e *Endpoint) Put(conn Idle, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired || len(e.idle) >= e.pool.maxIdle {
		return false
	}
	e.idle = append(e.idle, idleConn{conn, now})
	return true
}

// Enter and Leave count the requests that are under way, which Pick goes by.
func (e *Endpoint) Enter() { e.inFlight.Add(1) }

// Leave undoes Enter.
func (e *Endpoint) Leave() { e.inFlight.Add(-1) }

// expire closes what has waited since before the given time; the oldest come first.
func (e *Endpoint) expire(before time.Time) {
	e.mu.Lock()
	n := 0
	for n < len(e.idle) && e.idle[n].since.Before(before) {
		n++
	}
	old := append([]idleConn(nil), e.idle[:n]...)
	e.idle = append(e.idle[:0], e.idle[n:]...)
	e.mu.Unlock()
	for _, w := range old {
		_ = w.conn.Close()
	}
}

// retire closes all idle connections; Put keeps none any more.
func (e *Endpoint) retire() {
	e.mu.Lock()
	e.retired = true
	e.mu.Unlock()
	e.expire(time.Now().Add(time.Hour))
}

// Set is the endpoints of one port, interchangeable.
type Set []*Endpoint

// avoidFor is how long an endpoint that refused a connection is only the second choice.
const avoidFor = time.Second

// Pick returns one of two random endpoints: the one with fewer requests under way. It avoids what
// was tried already, and what could not be connected to a moment ago, while there is another.
// It returns nil if nothing is left.
func (s Set) Pick(tried []*Endpoint, now time.Time) *Endpoint {
	switch {
	case len(s) == 0:
		return nil
	case len(s) == 1 && len(tried) == 0:
		return s[0]
	case len(tried) > 0:
		return s.pickOther(tried, now)
	}
	i := random(len(s))
	j := random(len(s) - 1)
	if j >= i {
		j++
	}
	a, b := s[i], s[j]
	if better(b, a, now) {
		return b
	}
	return a
}

func (s Set) pickOther(tried []*Endpoint, now time.Time) *Endpoint {
	var best *Endpoint
	for n, start := 0, random(len(s)); n < len(s); n++ {
		e := s[(start+n)%len(s)]
		if !slices.Contains(tried, e) && (best == nil || better(e, best, now)) {
			best = e
		}
	}
	return best
}

// PickFor returns the endpoint that belongs to a client, given as a hash of its address: the same for
// as long as it is there, on every replica, and another one only for the clients of an endpoint that
// goes or comes (rendezvous hashing). What Pick avoids, it avoids.
func (s Set) PickFor(client uint64, tried []*Endpoint, now time.Time) *Endpoint {
	var best *Endpoint
	var most uint64
	for _, e := range s {
		if slices.Contains(tried, e) {
			continue
		}
		score := splitmix.Mix(client ^ e.hash)
		if best != nil {
			failed, other := e.failedSince(now), best.failedSince(now)
			if failed && !other || failed == other && score <= most {
				continue
			}
		}
		best, most = e, score
	}
	return best
}

// Client is the hash of a client's address, given as host:port. The port does not matter.
func Client(remote string) uint64 {
	if at, err := netip.ParseAddrPort(remote); err == nil {
		address := at.Addr().Unmap().WithZone("").As16()
		return xxhash.Sum64(address[:])
	}
	return xxhash.Sum64String(remote)
}

func better(a, b *Endpoint, now time.Time) bool {
	af, bf := a.failedSince(now), b.failedSince(now)
	if af != bf {
		return bf
	}
	return a.inFlight.Load() < b.inFlight.Load()
}

func random(n int) int { return rand.IntN(n) } //nolint:gosec // which endpoint is no secret

func (e *Endpoint) failedSince(now time.Time) bool {
	at := e.failed.Load()
	return at != 0 && now.UnixNano()-at < int64(avoidFor)
}
