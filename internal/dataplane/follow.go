package dataplane

// From the Index to a running proxy.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Server is a proxy that a Follower updates; *proxy.Server is one.
type Server interface {
	Apply(setup *proxy.Setup) error
	SetEndpoints(service string, port int, ready, unready []string) error
}

// GetCertificate returns the certificate for a handshake.
type GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// ErrNotServed is returned while no route is attached to the Service: the server has no table yet, or the
// last one that there was, without mirrors.
var ErrNotServed = errors.New("no route is attached to the Service")

// ErrNoOrigin is returned while a port without a route cannot pass through, since the origin does not exist
// yet.
var ErrNoOrigin = errors.New("there is no origin yet that ports without a route could pass through to")

// Follower keeps a server in step with one Service of an Index: it applies a new table where rules changed,
// and only endpoints where nothing else did. Its methods may be called concurrently.
type Follower struct {
	// Certificates are those of Options.Certificates. They must not change after the first Sync.
	Certificates map[int]GetCertificate

	index  *Index
	parent Name
	server Server
	wake   chan struct{}

	mu        sync.Mutex // guards the work that the next Sync does
	table     bool
	endpoints map[string]bool

	serving sync.Mutex // guards the server and its state
	applied *spec.Table
	mirrors bool   // whether applied has any
	release func() // ends Index.Keep; set while no route is attached
}

// Follow returns a Follower whose first Sync applies everything.
func Follow(index *Index, parent Name, server Server) *Follower {
	f := &Follower{
		index: index, parent: parent, server: server,
		wake: make(chan struct{}, 1), table: true, endpoints: map[string]bool{},
	}
	f.wake <- struct{}{}
	index.Subscribe(f.note)
	return f
}

// Changed receives when there is something to Sync. Several changes may be received as one.
func (f *Follower) Changed() <-chan struct{} { return f.wake }

// Table returns the table that the server has, nil for none. Its listeners are never changed.
func (f *Follower) Table() *spec.Table {
	f.serving.Lock()
	defer f.serving.Unlock()
	return f.applied
}

// note implements Subscriber.
func (f *Follower) note(c *Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := false
	for _, parent := range c.Tables {
		if parent == f.parent {
			f.table, changed = true, true
		}
	}
	for _, b := range c.Endpoints {
		if b.Parent == f.parent {
			f.endpoints[b.Service], changed = true, true
		}
	}
	if changed {
		poke(f.wake)
	}
}

// Sync brings the server up to date: when it returns, every request that is read from then on is routed by
// the state that the Index had when Sync was called. After an error the server is as before, and the next
// Sync tries again. Changed does not receive for that, so the caller decides when. While no route is attached
// Sync returns ErrNotServed: clients may still come, so the server keeps its primaries, and follows their
// endpoints. While a port passes through and there is no origin Sync returns ErrNoOrigin; everything else is
// served.
func (f *Follower) Sync() error {
	f.serving.Lock()
	defer f.serving.Unlock()
	f.mu.Lock()
	table, services := f.table, f.endpoints
	f.table, f.endpoints = false, map[string]bool{}
	f.mu.Unlock()
	var err error
	if table {
		err = f.syncTable()
	} else {
		err = f.syncEndpoints(maps.Keys(services))
	}
	if err != nil {
		f.mu.Lock()
		f.table = true
		f.mu.Unlock()
	}
	return err
}

func (f *Follower) syncTable() error {
	table := f.index.Table(f.parent)
	// After the last route its primaries are better than the origin, which may select the variant's pods too.
	if table != nil && (routed(table) || !routed(f.applied)) {
		err := f.apply(table)
		if err == nil && f.release != nil {
			f.release()
			f.release = nil
		}
		if err == nil && passes(table) && !f.index.HasOrigin(f.parent) {
			err = ErrNoOrigin
		}
		return err
	}
	if f.applied == nil {
		return ErrNotServed
	}
	if f.release == nil {
		f.release = f.index.Keep(f.parent, slices.Collect(maps.Keys(f.applied.Services)))
	}
	if err := f.syncEndpoints(maps.Keys(f.applied.Services)); err != nil {
		return err
	}
	if f.mirrors {
		if err := f.apply(withoutMirrors(f.applied)); err != nil {
			return err
		}
	}
	return ErrNotServed
}

// routed reports whether a listener of the table has a route.
func routed(table *spec.Table) bool {
	return table != nil && slices.ContainsFunc(table.Listeners, func(l spec.Listener) bool { return l.TCP == nil })
}

// passes reports whether a listener of the table passes connections through.
func passes(table *spec.Table) bool {
	return slices.ContainsFunc(table.Listeners, func(l spec.Listener) bool { return l.TCP != nil })
}

func (f *Follower) apply(table *spec.Table) error {
	compiled, problems := routing.Compile(table)
	if compiled == nil {
		return fmt.Errorf("the routes of Service %s do not fit together: %s", f.parent, problems[0])
	}
	setup := &proxy.Setup{Table: compiled}
	for _, l := range table.Listeners {
		setup.Listeners = append(setup.Listeners, f.listener(&l))
	}
	if err := f.server.Apply(setup); err != nil {
		return err
	}
	f.applied, f.mirrors = table, len(compiled.Mirrors) > 0
	return nil
}

// listener returns the configuration of a listener. The ports that share it share its certificate.
func (f *Follower) listener(l *spec.Listener) proxy.Listener {
	out := proxy.Listener{
		Name: l.Name, Address: l.Address, TCP: l.TCP != nil, H2C: l.TCP == nil && l.TLS == nil, Detects: l.Otherwise != nil, ProxyProtocol: l.ProxyProtocol,
		SendProxyProtocol: l.TCP != nil && l.TCP.ProxyProtocol || l.Otherwise != nil && l.Otherwise.ProxyProtocol,
	}
	if l.TLS != nil {
		out.Certificate = f.Certificates[l.Port]
		for _, r := range l.Routes {
			for _, port := range r.Ports {
				if c := f.Certificates[port]; out.Certificate == nil {
					out.Certificate = c
				}
			}
		}
	}
	return out
}

// withoutMirrors returns the same table without mirrors.
func withoutMirrors(table *spec.Table) *spec.Table {
	keep := func(filters []spec.Filter) []spec.Filter {
		return slices.DeleteFunc(slices.Clone(filters), func(f spec.Filter) bool { return f.RequestMirror != nil })
	}
	out := &spec.Table{Services: table.Services, Listeners: slices.Clone(table.Listeners)}
	for l := range out.Listeners {
		routes := slices.Clone(out.Listeners[l].Routes)
		for r := range routes {
			rules := slices.Clone(routes[r].Rules)
			for i := range rules {
				rules[i].Filters = keep(rules[i].Filters)
				rules[i].BackendRefs = slices.Clone(rules[i].BackendRefs)
				for b := range rules[i].BackendRefs {
					rules[i].BackendRefs[b].Filters = keep(rules[i].BackendRefs[b].Filters)
				}
			}
			routes[r].Rules = rules
		}
		out.Listeners[l].Routes = routes
	}
	return out
}

// syncEndpoints replaces the endpoints of backends. It skips a backend that the Index does not have any more,
// since the next table is without it.
func (f *Follower) syncEndpoints(services iter.Seq[string]) error {
	for service := range services {
		for number := range f.applied.Services[service] {
			port, ok := f.index.Port(Backend{f.parent, service}, number)
			if !ok {
				continue
			}
			ready, unready := port.Addresses()
			if err := f.server.SetEndpoints(service, number, ready, unready); err != nil {
				return err
			}
			f.applied.Services[service][number] = port
		}
	}
	return nil
}
