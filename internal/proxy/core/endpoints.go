package core

// Endpoints that change while the table stays: what a port has of its own, and what a swap touches.

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// port is a port of a table with its endpoints of the moment.
type port struct {
	// set is what requests that begin now choose from.
	set atomic.Pointer[upstream.Set]
	// target is where mirrors to this port send; nil if there are none.
	target *routing.MirrorTarget
	// addresses are those of all endpoints. Only SetTable and SetEndpoints use it.
	addresses []string
}

func (c *Core) ports(table *routing.Table) []port {
	ports := make([]port, len(table.Ports))
	for i, p := range table.Ports {
		set := c.options.Pool.Set(p.Ready)
		ports[i].set.Store(&set)
		ports[i].addresses = slices.Concat(p.Ready, p.Unready)
	}
	return ports
}

// SetEndpoints makes every request that begins from now on choose from these addresses of a
// service's port; connections to those that stay are kept, in Unready as well. It costs what the
// port has, not what the table has. It is an error if the table has no such port. It is not safe
// for concurrent use with itself and SetTable.
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
	before := p.addresses
	p.addresses = slices.Concat(ready, unready)
	c.retain(p.addresses)
	set := c.options.Pool.Set(ready)
	p.set.Store(&set)
	if p.target != nil {
		s.queues[p.target.Index].Configure(c.config(p.target, ready))
	}
	c.release(before)
	return nil
}

// config is what a target is configured with for the endpoints it has now.
func (c *Core) config(t *routing.MirrorTarget, ready []string) *shadow.Config {
	config := &shadow.Config{Limits: t.Limits, Sender: c.options.ShadowHTTP, Endpoints: c.options.ShadowPool.Set(ready)}
	if t.Port != nil && t.Port.Protocol == routing.H2C {
		config.Sender = c.options.ShadowH2C
	}
	return config
}

// retain counts the addresses of a port; release undoes it, and forgets addresses that no port has any more.
func (c *Core) retain(addresses []string) {
	for _, address := range addresses {
		c.addresses[address]++
	}
}

func (c *Core) release(addresses []string) {
	for _, address := range addresses {
		if c.addresses[address]--; c.addresses[address] > 0 {
			continue
		}
		delete(c.addresses, address)
		c.options.Pool.Forget(address)
		c.options.ShadowPool.Forget(address)
	}
}
