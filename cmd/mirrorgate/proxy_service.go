package main

// A proxy in front of a Service: its rules come from the cluster, and follow it.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// serviceProxy is a proxy process with what it follows.
type serviceProxy struct {
	*proxyProcess
	service  dataplane.Name
	index    *dataplane.Index
	feed     *dataplane.Feed
	follower *dataplane.Follower
	metrics  *tableMetrics

	// complete is set when everything was served once that the Service has.
	complete atomic.Bool
	// since is when it was first not known what a route refers to; zero while all is known.
	since time.Time
	// said is what was logged last about the table, and saidAt when.
	said   string
	saidAt time.Time
	// shown is the table whose listeners were logged, and listeners what was.
	shown     *spec.Table
	listeners string
}

const (
	// hold is how long a table waits for what its routes began to refer to: another namespace has to
	// be read first, which somebody may have to permit.
	hold = 2 * time.Second
	// again is when a table that could not be served is tried again.
	again = time.Second
)

// serveService serves what routes say of a Service, until ctx ends.
func serveService(ctx context.Context, opts *proxyOptions) (err error) {
	p := &serviceProxy{proxyProcess: newProxyProcess(opts)}
	logLibraries(p.log)
	if err := p.assemble(&config.Config{AccessLog: config.AccessLog{Format: opts.AccessLog, Path: "-"}}); err != nil { //nolint:contextcheck // a server ends by Shutdown, not with a context
		return err
	}
	if p.access != nil {
		defer func() { err = errors.Join(err, p.access.Close()) }()
	}
	if err := p.connect(); err != nil {
		return err
	}
	p.ready = func() bool { return p.complete.Load() && p.server.Ready() }
	failed := make(chan error, 1)
	stopAdmin, err := p.admin(opts.AdminBind, failed)
	if err != nil {
		return err
	}
	defer stopAdmin()
	stopFollowing := p.follow(context.WithoutCancel(ctx))
	p.log.Info("Waiting for the API server to say what to serve", "service", p.service.String())
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	drained := p.drain(ctx) // endpoints still change
	stopFollowing()
	return errors.Join(err, drained)
}

// connect finds the API server, and says what is to be read there.
func (p *serviceProxy) connect() error {
	cluster, namespace, err := kubeconfig(p.opts.Kubeconfig, "")
	if err != nil {
		return err
	}
	cluster.UserAgent = "mirrorgate-proxy/" + version
	if p.opts.Namespace != "" {
		namespace = p.opts.Namespace
	}
	p.service = dataplane.Name{Namespace: namespace, Name: p.opts.Service}
	p.index = dataplane.NewIndex(dataplane.Options{Parent: p.service})
	p.feed, err = dataplane.NewFeed(cluster, p.index, p.log, dataplane.FeedOptions{Namespace: namespace})
	if err != nil {
		return err
	}
	p.metrics = newTableMetrics(p.registry, p.feed)
	p.follower = dataplane.Follow(p.index, p.service, p.server)
	return nil
}

// follow keeps the server in step with the cluster until stop is called.
func (p *serviceProxy) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{}, 2)
	go func() {
		_ = p.feed.Start(ctx)
		done <- struct{}{}
	}()
	go func() {
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
		done <- struct{}{}
	}()
	return func() {
		cancel()
		<-done
		<-done
	}
}

// step serves what is known by now, and says when to try again, 0 for when something changes.
func (p *serviceProxy) step(now time.Time) (after time.Duration) {
	if !p.feed.HasSynced() {
		if !p.complete.Load() {
			return 0
		}
		if p.since.IsZero() {
			p.since = now
		}
		if rest := hold - now.Sub(p.since); rest > 0 {
			return rest
		}
	} else {
		p.since = time.Time{}
	}
	err := p.follower.Sync()
	// In bypass whoever keeps a connection would stay here, away from the primary.
	p.server.Dismiss(!p.index.Swapped(p.service))
	switch {
	case err == nil, errors.Is(err, dataplane.ErrNotServed) && p.follower.Table() != nil:
		p.metrics.applied()
		p.said = ""
		p.show()
		if !p.complete.Swap(true) {
			p.log.Info("Ready", "service", p.service.String())
		}
		return 0
	case errors.Is(err, dataplane.ErrNotServed):
		err = fmt.Errorf("there is no Service %s", p.service)
	case errors.Is(err, dataplane.ErrNoOrigin):
		p.show()
	default:
		after = again
	}
	p.metrics.refused()
	if text := err.Error(); text != p.said || now.Sub(p.saidAt) > time.Minute {
		p.said, p.saidAt = text, now
		p.log.Error(err, "Not everything can be served", "service", p.service.String())
	}
	return after
}

// show logs what is listened at, when that changes.
func (p *serviceProxy) show() {
	table := p.follower.Table()
	if table == p.shown {
		return
	}
	p.shown = table
	lines := make([]string, 0, len(table.Listeners))
	for i := range table.Listeners {
		l := &table.Listeners[i]
		way := "passes through as TCP"
		if l.TCP == nil {
			way = "by " + plural(len(l.Routes), "route")
		}
		lines = append(lines, fmt.Sprintf("port %d at %s %s", l.Port, l.Address, way))
	}
	if text := strings.Join(lines, "; "); text != p.listeners {
		p.listeners = text
		p.log.Info("Serving", "service", p.service.String(), "listeners", text)
	}
}

// tableMetrics say what became of what the cluster says.
type tableMetrics struct {
	updates *prometheus.CounterVec
	valid   prometheus.Gauge
}

func newTableMetrics(registry prometheus.Registerer, feed *dataplane.Feed) *tableMetrics {
	m := &tableMetrics{
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mirrorgate_proxy_table_updates_total", Help: "Times that the server was brought in step with the cluster, by result (applied, refused)."}, []string{"result"}),
		valid:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "mirrorgate_proxy_table_valid", Help: "1 if what the cluster says is served as a whole, else 0."}),
	}
	for _, result := range []string{"applied", "refused"} {
		m.updates.WithLabelValues(result)
	}
	registry.MustRegister(m.updates, m.valid, feedMetrics{feed})
	return m
}

func (m *tableMetrics) applied() {
	m.updates.WithLabelValues("applied").Inc()
	m.valid.Set(1)
}

func (m *tableMetrics) refused() {
	m.updates.WithLabelValues("refused").Inc()
	m.valid.Set(0)
}

// feedMetrics show what a feed knows.
type feedMetrics struct{ feed *dataplane.Feed }

var (
	feedSynced   = prometheus.NewDesc("mirrorgate_feed_synced", "1 if all objects of the resource are known that are to be read, else 0.", []string{"resource"}, nil)
	feedFailures = prometheus.NewDesc("mirrorgate_feed_failures_total", "Lists and watches of the resource that could not begin, and objects that could not be read.", []string{"resource"}, nil)
)

// Describe implements prometheus.Collector.
func (f feedMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- feedSynced
	out <- feedFailures
}

// Collect implements prometheus.Collector.
func (f feedMetrics) Collect(out chan<- prometheus.Metric) {
	for resource, listed := range f.feed.Resources() {
		out <- prometheus.MustNewConstMetric(feedSynced, prometheus.GaugeValue, toFloat(listed), resource)
	}
	for resource, failures := range f.feed.Failures() {
		out <- prometheus.MustNewConstMetric(feedFailures, prometheus.CounterValue, float64(failures), resource)
	}
}
