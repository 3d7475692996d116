// Package upstream holds the endpoints that requests can be sent to, chooses among them, and keeps their idle
// connections. It is independent of the protocol.
package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/time/rate"

	"github.com/mirrorgate/mirrorgate/internal/proxy/splitmix"
)

// Idle is an idle connection, which waits for its next request.
type Idle interface {
	Close() error
}

// Endpoint is one address. The zero value is not usable; a Pool makes them.
type Endpoint struct {
	Address string

	// hash is the hash of the address, for affinity.
	hash     uint64
	inFlight atomic.Int64
	// failed is the time of the last failure to connect, in Unix nanoseconds; 0 for never.
	failed atomic.Int64
	// learned is how long the peer leaves idle connections open, in nanoseconds; 0 if it has shown no limit.
	// learnedAt is when that was, in Unix nanoseconds.
	learned, learnedAt atomic.Int64
	// connects limits new connections; nil means no limit.
	connects *rate.Limiter
	pool     *Pool
	// tls secures its connections; nil for none. versions are those of HTTP that it speaks over TLS.
	tls      *TLS
	versions versions

	mu      sync.Mutex
	idle    []idleConn
	retired bool
}

type idleConn struct {
	conn  Idle
	since time.Time
}

// ErrConnect is wrapped by every error of Dial. It means that no byte was sent.
var ErrConnect = errors.New("cannot connect")

type connectError struct{ error }

func (e connectError) Unwrap() []error { return []error{ErrConnect, e.error} }

// ErrChurn is the error of Dial when the pool's limit of new connections is reached.
var ErrChurn = errors.New("connected to too often")

// IsTimeout reports whether an error of an exchange is a timeout.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// Spent reports whether Dial would fail with ErrChurn.
func (e *Endpoint) Spent() bool { return e.connects != nil && e.connects.Tokens() < 1 }

// Secured reports whether the endpoint's connections use TLS.
func (e *Endpoint) Secured() bool { return e.tls != nil }

// ID tells the endpoint apart from others with the same address and other settings of TLS.
func (e *Endpoint) ID() string { return endpointID(e.Address, e.tls) }

// Dial opens a connection for HTTP/2 or HTTP/1.1, within the pool's timeout and the deadline of ctx, with TLS if the
// endpoint has it.
func (e *Endpoint) Dial(ctx context.Context, h2 bool) (net.Conn, error) {
	if e.tls == nil {
		return e.dial(ctx)
	}
	version := http1
	if h2 {
		version = http2
	}
	conn, chosen, err := e.dialTLS(ctx, version)
	switch {
	case err != nil && refusesVersion(err):
		e.versions.forget()
		return nil, e.unsecured(err)
	case err != nil:
		return nil, err
	case h2 && chosen != http2:
		e.versions.forget()
		_ = conn.Close()
		return nil, e.unsecured(errNoHTTP2)
	}
	return conn, nil
}

var errNoHTTP2 = errors.New("the endpoint does not speak HTTP/2 over TLS (ALPN)")

// dial opens a connection without TLS.
func (e *Endpoint) dial(ctx context.Context) (net.Conn, error) {
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

// Take returns the most recently used idle connection, or nil. The caller must check it: the peer may have
// closed it, or may have sent unsolicited bytes that would be read as the answer to the next request.
func (e *Endpoint) Take() Idle {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.idle)
	if n == 0 || e.learned.Load() > 0 && e.tooOld(e.idle[n-1].since) {
		return nil // those below are idle for longer
	}
	conn := e.idle[n-1].conn
	e.idle[n-1] = idleConn{}
	e.idle = e.idle[:n-1]
	return conn
}

// tooOld reports whether the peer is about to close, or has closed, a connection that is idle since the given time.
func (e *Endpoint) tooOld(since time.Time) bool {
	now := time.Now()
	return now.Sub(since) >= e.idleTime(now)
}

const (
	// forgetAfter is how long an observed limit of a peer is believed: a restart, too, closes connections.
	forgetAfter = 10 * time.Minute
	// leastIdle is the least time for which idle connections are kept, whatever a peer does.
	leastIdle = 500 * time.Millisecond
)

// idleTime returns how long idle connections may be used.
func (e *Endpoint) idleTime(now time.Time) time.Duration {
	learned := time.Duration(e.learned.Load())
	if learned == 0 || now.UnixNano()-e.learnedAt.Load() > int64(forgetAfter) {
		return e.pool.IdleTimeout
	}
	return min(learned, e.pool.IdleTimeout)
}

// Announced notes that the peer closes connections that are idle for so long, as its Keep-Alive says.
func (e *Endpoint) Announced(limit time.Duration) { e.learn(limit - min(limit/2, time.Second)) }

// Closed notes that the peer has closed a connection that was idle for so long. Soon after the last use that tells
// nothing.
func (e *Endpoint) Closed(after time.Duration) {
	if after >= 2*leastIdle {
		e.learn(after - after/4)
	}
}

func (e *Endpoint) learn(limit time.Duration) {
	limit = max(limit, leastIdle)
	if known := time.Duration(e.learned.Load()); known == 0 || limit <= known || time.Since(time.Unix(0, e.learnedAt.Load())) > forgetAfter {
		e.learned.Store(int64(limit))
		e.learnedAt.Store(time.Now().UnixNano())
	}
}

// Put keeps a connection for the next request. It returns false if the endpoint keeps no more connections:
// then the caller must close it.
func (e *Endpoint) Put(conn Idle, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired || len(e.idle) >= e.pool.maxIdle {
		return false
	}
	e.idle = append(e.idle, idleConn{conn, now})
	return true
}

// Enter adds one to the number of requests under way, by which Pick chooses.
func (e *Endpoint) Enter() { e.inFlight.Add(1) }

// Leave undoes Enter.
func (e *Endpoint) Leave() { e.inFlight.Add(-1) }

// expire closes the connections that have been idle since before the given time. The longest idle ones are
// first in the list.
func (e *Endpoint) expire(before time.Time) {
	e.mu.Lock()
	n := 0
	for n < len(e.idle) && e.idle[n].since.Before(before) {
		n++
	}
	old := slices.Clone(e.idle[:n])
	e.idle = slices.Delete(e.idle, 0, n)
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

// Set is the endpoints of one port. They are interchangeable.
type Set []*Endpoint

// avoidFor is how long Pick prefers other endpoints after connecting to an endpoint failed.
const avoidFor = time.Second

// Pick returns the one of two random endpoints that has fewer requests under way. It never returns an
// endpoint that was tried already, and one whose last connection failed recently only if there is no other.
// It returns nil if no endpoint remains.
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

// pickOther is Pick for a request that was tried before.
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

// PickFor returns the endpoint of a client, which is given as the hash of its address. Every replica chooses
// the same endpoint, as long as it exists. When an endpoint is added or removed, only the clients of that
// endpoint move (rendezvous hashing). PickFor avoids the same endpoints as Pick.
func (s Set) PickFor(client uint64, tried []*Endpoint, now time.Time) *Endpoint {
	var best *Endpoint
	var most uint64
	for _, e := range s {
		if slices.Contains(tried, e) {
			continue
		}
		score := splitmix.Mix(client ^ e.hash)
		if best != nil {
			failed, other := e.failedRecently(now), best.failedRecently(now)
			if failed && !other || failed == other && score <= most {
				continue
			}
		}
		best, most = e, score
	}
	return best
}

// Client returns the hash of a client's address, which is given as host:port, or without a port. The port is ignored.
func Client(remote string) uint64 {
	address, err := netip.ParseAddr(remote)
	if at, failed := netip.ParseAddrPort(remote); failed == nil {
		address, err = at.Addr(), nil
	}
	if err != nil {
		return xxhash.Sum64String(remote)
	}
	bytes := address.Unmap().WithZone("").As16()
	return xxhash.Sum64(bytes[:])
}

// Digest tells an endpoint from others, the same on every replica. It is made of the address.
func (e *Endpoint) Digest() uint64 { return e.hash }

// Named returns the endpoint with a digest, or nil if there is none, or it is one that Pick would avoid.
func (s Set) Named(digest uint64, tried []*Endpoint, now time.Time) *Endpoint {
	for _, e := range s {
		if e.hash == digest && !slices.Contains(tried, e) && !e.failedRecently(now) {
			return e
		}
	}
	return nil
}

// better reports whether a is to be preferred to b.
func better(a, b *Endpoint, now time.Time) bool {
	af, bf := a.failedRecently(now), b.failedRecently(now)
	if af != bf {
		return bf
	}
	return a.inFlight.Load() < b.inFlight.Load()
}

func random(n int) int { return rand.IntN(n) } //nolint:gosec // which endpoint is no secret

// failedRecently reports whether connecting failed less than avoidFor ago.
func (e *Endpoint) failedRecently(now time.Time) bool {
	at := e.failed.Load()
	return at != 0 && now.UnixNano()-at < int64(avoidFor)
}
