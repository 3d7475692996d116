package core

// Endpoints of a port, which change more often than the table: replacing them costs as much as the port has
// endpoints.

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// port is a port of a table with its current endpoints.
type port struct {
	// set holds the endpoints that new requests choose from.
	set atomic.Pointer[upstream.Set]
	// target is the mirror target at this port, nil if no mirror sends there.
	target *routing.MirrorTarget
	// ids are those of all endpoints, ready or not. Only SetTable and SetEndpoints use them.
	ids []string
	// secure is the TLS to the endpoints, nil for none.
	secure *upstream.TLS
}

func (c *Core) ports(table *routing.Table) []port {
	ports := make([]port, len(table.Ports))
	secured := map[string]*upstream.TLS{}
	for i, p := range table.Ports {
		secure := upstream.NewTLS(p.TLS, c.secured)
		if secure != nil {
			secured[secure.Key()] = secure
		}
		set := c.options.Pool.Set(p.Ready, secure)
		ports[i].set.Store(&set)
		ports[i].secure = secure
		ports[i].ids = upstream.IDs(secure, slices.Concat(p.Ready, p.Unready)...)
	}
	c.secured = secured
	return ports
}

// SetEndpoints replaces the endpoints of a service's port: later requests choose from the ready addresses.
// Idle connections to addresses that stay, ready or unready, are kept. The cost depends on the size of the
// port, not of the table. It is an error if the table has no such port. Calls of SetEndpoints and SetTable
// must not overlap.
func (c *Core) SetEndpoints(service string, number int, ready, unready []string) error {
	s := c.state.Load()
	if s == nil {
		return fmt.Errorf("there is no table yet that could have port %d of service %s", number, service)
	}
	at := s.table.Port(service, number)
	if at == nil {
		return fmt.Errorf("service %s has no port %d in the table", service, number)
	}
	p := &s.ports[at.Index]
	before := p.ids
	p.ids = upstream.IDs(p.secure, slices.Concat(ready, unready)...)
	c.retain(p.ids)
	set := c.options.Pool.Set(ready, p.secure)
	p.set.Store(&set)
	if p.target != nil {
		s.queues[p.target.Index].Configure(c.config(p.target, ready, p.secure))
	}
	c.release(before)
	return nil
}

// config returns the configuration of a target's queue for the given ready addresses.
func (c *Core) config(t *routing.MirrorTarget, ready []string, secure *upstream.TLS) *shadow.Config {
	config := &shadow.Config{Limits: t.Limits, Sender: c.options.ShadowHTTP, Endpoints: c.options.ShadowPool.Set(ready, secure)}
	if t.Port != nil && t.Port.Protocol != routing.HTTP {
		config.Sender = &sender{t.Port.Protocol, c.options.ShadowHTTP, c.options.ShadowH2C}
	}
	return config
}

// sender sends copies over HTTP/1.1 or HTTP/2, as the port's protocol says.
type sender struct {
	protocol  routing.Protocol
	http, h2c shadow.Sender
}

// Send implements shadow.Sender.
func (s *sender) Send(to *upstream.Endpoint, c *shadow.Copy, wait bool) bool {
	h2 := s.protocol.H2(c.Major)
	if s.protocol == routing.Auto && to.Secured() {
		if !wait {
			return false // the endpoint may have to be asked
		}
		ctx, cancel := context.WithDeadline(context.Background(), c.Until)
		defer cancel()
		var err error
		if h2, err = to.H2(ctx, h2); err != nil {
			c.Done(0, err)
			return true
		}
	}
	if h2 {
		return s.h2c.Send(to, c, wait)
	}
	return s.http.Send(to, c, wait)
}

// retain counts the endpoints of a port.
func (c *Core) retain(ids []string) {
	for _, id := range ids {
		c.ids[id]++
	}
}

// release undoes retain, and forgets the endpoints that no port has any more.
func (c *Core) release(ids []string) {
	for _, id := range ids {
		if c.ids[id]--; c.ids[id] > 0 {
			continue
		}
		delete(c.ids, id)
		c.options.Pool.Forget(id)
		c.options.ShadowPool.Forget(id)
	}
}
