// Package proxyserve runs `mirrorgate proxy`: the server of internal/proxy with its admin address and its
// access log, fed from a file or from the cluster, to the end of its drain.
package proxyserve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/accesslog"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
)

// ErrAborted is returned when --drain-timeout passed and requests under way were aborted.
var ErrAborted = errors.New("--drain-timeout passed with requests under way")

// process has the parts that last as long as the process, wherever its rules come from.
type process struct {
	opts     *Options
	log      logr.Logger
	registry *prometheus.Registry
	server   *proxy.Server
	access   *accesslog.Log // nil for none
	// ready reports whether the process serves everything that it should.
	ready  func() bool
	admin  *http.Server
	failed chan error // receives the error of the admin server
}

// newProcess makes a process with the limits and the access log of c.
func newProcess(opts *Options, c *config.Config) (*process, error) {
	p := &process{
		opts: opts, log: opts.Logger(), registry: prometheus.NewRegistry(),
		admin: &http.Server{ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}, failed: make(chan error, 1),
	}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	options := &proxy.Options{
		Limits: c.Limits.Limits, Connections: c.Limits.Connections, VariantConnects: c.Limits.VariantConnects, Registry: p.registry,
		BackendIdle: c.Limits.BackendIdle, PerRule: c.PerRule, HideReason: c.HideReason, Log: p.log.Error, H2: proxy.H2(opts.H2), BackendH2: proxy.H2(opts.BackendH2),
	}
	if c.AccessLog.Format != "" {
		format, err := accesslog.ByName(c.AccessLog.Format)
		if err != nil {
			return nil, err
		}
		if p.access, err = accesslog.Open(c.AccessLog.Path, format); err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
		options.AccessLog = p.access.Log
		registerAccessLog(p.registry, p.access)
	}
	p.server = proxy.New(options)
	p.ready = p.server.Ready
	return p, nil
}

// serveAdmin serves metrics and health at an address, unless it is empty.
func (p *process) serveAdmin(address string) error {
	if address == "" {
		return nil
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
	p.admin.Handler = mux
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	go func() {
		if err := p.admin.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.failed <- fmt.Errorf("admin: %w", err)
		}
	}()
	p.log.Info("Admin listening", "address", listener.Addr().String())
	return nil
}

// wait returns when ctx ends or the admin server fails.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.failed:
		return err
	}
}

// drain ends the server. Load balancers get DrainMin to stop sending connections, then requests under way get
// DrainTimeout to end. A second signal ends the process at once.
func (p *process) drain(ctx context.Context) error {
	signal.Reset(os.Interrupt, syscall.SIGTERM)
	p.log.Info("Draining", "at least", p.opts.DrainMin.String(), "then at most", p.opts.DrainTimeout.String())
	p.server.Drain()
	time.Sleep(p.opts.DrainMin)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.opts.DrainTimeout)
	defer cancel()
	if err := p.server.Shutdown(bound); err != nil {
		p.log.Error(err, "Requests were aborted", "drain-timeout", p.opts.DrainTimeout.String())
		return ErrAborted
	}
	p.log.Info("Drained")
	return nil
}

// close closes the admin server and the access log.
func (p *process) close() error {
	_ = p.admin.Close()
	if p.access == nil {
		return nil
	}
	return p.access.Close()
}
