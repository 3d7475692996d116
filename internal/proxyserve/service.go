package proxyserve

// A proxy in front of a Service: its rules come from the routes in the cluster, and follow them.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/logging"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/report"
)

const (
	// foreignWait is how long a table waits for objects that its routes began to refer to: they may be in
	// another namespace, which has to be read first and may need a permission.
	foreignWait = 2 * time.Second
	// retryAfter is when a table that could not be served is tried again.
	retryAfter = time.Second
	// repeatLog is when an error that stays is logged again.
	repeatLog = time.Minute
)

// serviceProxy is a proxy process with the cluster that it follows.
type serviceProxy struct {
	*process
	service  dataplane.Name
	index    *dataplane.Index
	feed     *dataplane.Feed
	follower *dataplane.Follower
	// reports is nil without a token.
	reports *report.Client
	// certificates are those of ports whose TLS the proxy terminates.
	certificates []*portCertificate
	metrics      results

	// complete is set once everything that the Service has was served.
	complete atomic.Bool
	// incompleteSince is when an object that a route refers to was first unknown; zero while all are known.
	incompleteSince time.Time
	// lastError is the error that was logged last, at lastErrorAt; empty when the table is served.
	lastError   string
	lastErrorAt time.Time
	// loggedTable is the table whose listeners were logged last, as loggedListeners.
	loggedTable     *spec.Table
	loggedListeners string
	// reportNews are the faults of the annotation that says where to report.
	reportNews logging.OnChange
	// warnedHints is set once it was logged that hints have no effect.
	warnedHints bool
}

// Service serves the routes of opts.Service until ctx ends and the drain is over. It returns ErrAborted if
// the drain took too long.
func Service(ctx context.Context, opts *Options) (err error) {
	settings := &config.Config{
		AccessLog: config.AccessLog{Format: opts.AccessLog, Path: "-"}, PerRule: opts.MetricsPerRule, HideReason: !opts.ReasonHeader,
	}
	common, err := newProcess(opts, settings) //nolint:contextcheck // a server ends by Shutdown, not with a context
	if err != nil {
		return err
	}
	p := &serviceProxy{process: common, metrics: newTableMetrics(common.registry)}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.connect(); err != nil {
		return err
	}
	p.ready = func() bool { return p.complete.Load() && p.server.Ready() }
	if err := p.serveAdmin(opts.AdminBind); err != nil {
		return err
	}
	stop := p.follow(context.WithoutCancel(ctx))
	p.log.Info("Waiting for the Service and its routes", "service", p.service.String())
	err = p.wait(ctx)
	drained := p.drain(ctx) // endpoints still change meanwhile
	stop()
	return errors.Join(err, drained)
}

// connect sets the client of the API server and the objects that it reads.
func (p *serviceProxy) connect() error {
	cluster, namespace, err := cli.Kubeconfig(p.opts.Kubeconfig, p.opts.Context)
	if err != nil {
		return err
	}
	cluster.UserAgent = "mirrorgate-proxy/" + p.opts.Version
	if p.opts.Namespace != "" {
		namespace = p.opts.Namespace
	}
	p.service = dataplane.Name{Namespace: namespace, Name: p.opts.Service}
	options := dataplane.Options{
		Parent: p.service, Zone: p.opts.Zone, Certificates: p.opts.certified(),
		ProxyProtocol: strings.HasPrefix(p.opts.ProxyProtocol, "in"), SendProxyProtocol: strings.HasSuffix(p.opts.ProxyProtocol, "out"),
		AffinityCookie: p.opts.AffinityCookie,
	}
	if p.opts.TrustedHops >= 0 {
		options.Forwarded = &spec.Forwarded{TrustedHops: p.opts.TrustedHops}
	}
	p.index = dataplane.NewIndex(options)
	p.feed, err = dataplane.NewFeed(cluster, p.index, p.log, dataplane.FeedOptions{Namespace: namespace, WithPolicies: true, WithTLSPolicies: true})
	if err != nil {
		return err
	}
	p.registry.MustRegister(p.feed)
	p.follower = dataplane.Follow(p.index, p.service, p.server)
	if p.opts.ReportToken != "" {
		p.reports = report.NewClient(report.ClientOptions{
			Service: p.service.Name, TokenFile: p.opts.ReportToken, Registry: p.registry, Log: p.log.WithName("report"),
		})
		p.reports.Add(report.Mirrors, p.mirrors)
	}
	p.follower.Certificates = map[int]dataplane.GetCertificate{}
	return p.readCertificates()
}

// follow keeps the server in step with the cluster until stop is called.
func (p *serviceProxy) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = p.feed.Start(ctx) }) // it ends without an error
	if p.reports != nil {
		running.Go(func() { p.reports.Run(ctx) })
	}
	if len(p.certificates) > 0 {
		running.Go(func() { p.followCertificates(ctx) })
	}
	running.Go(func() {
		retry := time.NewTimer(0)
		defer retry.Stop()
		for ctx.Err() == nil {
			select {
			case <-p.follower.Changed():
			case <-p.feed.Changed():
			case <-retry.C:
			case <-ctx.Done():
			}
			if after := p.step(time.Now()); after > 0 {
				retry.Reset(after)
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// step serves everything that is known, and returns when to try again; 0 is when something changes.
func (p *serviceProxy) step(now time.Time) (after time.Duration) {
	if rest, hold := p.hold(now); hold {
		return rest
	}
	err := p.follower.Sync()
	p.report()
	// While the Service bypasses its proxies, a client that kept its connection would stay with the proxy.
	p.server.Dismiss(!p.index.Swapped(p.service))
	notServed := errors.Is(err, dataplane.ErrNotServed)
	switch {
	case err == nil, notServed && p.follower.Table() != nil:
		p.metrics.applied()
		p.lastError = ""
		p.logListeners()
		if !p.complete.Swap(true) {
			p.log.Info("Ready", "service", p.service.String())
		}
		return 0
	case notServed:
		err = fmt.Errorf("there is no Service %s", p.service)
	case errors.Is(err, dataplane.ErrNoOrigin):
		p.logListeners()
	default:
		after = retryAfter
	}
	p.metrics.refused()
	if text := err.Error(); text != p.lastError || now.Sub(p.lastErrorAt) > repeatLog {
		p.lastError, p.lastErrorAt = text, now
		p.log.Error(err, "Not everything can be served", "service", p.service.String())
	}
	return after
}

// report sets where the proxy reports to.
func (p *serviceProxy) report() {
	if p.reports == nil {
		return
	}
	target, err := p.index.ReportTarget(p.service)
	if p.reportNews.Log(err) {
		p.log.Error(err, "The proxy cannot report", "service", p.service.String())
	}
	p.reports.To(target)
}

// mirrors is the section of reports about copies. A route at two ports is one.
func (p *serviceProxy) mirrors() any {
	list := []report.Mirror{}
	for _, c := range p.server.Counts() {
		if m := c.Mirror; m.Rule.Source != "" {
			list = append(list, report.Mirror{
				Route: m.Rule.Source, Rule: m.Rule.Section, Target: m.Target.Name, OK: c.OK, Failed: c.Failed, Dropped: c.Dropped,
			})
		}
	}
	return list
}

// hold reports whether the table that is served should stay as it is for lack of objects, and for how long; 0
// is until something changes.
func (p *serviceProxy) hold(now time.Time) (rest time.Duration, hold bool) {
	if p.feed.HasSynced() {
		p.incompleteSince = time.Time{}
		return 0, false
	}
	if !p.complete.Load() {
		return 0, true
	}
	if p.incompleteSince.IsZero() {
		p.incompleteSince = now
	}
	rest = foreignWait - now.Sub(p.incompleteSince)
	return rest, rest > 0
}

// logListeners logs the listeners when they change.
func (p *serviceProxy) logListeners() {
	if p.opts.Zone == "" && !p.warnedHints && p.index.Hinted(p.service) {
		p.warnedHints = true
		p.log.Info("The zone hints of endpoints have no effect, because the zone of this proxy is not known (--zone)", "service", p.service.String())
	}
	table := p.follower.Table()
	if table == p.loggedTable {
		return
	}
	p.loggedTable = table
	lines := make([]string, 0, len(table.Listeners))
	for i := range table.Listeners {
		l := &table.Listeners[i]
		serves := "passes through as TCP"
		if l.TCP == nil {
			serves = fmt.Sprintf("serves routes: %d", len(l.Routes))
		}
		lines = append(lines, fmt.Sprintf("port %d at %s %s", l.Port, l.Address, serves))
	}
	if text := strings.Join(lines, "; "); text != p.loggedListeners {
		p.loggedListeners = text
		p.log.Info("Serving", "service", p.service.String(), "listeners", text)
	}
}
