package upstream

// Pools of endpoints with their idle connections.

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/time/rate"
)

// Pool keeps endpoints by address and TLS, so that their connections survive a change of the table. The fields must
// not be changed after the first call.
type Pool struct {
	// Timeout bounds connecting: 2 s if 0.
	Timeout time.Duration
	// Connects limits the new connections to one endpoint, per second and in a burst; 0 means no limit.
	Connects int

	// IdleTimeout is how long idle connections are kept: 55 s if 0, less than the 60 s after which many servers
	// close. An endpoint that closes earlier gets a time of its own (Endpoint.Announced, Endpoint.Closed).
	IdleTimeout time.Duration

	// Unsecured is called when a connection to an address cannot be secured with TLS; nil means not at all.
	Unsecured func(address string, err error)

	// maxIdle is how many connections are kept for one endpoint: 256 if 0.
	maxIdle int

	mu        sync.Mutex
	endpoints map[string]*Endpoint // by ID
}

// NewPool returns a pool with the options of p, and defaults for its zero fields.
func NewPool(p *Pool) *Pool {
	return &Pool{
		Timeout: cmp.Or(p.Timeout, 2*time.Second), Connects: p.Connects,
		maxIdle: cmp.Or(p.maxIdle, 256), IdleTimeout: cmp.Or(p.IdleTimeout, 55*time.Second), Unsecured: p.Unsecured,
		endpoints: map[string]*Endpoint{},
	}
}

// endpointID is Endpoint.ID of an address with these settings of TLS, nil for none.
func endpointID(address string, secure *TLS) string {
	if secure == nil {
		return address
	}
	return address + "/" + secure.key
}

// IDs returns Endpoint.ID of the addresses of a port with these settings of TLS, nil for none.
func IDs(secure *TLS, addresses ...string) []string {
	ids := make([]string, len(addresses))
	for i, address := range addresses {
		ids[i] = endpointID(address, secure)
	}
	return ids
}

// Endpoint returns the endpoint of an address, the same until the pool forgets it. secure is nil without TLS.
func (p *Pool) Endpoint(address string, secure *TLS) *Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := endpointID(address, secure)
	e := p.endpoints[id]
	if e == nil {
		e = &Endpoint{Address: address, hash: xxhash.Sum64String(address), pool: p, tls: secure}
		if p.Connects > 0 {
			e.connects = rate.NewLimiter(rate.Limit(p.Connects), p.Connects)
		}
		p.endpoints[id] = e
	}
	return e
}

// Set returns the endpoints of the addresses.
func (p *Pool) Set(addresses []string, secure *TLS) Set {
	set := make(Set, 0, len(addresses))
	for _, address := range addresses {
		set = append(set, p.Endpoint(address, secure))
	}
	return set
}

// Keep forgets every endpoint for whose ID keep returns false, and closes its idle connections. Requests under way
// are not affected.
func (p *Pool) Keep(keep func(id string) bool) {
	p.mu.Lock()
	var gone []*Endpoint
	for id, e := range p.endpoints {
		if !keep(id) {
			gone = append(gone, e)
			delete(p.endpoints, id)
		}
	}
	p.mu.Unlock()
	for _, e := range gone {
		e.retire()
	}
}

// Forget forgets the endpoint of an ID, as Keep does.
func (p *Pool) Forget(id string) {
	p.mu.Lock()
	e := p.endpoints[id]
	delete(p.endpoints, id)
	p.mu.Unlock()
	if e != nil {
		e.retire()
	}
}

// Run closes connections that have been idle for too long. When ctx ends it closes all idle connections and
// returns.
func (p *Pool) Run(ctx context.Context) {
	tick := time.NewTicker(max(p.IdleTimeout/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.each(func(e *Endpoint) { e.expire(now.Add(-e.idleTime(now))) })
		case <-ctx.Done():
			p.each(func(e *Endpoint) { e.retire() })
			return
		}
	}
}

func (p *Pool) each(do func(*Endpoint)) {
	p.mu.Lock()
	all := slices.Collect(maps.Values(p.endpoints))
	p.mu.Unlock()
	for _, e := range all {
		do(e)
	}
}
