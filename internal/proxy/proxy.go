// Package proxy is the data plane: it listens, hands connections to the terminator of their protocol, and
// swaps one routing table for another without dropping a request.
package proxy

import (
	"cmp"
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
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/streams"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Options configure a Server for its whole life. Zero values mean defaults.
type Options struct {
	Limits h1.Limits
	// Connections is the most clients' connections that are open at once; further ones wait to be accepted.
	// 65536 if 0.
	Connections int
	// VariantConnects is the most new connections in a second to one endpoint of a variant: 250 if 0. Without
	// a bound, a variant that ends its connections would slow down the primary's clients, because new
	// connections are expensive.
	VariantConnects int
	// Registry gets the metrics; a new registry if nil.
	Registry prometheus.Registerer
	// AccessLog is called after every exchange and every copy that was answered; see core.Options.
	AccessLog func(*core.Record)
	// PerRule makes metrics for each rule and mirror, instead of for each listener, service and target.
	PerRule bool
	// HideReason leaves out the field that tells clients the reason of an error of the proxy's own.
	HideReason bool
	// Log gets what needs attention, with keys and values; nil for no log.
	Log func(err error, message string, keysAndValues ...any)
	// Compare returns the comparison of the answers to a mirror's copies; see core.Options. Nil compares none.
	Compare func(*routing.Mirror) *shadow.Compared
	// ConnectTimeout bounds a connect to an endpoint: 2 s if 0.
	ConnectTimeout time.Duration
	// BackendIdle is how long connections to backends are kept without use: 55 s if 0.
	BackendIdle time.Duration
	// PassIdle is how long a connection that is passed through may be without a byte in either direction: 24
	// h if 0, as long as kube-proxy keeps one.
	PassIdle time.Duration
	// H2 is what speaks HTTP/2 with clients: DefaultH2 if empty.
	H2 H2
	// BackendH2 is what speaks HTTP/2 with backends and variants: DefaultBackendH2 if empty.
	BackendH2 H2
}

// H2 is what speaks HTTP/2.
type H2 string

// OwnH2 is mirrorgate's own loop, and NetHTTP the standard library's.
const (
	OwnH2   H2 = "own"
	NetHTTP H2 = "nethttp"

	DefaultH2        = NetHTTP
	DefaultBackendH2 = NetHTTP
)

// Listener configures how the table's listener of that name is served.
type Listener struct {
	Name string
	// Address is HOST:PORT.
	Address string
	// TCP passes connections through without looking into them.
	TCP bool
	// H2C accepts HTTP/2 without TLS, by prior knowledge.
	H2C bool
	// Detects makes the listener look at the first bytes of a connection, and pass it through if it is not HTTP.
	Detects bool
	// ProxyProtocol makes clients' connections begin with a header of PROXY protocol, and SendProxyProtocol those that
	// are passed through.
	ProxyProtocol, SendProxyProtocol bool
	// Certificate, if set, makes the listener terminate TLS, with HTTP/2 by ALPN. It is called for every
	// handshake, so a renewed certificate needs no new listener.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// MinVersion is the least version of TLS: 1.2 if 0. ALPN are the protocols that are offered: h2 and http/1.1 if
	// empty. Neither changes while the listener is open.
	MinVersion uint16
	ALPN       []string
}

// Setup is everything that may change while the server runs.
type Setup struct {
	Table     *routing.Table
	Listeners []Listener
}

// Server is a proxy. Its methods may be called concurrently.
type Server struct {
	options Options
	core    *core.Core
	// primaries and variants carry HTTP/2, to different backends so that neither holds up the other.
	primaries, variants interface{ Close() }
	slots               *slots
	stop                context.CancelFunc
	wg                  sync.WaitGroup
	draining            atomic.Bool
	news                news
	acceptFailures      prometheus.Counter
	unintroduced        prometheus.Counter
	// starved is when a connection could not be accepted, in Unix nanoseconds; 0 for never.
	starved atomic.Int64
	// ends is when Shutdown breaks off what is under way, in Unix nanoseconds; 0 for never.
	ends atomic.Int64
	// dismissed is set while clients are asked to open another connection.
	dismissed atomic.Bool

	mu        sync.Mutex
	listeners map[string]*listener // by address
	retired   map[*listener]struct{}
	applied   bool
	closed    bool
}

// New returns a server without listeners. Shutdown ends it.
func New(o *Options) *Server {
	s := &Server{options: *o, listeners: map[string]*listener{}, retired: map[*listener]struct{}{}}
	s.options.Limits = o.Limits.Defaulted()
	s.options.Connections = cmp.Or(o.Connections, 65536)
	s.options.VariantConnects = cmp.Or(o.VariantConnects, 250)
	s.options.BackendIdle = cmp.Or(o.BackendIdle, 55*time.Second)
	s.options.PassIdle = cmp.Or(o.PassIdle, 24*time.Hour)
	if s.options.Registry == nil {
		s.options.Registry = prometheus.NewRegistry()
	}
	if s.options.Log == nil {
		s.options.Log = func(error, string, ...any) {}
	}
	limits := &s.options.Limits
	s.slots = &slots{free: make(chan struct{}, s.options.Connections)}
	pool := upstream.NewPool(&upstream.Pool{Timeout: o.ConnectTimeout, IdleTimeout: s.options.BackendIdle, Unsecured: s.unsecured})
	shadows := upstream.NewPool(&upstream.Pool{
		Timeout: o.ConnectTimeout, IdleTimeout: s.options.BackendIdle, Connects: s.options.VariantConnects, Unsecured: s.unsecured,
	})
	h2c, shadowH2C := s.overH2()
	s.core = core.New(&core.Options{
		HTTP: h1.NewClient(limits), H2C: h2c,
		ShadowHTTP: h1.NewSender(limits), ShadowH2C: shadowH2C,
		Pool: pool, ShadowPool: shadows, Compare: o.Compare,
		Metrics: core.NewMetrics(s.options.Registry, o.PerRule), AccessLog: o.AccessLog, HideReason: o.HideReason, Failed: s.failed,
	})
	s.acceptFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mirrorgate_proxy_accept_failures_total", Help: "Connections that could not be accepted, mostly for lack of file descriptors.",
	})
	s.unintroduced = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mirrorgate_proxy_protocol_errors_total", Help: "Connections closed because they did not begin with a header of PROXY protocol.",
	})
	s.options.Registry.MustRegister(s.acceptFailures, s.unintroduced, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mirrorgate_proxy_connections", Help: "Clients' connections that are open.",
	}, func() float64 { return float64(s.slots.open.Load()) }))
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.wg.Go(func() { pool.Run(ctx) })
	s.wg.Go(func() { shadows.Run(ctx) })
	return s
}

// Windows of the answers of primaries and of variants, whose answers are dropped.
const (
	primaryWindow = 256 << 10
	variantWindow = 64 << 10
)

// overH2 makes the transports of HTTP/2, to different backends so that neither holds up the other.
func (s *Server) overH2() (core.Transport, shadow.Sender) {
	limits, idle := &s.options.Limits, s.options.BackendIdle
	if cmp.Or(s.options.BackendH2, DefaultBackendH2) == NetHTTP {
		primaries, variants := h2.NewTransport(limits.Head, primaryWindow, idle), h2.NewTransport(limits.Head, variantWindow, idle)
		s.primaries, s.variants = primaries, variants
		return primaries, &h2.Sender{Transport: variants}
	}
	primaries, variants := streams.NewTransport(limits, primaryWindow, idle, h2.Dial), streams.NewTransport(limits, variantWindow, idle, h2.Dial)
	s.primaries, s.variants = primaries, variants
	return primaries, &streams.Sender{Transport: variants}
}

// Apply makes the server follow a setup: when it returns, every later request is routed by the new table, and
// connections stay open. It opens new listeners first; if one cannot be opened, nothing changes. Listeners
// that are gone finish their connections. At an open address, a listener that passes TCP through may follow
// one with rules, or the other way round, under another name: it gets the later connections. Otherwise name,
// TLS and H2C of a listener cannot change while its address is open.
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
	kept := map[string]bool{}
	for i := range setup.Listeners {
		config := &setup.Listeners[i]
		kept[config.Address] = true
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
		if !kept[address] {
			delete(s.listeners, address)
			s.retire(l, (*listener).retire)
		}
	}
	s.applied = true
	return nil
}

// SetEndpoints swaps the endpoints of one port of a service, each given once as host:port, while the rest of
// the table stays: when it returns, every later request, and every later copy, goes to a ready endpoint.
// Unready endpoints keep the connections they have. The cost depends on the port's endpoints, not on the size
// of the table. It is an error if the table has no such port.
func (s *Server) SetEndpoints(service string, port int, ready, unready []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.core.SetEndpoints(service, port, ready, unready)
}

// retire lets a listener that is gone finish its connections; way is listener.yield or listener.retire. The
// caller holds s.mu.
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

// open returns the new listeners: those at a new address, and those that replace another listener at an open
// one.
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

// Addr returns the address of the listener of that name, or nil if there is none.
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

// Counts returns what became of the copies of every mirror.
func (s *Server) Counts() []core.MirrorCounts { return s.core.Counts() }

// Ready reports whether the server serves requests, could accept all connections of late, and is not about to end.
func (s *Server) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied && !s.closed && !s.draining.Load() && s.accepts()
}

// Drain makes the server unready while it goes on serving: it accepts new connections, and every response
// asks the client to open another connection, which a load balancer that has noticed sends to another server.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.each(func(l *listener) { l.drain() })
}

// Dismiss makes every response ask the client to open another connection, while the server stays ready, or
// ends that. It is for the time in which a Service leads to other endpoints: clients that keep their
// connections would not notice.
func (s *Server) Dismiss(on bool) { s.dismissed.Store(on) }

// Shutdown stops listening and waits until every exchange has ended; with a deadline of ctx, connections that are passed
// through end in a pause before it; when ctx ends it breaks off the
// remaining exchanges and returns the context's error. It also waits for copies that are under way, within
// their own timeouts and ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	if bound, ok := ctx.Deadline(); ok {
		s.ends.Store(bound.UnixNano())
	}
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
	s.primaries.Close()
	s.variants.Close()
	return err
}

// bound returns when Shutdown breaks off what is under way; it is zero if it does not.
func (s *Server) bound() (t time.Time) {
	if at := s.ends.Load(); at > 0 {
		t = time.Unix(0, at)
	}
	return t
}

// each calls do for every listener, also for those that were removed and have not ended.
func (s *Server) each(do func(*listener)) {
	s.mu.Lock()
	all := slices.Concat(slices.Collect(maps.Values(s.listeners)), slices.Collect(maps.Keys(s.retired)))
	s.mu.Unlock()
	for _, l := range all {
		do(l)
	}
}
