package proxyserve

// A proxy whose rules come from a file, which it reads again when it changes.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/logging"
	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
)

// fileProxy is a proxy process with the file that it serves.
type fileProxy struct {
	*process
	metrics   results
	appliedAt prometheus.Gauge
	watcher   *config.Watcher
	current   *config.Config
	// refusals keeps from logging the same problems at every change of the folder.
	refusals logging.OnChange
}

// File serves c, which was read from opts.Config, and each later version of that file, until ctx ends and the
// drain is over. It returns ErrAborted if the drain took too long.
func File(ctx context.Context, opts *Options, c *config.Config) (err error) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	common, err := newProcess(opts, c) //nolint:contextcheck // a server ends by Shutdown, not with a context
	if err != nil {
		return err
	}
	p := &fileProxy{process: common}
	p.metrics, p.appliedAt = newFileMetrics(p.registry)
	defer func() { err = errors.Join(err, p.close()) }()
	if p.watcher, err = config.NewWatcher(); err != nil {
		return fmt.Errorf("watching files: %w", err)
	}
	if err := p.serveAdmin(c.Admin); err != nil {
		return err
	}
	if err := p.apply(c); err != nil { //nolint:contextcheck // listeners outlive ctx: they drain
		return err
	}
	for _, l := range c.Listeners {
		p.log.Info("Listening", "listener", l.Name, "address", p.server.Addr(l.Name).String(), "tls", l.Certificate != nil)
	}
	stop := p.follow(ctx, hangup)
	err = p.wait(ctx)
	stop()
	return errors.Join(err, p.drain(ctx))
}

// apply makes the server serve c.
func (p *fileProxy) apply(c *config.Config) error {
	setup := &proxy.Setup{Table: c.Table}
	for _, l := range c.Listeners {
		listener := proxy.Listener{Name: l.Name, Address: l.Address, TCP: l.TCP, H2C: l.H2C, Detects: l.Detects, ProxyProtocol: l.ProxyProtocol, SendProxyProtocol: l.SendProxyProtocol, MinVersion: l.MinVersion, ALPN: l.ALPN}
		if l.Certificate != nil {
			listener.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.Certificate, nil }
		}
		setup.Listeners = append(setup.Listeners, listener)
	}
	if err := p.server.Apply(setup); err != nil {
		return err
	}
	p.current = c
	p.metrics.applied()
	p.appliedAt.SetToCurrentTime()
	for _, w := range c.Warnings {
		p.log.Info("Warning", "file", p.opts.Config, "line", w.Line, "field", w.Path, "problem", w.Message)
	}
	if err := p.watcher.Watch(c.Files()); err != nil {
		p.log.Error(err, "Changes of some files will not be noticed; send SIGHUP")
	}
	return nil
}

// follow reloads when files change, and on SIGHUP, until stop is called.
func (p *fileProxy) follow(ctx context.Context, hangup <-chan os.Signal) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	poke, done := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			select {
			case <-hangup:
				p.reopenLog()
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
	return func() { cancel(); <-done }
}

func (p *fileProxy) reopenLog() {
	if p.access == nil {
		return
	}
	if err := p.access.Reopen(); err != nil {
		p.log.Error(err, "The access log was not reopened")
	}
}

// reload reads the file again and serves it, unless it has problems.
func (p *fileProxy) reload() {
	next, err := config.Load(p.opts.Config)
	if err == nil {
		if next.Same(p.current) {
			p.refusals.Log(nil)
			p.metrics.unchanged()
			return
		}
		err = next.Follows(p.current)
	}
	if err == nil {
		err = p.apply(next)
	}
	if err == nil {
		p.refusals.Log(nil)
		p.log.Info("Reloaded", "file", p.opts.Config, "rules", len(next.Table.Rules), "mirrors", len(next.Table.Mirrors))
		return
	}
	p.metrics.refused()
	if !p.refusals.Log(err) {
		return
	}
	var problems *config.Problems
	if !errors.As(err, &problems) {
		p.log.Error(err, "The file is refused, the last good one stays", "file", p.opts.Config)
		return
	}
	p.log.Error(nil, "The file is refused, the last good one stays", "file", p.opts.Config, "problems", len(problems.List))
	for _, problem := range problems.List {
		p.log.Error(nil, "Problem", "file", p.opts.Config, "line", problem.Line, "field", problem.Path, "problem", problem.Message)
	}
}
