// Bounds on the memory and time that one peer may take.

package h1

import (
	"cmp"
	"time"
)

// Limits bound the cost of one client, or of one backend's answer. Zero values mean the defaults.
type Limits struct {
	// Head is the most bytes of a head, and of the trailers: 64 KiB. Target is the most bytes of the request
	// target: 16 KiB.
	Head, Target int
	// Fields is the most header fields: 128.
	Fields int
	// HeadTimeout is how long a client may take from the first byte of a head to its last: 10 s.
	HeadTimeout time.Duration
	// IdleTimeout is how long a connection waits for its next request: 60 s.
	IdleTimeout time.Duration
	// BodyTimeout is how long a body may stand still because the client neither sends nor reads: 60 s.
	BodyTimeout time.Duration
	// BackendTimeout is how long an HTTP/1.1 backend may neither take nor send a byte where the rule has no
	// timeout: 60 s.
	BackendTimeout time.Duration
	// HalfClose lets a client that has closed its sending half wait for its answer. By default its request is
	// broken off within a second, as for a client that has left: most clients that close have.
	HalfClose bool
}

// Defaulted returns a copy of l with defaults in place of zero values.
func (l Limits) Defaulted() Limits {
	l.Head = cmp.Or(l.Head, 64<<10)
	l.Target = cmp.Or(l.Target, 16<<10)
	l.Fields = cmp.Or(l.Fields, 128)
	l.HeadTimeout = cmp.Or(l.HeadTimeout, 10*time.Second)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 60*time.Second)
	l.BodyTimeout = cmp.Or(l.BodyTimeout, 60*time.Second)
	l.BackendTimeout = cmp.Or(l.BackendTimeout, 60*time.Second)
	return l
}
