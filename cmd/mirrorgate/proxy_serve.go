package main

// A proxy as a process: its server, its admin address, reloads, and its end.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/accesslog"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
)

// proxyProcess is everything that a proxy consists of.
type proxyProcess struct {
	opts     *proxyOptions
	log      logr.Logger
	registry *prometheus.Registry
	metrics  *configMetrics
	server   *proxy.Server
	// ready says that everything is served that should be.
	ready   func() bool
	access  *accesslog.Log // nil for none
	watcher *config.Watcher
	current atomic.Pointer[config.Config]
}

// serveProxy serves c, and what replaces it, until ctx ends.
func serveProxy(ctx context.Context, opts *proxyOptions, c *config.Config) (err error) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	p := newProxyProcess(opts)
	p.metrics = newConfigMetrics(p.registry)
	if err := p.assemble(c); err != nil { //nolint:contextcheck // a server ends by Shutdown, not with a context
		return err
	}
	if p.access != nil {
		defer func() { err = errors.Join(err, p.access.Close()) }()
	}
	if p.watcher, err = config.NewWatcher(); err != nil {
		return fmt.Errorf("watching files: %w", err)
	}
	failed := make(chan error, 1)
	stopAdmin, err := p.admin(c.Admin, failed)
	if err != nil {
		return err
	}
	defer stopAdmin()
	if err := p.apply(c); err != nil { //nolint:contextcheck // listeners outlive ctx: they drain
		return err
	}
	for _, l := range c.Listeners {
		p.log.Info("listening", "listener", l.Name, "address", p.server.Addr(l.Name).String(), "tls", l.Certificate != nil)
	}
	following, stop := context.WithCancel(ctx)
	reloads := p.follow(following, hangup)
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop()
	<-reloads
	return errors.Join(err, p.drain(ctx))
}

func newProxyProcess(opts *proxyOptions) *proxyProcess {
	p := &proxyProcess{opts: opts, log: newLogger(logLevel(opts.LogLevel), opts.LogFormat), registry: prometheus.NewRegistry()}
	p.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return p
}

// assemble makes the parts that stay for the life of the process.
func (p *proxyProcess) assemble(c *config.Config) error {
	options := &proxy.Options{
		Limits: h1.Limits{
			Head: c.Limits.HeaderBytes, Fields: c.Limits.Headers, Target: c.Limits.TargetBytes,
			HeadTimeout: c.Limits.HeaderTimeout, IdleTimeout: c.Limits.IdleTimeout, BodyTimeout: c.Limits.BodyTimeout,
			BackendTimeout: c.Limits.BackendTimeout,
		},
		Connections: c.Limits.Connections, VariantConnects: c.Limits.VariantConnects, Registry: p.registry,
	}
	if c.AccessLog.Format != "" {
		format, err := accesslog.ByName(c.AccessLog.Format)
		if err != nil {
			return err
		}
		if p.access, err = accesslog.Open(c.AccessLog.Path, format); err != nil {
			return fmt.Errorf("access log: %w", err)
		}
		options.AccessLog = p.access.Log
		accessLogMetrics(p.registry, p.access)
	}
	p.server = proxy.New(options)
	p.ready = p.server.Ready
	return nil
}

// admin serves metrics and health, if an address is given. If that fails later, failed
// gets to know.
func (p *proxyProcess) admin(address string, failed chan<- error) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !p.ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("admin: %w", err)
		}
	}()
	p.log.Info("admin", "address", listener.Addr().String())
	return func() { _ = server.Close() }, nil
}

// apply makes the server serve c.
func (p *proxyProcess) apply(c *config.Config) error {
	setup := &proxy.Setup{Table: c.Table}
	for _, l := range c.Listeners {
		listener := proxy.Listener{Name: l.Name, Address: l.Address, TCP: l.TCP, H2C: l.H2C}
		if l.Certificate != nil {
			listener.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.Certificate, nil }
		}
		setup.Listeners = append(setup.Listeners, listener)
	}
	if err := p.server.Apply(setup); err != nil {
		return err
	}
	p.current.Store(c)
	p.metrics.applied()
	for _, w := range c.Warnings {
		p.log.Info("warning", "file", p.opts.Config, "line", w.Line, "field", w.Path, "problem", w.Message)
	}
	if err := p.watcher.Watch(c.Files()); err != nil {
		p.log.Error(err, "changes of some files will not be noticed; send SIGHUP")
	}
	return nil
}

// follow reloads when files change, and on SIGHUP, until ctx ends; then it closes the
// channel it returns.
func (p *proxyProcess) follow(ctx context.Context, hangup <-chan os.Signal) <-chan struct{} {
	poke, done := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			select {
			case <-hangup:
				if p.access != nil {
					if err := p.access.Reopen(); err != nil {
						p.log.Error(err, "access log")
					}
				}
				select {
				case poke <- struct{}{}:
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		defer close(done)
		p.watcher.Run(ctx, poke, p.reload)
	}()
	return done
}

// reload reads the file again and serves it if it is in order.
func (p *proxyProcess) reload() {
	current := p.current.Load()
	next, err := config.Load(p.opts.Config)
	if err == nil {
		if next.Same(current) {
			p.metrics.unchanged()
			return
		}
		err = next.Follows(current)
	}
	if err == nil {
		err = p.apply(next)
	}
	if err == nil {
		p.log.Info("reloaded", "file", p.opts.Config, "rules", len(next.Table.Rules), "mirrors", len(next.Table.Mirrors))
		return
	}
	p.metrics.refused()
	var problems *config.Problems
	if !errors.As(err, &problems) {
		p.log.Error(err, "the file is refused, the last good one stays", "file", p.opts.Config)
		return
	}
	p.log.Error(nil, "the file is refused, the last good one stays", "file", p.opts.Config, "problems", len(problems.List))
	for _, problem := range problems.List {
		p.log.Error(nil, "problem", "file", p.opts.Config, "line", problem.Line, "field", problem.Path, "problem", problem.Message)
	}
}

// drain ends the server: first whoever balances has to notice, then requests have to end.
func (p *proxyProcess) drain(ctx context.Context) error {
	signal.Reset(os.Interrupt, syscall.SIGTERM) // a second one ends at once
	p.log.Info("draining", "at least", p.opts.DrainMin.String(), "then at most", p.opts.DrainTimeout.String())
	p.server.Drain()
	time.Sleep(p.opts.DrainMin)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.opts.DrainTimeout)
	defer cancel()
	if err := p.server.Shutdown(bound); err != nil {
		p.log.Error(err, "requests were broken off", "drain-timeout", p.opts.DrainTimeout.String())
		return exitBrokenOff
	}
	p.log.Info("drained")
	return nil
}

// configMetrics say what became of the file.
type configMetrics struct {
	reloads *prometheus.CounterVec
	valid   prometheus.Gauge
	since   prometheus.Gauge
}

func newConfigMetrics(registry prometheus.Registerer) *configMetrics {
	m := &configMetrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirrorgate_proxy_config_reloads_total", Help: "Times the file was read, by result (applied, unchanged, refused)."}, []string{"result"}),
		valid:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "mirrorgate_proxy_config_valid", Help: "1 if the file as it is now is served, 0 if it was refused."}),
		since:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "mirrorgate_proxy_config_applied_timestamp_seconds", Help: "When the file that is served was applied."}),
	}
	for _, result := range []string{"applied", "unchanged", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	registry.MustRegister(m.reloads, m.valid, m.since)
	return m
}

func (m *configMetrics) applied() {
	m.reloads.WithLabelValues("applied").Inc()
	m.valid.Set(1)
	m.since.SetToCurrentTime()
}

// unchanged is also what a file is that was mended by taking the change back.
func (m *configMetrics) unchanged() {
	m.reloads.WithLabelValues("unchanged").Inc()
	m.valid.Set(1)
}

func (m *configMetrics) refused() {
	m.reloads.WithLabelValues("refused").Inc()
	m.valid.Set(0)
}

func accessLogMetrics(registry prometheus.Registerer, l *accesslog.Log) {
	counter := func(name, help string, value func() uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	counter("mirrorgate_proxy_access_log_dropped_total", "Lines dropped because they could not be written fast enough.", l.Dropped)
	counter("mirrorgate_proxy_access_log_failed_total", "Writes that failed; their lines are lost.", l.Failed)
}
