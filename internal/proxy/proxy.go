// Package proxy is the data plane: it listens, hands connections to the terminator of their
// protocol, and swaps one routing table for another without dropping a request.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h2"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Options are what a Server is made with. Zero values mean defaults.
type Options struct {
	Limits h1.Limits
	// Connections is how many clients' connections are open at once; further ones wait to be
	// accepted: 65536 if 0.
	Connections int
	// VariantConnects is how many new connections an endpoint of a variant gets in a second: 250 if 0.
	// One that ends its connections costs the primary's clients what opening new ones costs.
	VariantConnects int
	// Registry gets the metrics: a registry of its own if nil.
	Registry prometheus.Registerer
	// AccessLog is called after every exchange and every copy that was answered; see core.Options.
	AccessLog func(*core.Record)
	// ConnectTimeout bounds connecting to an endpoint: 2 s.
	ConnectTimeout time.Duration
	// PassIdle is how long a connection that is passed on may be without a byte in either direction:
	// 24 h if 0, as long as kube-proxy keeps one.
	PassIdle time.Duration
}

// Listener says how to serve the table's listener of that name.
type Listener struct {
	Name    string
	Address string
	// TCP passes connections on as they are.
	TCP bool
	// H2C accepts HTTP/2 without TLS, by prior knowledge.
	H2C bool
	// Certificate, if set, makes the listener terminate TLS, with HTTP/2 by ALPN. It is called for
	// every handshake, so a renewed certificate needs no new listener.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Setup is everything that may change while the server runs.
type Setup struct {
	Table     *routing.Table
	Listeners []Listener
}

// Server is a proxy. Its methods may be called concurrently.
type Server struct {
	options  Options
	core     *core.Core
	back     *h2.Transport
	leg      *h2.Transport
	slots    *slots
	stop     context.CancelFunc
	wg       sync.WaitGroup
	draining atomic.Bool
	// dismissed says that clients are to connect elsewhere.
	dismissed atomic.Bool

	mu        sync.Mutex
	listeners map[string]*listener // by address
	retired   map[*listener]struct{}
	applied   bool
	closed    bool
}

// New returns a server that listens nowhere yet. Shutdown ends it.
func New(o *Options) *Server {
	s := &Server{options: *o, listeners: map[string]*listener{}, retired: map[*listener]struct{}{}}
	s.options.Limits = o.Limits.Defaulted()
	if s.options.Connections == 0 {
		s.options.Connections = 65536
	}
	if s.options.VariantConnects == 0 {
		s.options.VariantConnects = 250
	}
	if s.options.PassIdle == 0 {
		s.options.PassIdle = 24 * time.Hour
	}
	if s.options.Registry == nil {
		s.options.Registry = prometheus.NewRegistry()
	}
	limits := &s.options.Limits
	s.slots = &slots{free: make(chan struct{}, s.options.Connections)}
	s.back, s.leg = h2.NewTransport(limits.Head, 256<<10), h2.NewTransport(limits.Head, 64<<10)
	pool := upstream.NewPool(&upstream.Pool{Timeout: o.ConnectTimeout})
	shadows := upstream.NewPool(&upstream.Pool{Timeout: o.ConnectTimeout, Connects: s.options.VariantConnects})
	s.core = core.New(&core.Options{
		HTTP: h1.NewClient(limits), H2C: s.back,
		ShadowHTTP: h1.NewSender(limits), ShadowH2C: &h2.Leg{Transport: s.leg},
		Pool: pool, ShadowPool: shadows,
		Metrics: core.NewMetrics(s.options.Registry), AccessLog: o.AccessLog,
	})
	s.options.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mirrorgate_proxy_connections", Help: "Clients' connections that are open.",
	}, func() float64 { return float64(s.slots.open.Load()) }))
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.wg.Go(func() { pool.Run(ctx) })
	s.wg.Go(func() { shadows.Run(ctx) })
	return s
}

// Apply makes the server follow a setup: when it returns, every request that is read from now on
// is routed by the new table, and connections stay open. Listeners that are new are opened first;
// if one cannot be, nothing changes. Those that are gone finish what they have. A listener of another
// name at an address that is open takes over what comes from now on, whether it passes connections on
// or looks into them; it may not be told from the other by TLS or h2c.
func (s *Server) Apply(setup *Setup) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	fresh, err := s.open(setup.Listeners)
	if err != nil {
		return err
	}
	s.core.SetTable(setup.Table)
	wanted := map[string]bool{}
	for i := range setup.Listeners {
		config := &setup.Listeners[i]
		wanted[config.Address] = true
		if old := s.listeners[config.Address]; old != nil && !old.differs(config) {
			old.config.Store(config)
		}
	}
	for _, l := range fresh {
		address := l.config.Load().Address
		old := s.listeners[address]
		s.listeners[address] = l
		l.start()
		if old != nil {
			s.retire(old, (*listener).yield)
		}
	}
	for address, l := range s.listeners {
		if !wanted[address] {
			delete(s.listeners, address)
			s.retire(l, (*listener).retire)
		}
	}
	s.applied = true
	return nil
}

// SetEndpoints swaps the endpoints of one port of a service, as host:port and each once, while the
// rest of the table stays: when it returns, every request that is read from now on, and every copy,
// goes to one that is ready. unready ones keep the connections they have. It costs what the port has,
// however large the table is. It is an error if the table has no such port.
func (s *Server) SetEndpoints(service string, port int, ready, unready []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.core.SetEndpoints(service, port, ready, unready)
}

// retire lets a listener that is gone finish what it has, in the way that is given. s.mu is held.
func (s *Server) retire(l *listener, way func(*listener)) {
	s.retired[l] = struct{}{}
	way(l)
	go func() {
		l.wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.retired, l)
		name := l.config.Load().Name
		for other := range s.retired {
			if other.config.Load().Name == name {
				return
			}
		}
		s.core.ForgetListener(name)
	}()
}

// open makes the listeners that are new: at an address that is new, or that takes over one that is open.
func (s *Server) open(configs []Listener) (fresh []*listener, err error) {
	var errs []error
	var opened []*socket
	for i := range configs {
		config := &configs[i]
		var at *socket
		if old := s.listeners[config.Address]; old != nil {
			if err := old.compatible(config); err != nil {
				errs = append(errs, err)
			}
			if !old.differs(config) {
				continue
			}
			at = old.socket
		} else {
			if at, err = s.listen(config.Address); err != nil {
				errs = append(errs, fmt.Errorf("listener %s: %w", config.Name, err))
				continue
			}
			opened = append(opened, at)
		}
		fresh = append(fresh, s.listener(at, config))
	}
	if len(errs) > 0 {
		for _, at := range opened {
			_ = at.Close()
		}
		return nil, errors.Join(errs...)
	}
	return fresh, nil
}

// Addr is where the listener of that name listens, or nil.
func (s *Server) Addr(name string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.config.Load().Name == name {
			return l.socket.Addr()
		}
	}
	return nil
}

// Ready says that requests are served and that it will stay so for now.
func (s *Server) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied && !s.closed && !s.draining.Load()
}

// Drain makes the server unready, while it goes on to serve: new connections are accepted, and
// every response asks the client to open another connection, which a load balancer that has
// noticed will lead elsewhere.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.each(func(l *listener) { l.drain() })
}

// Dismiss makes every response ask the client to open another connection, while the server stays ready, or
// ends that: whoever leads clients here leads them elsewhere for a while, and those that keep their
// connections would not notice.
func (s *Server) Dismiss(on bool) { s.dismissed.Store(on) }

// Shutdown stops listening and waits until every exchange has ended; when ctx ends it breaks off
// what is left and returns the context's error. Copies that are under way are waited for, within
// their own timeouts and ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.each(func(l *listener) { l.retire() })
		s.each(func(l *listener) { l.wait() })
		s.core.Close()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.each(func(l *listener) { l.kill() })
		s.core.Abandon()
	}
	s.stop()
	s.wg.Wait()
	s.back.Close()
	s.leg.Close()
	if err == nil {
		return nil
	}
	return err
}

// each calls do for every listener, those that were removed but have not ended included.
func (s *Server) each(do func(*listener)) {
	s.mu.Lock()
	all := slices.Concat(slices.Collect(maps.Values(s.listeners)), slices.Collect(maps.Keys(s.retired)))
	s.mu.Unlock()
	for _, l := range all {
		do(l)
	}
}
