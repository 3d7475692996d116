package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/mirrors"
	"github.com/mirrorgate/mirrorgate/internal/heap"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/webhook"
)

func newServe() *cobra.Command {
	opts := defaultServeOptions()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the admission webhooks and run the controller",
		Long: `Serve answers the API server's admission requests for routes, and touches a route
when one of its variants comes or goes.

In a cluster it takes its identity from its service account; the webhook
configurations are part of the installation. --certs says where its certificate
comes from: cert-manager, self (a Secret that the replicas manage themselves), files
(--cert-dir), or auto: files that exist, cert-manager where cainjector is told to fill
the webhook configurations, else self. The validating webhook is moved from failure
policy Ignore to Fail after a dry run showed that it denies.

Outside a cluster, with --webhook-url, it makes its own CA, registers both webhook
configurations by URL once it is ready, and removes them when it ends:

  mirrorgate serve --kubeconfig ~/.kube/config --webhook-url https://192.0.2.7:9443

Flags win over the file that --config names; its keys are the flags' names:

  webhook-url: https://192.0.2.7:9443
  unready-grace: 20s
  policy:
    limits: {maxPercent: 50, maxMirrors: 2}
    namespaces:
      prod: {maxPercent: 10}`,
		Args: cobra.NoArgs,
	}
	opts.bind(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := opts.load(cmd.Flags()); err != nil {
			return err
		}
		return serve(cmd.Context(), opts)
	}
	return cmd
}

// gateway is everything that a serving process consists of.
type gateway struct {
	opts    *serveOptions
	log     logr.Logger
	config  *rest.Config
	clock   *certs.ServerClock
	manager manager.Manager
	source  certs.Source
	cluster *variant.Cluster
	index   *variant.Index
	// registration is set outside a cluster.
	registration *webhook.Registration
	client       kubernetes.Interface
	drain        drain
	// noMesh is set with --no-mesh.
	noMesh *noMesh
	// applied is set once the API server may know the registration.
	applied bool
}

// serve runs until ctx ends, or until a part fails.
func serve(ctx context.Context, opts *serveOptions) error {
	g := &gateway{opts: opts, log: newLogger(opts.level(), opts.LogFormat), clock: certs.NewServerClock(ownClock)}
	ctrl.SetLogger(g.log)
	logLibraries(g.log)
	certificate := func() error { return g.certificate(ctx) }
	for _, step := range []func() error{g.connect, certificate, g.assemble} {
		if err := step(); err != nil {
			return err
		}
	}
	return g.run(ctx)
}

var librariesLog sync.Once

// logLibraries makes a logger that of the Kubernetes client library: for a process once, since goroutines of
// the library read it without a lock.
func logLibraries(log logr.Logger) { librariesLog.Do(func() { klog.SetLogger(log) }) }

func newLogger(level slog.Level, format string) logr.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, opts))
	}
	return logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, opts))
}

// connect finds the API server: the kubeconfig's, or that of the cluster that
// the process runs in.
func (g *gateway) connect() (err error) {
	if g.opts.Kubeconfig == "" && g.opts.WebhookURL == "" {
		g.config, err = rest.InClusterConfig()
		if err != nil {
			return fmt.Errorf("no --kubeconfig, and not in a cluster: %w", err)
		}
	} else if g.config, _, err = kubeconfig(g.opts.Kubeconfig, g.opts.Context); err != nil {
		return err
	}
	g.config.UserAgent = "mirrorgate/" + version
	g.config.QPS = -1 // the API server's priority and fairness bound us
	g.config.Wrap(g.clock.Wrap)
	g.client, err = kubernetes.NewForConfig(g.config)
	return err
}

func (g *gateway) certificate(ctx context.Context) (err error) {
	observed := certs.NewMetrics(metrics.Registry)
	if g.opts.url == nil {
		g.source, err = g.installedSource(ctx, observed)
		return err
	}
	memory, err := certs.NewMemory(ownClock, observed, g.opts.url.Hostname())
	if err != nil {
		return err
	}
	g.source = memory
	g.registration = &webhook.Registration{URL: g.opts.url, CABundle: memory.CABundle(), Routes: g.opts.components(), FailurePolicy: g.opts.failurePolicy()}
	return nil
}

// assemble wires the parts into a manager.
func (g *gateway) assemble() (err error) {
	hooks := ctrlwebhook.NewServer(ctrlwebhook.Options{
		Host: g.opts.host, Port: g.opts.port,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) {
			c.GetCertificate = g.source.GetCertificate
			c.MinVersion = tls.VersionTLS12
			c.NextProtos = []string{"http/1.1"} // one connection a call at most; h2 adds attack surface only
		}},
	})
	if g.manager, err = ctrl.NewManager(g.config, g.opts.manager(hooks, g.log)); err != nil {
		return err
	}
	g.index = variant.NewIndex(variant.Options{
		ClusterDomain: g.opts.ClusterDomain, RootNamespace: g.opts.RootNamespace, Grace: g.opts.grace(), Without: g.opts.without(),
	})
	if g.cluster, err = variant.NewCluster(g.config, g.index, g.log.WithName("cluster")); err != nil {
		return err
	}
	counted := webhook.NewMetrics(metrics.Registry)
	gate := webhook.New(variant.NewResolver(g.index, g.cluster, g.cluster.HasSynced), webhook.Options{
		Policy: g.opts.Policy, ClusterDomain: g.opts.ClusterDomain, Metrics: counted,
	})
	gate.Register(g.drain.on(g.manager.GetWebhookServer())) // without being asked for it, the manager does not start it
	if g.opts.NoMesh {
		if err := g.fronts(counted); err != nil {
			return err
		}
	}

	flips, err := g.controller()
	if err != nil {
		return err
	}
	metrics.Registry.MustRegister(clusterMetrics{g.index, g.cluster})
	return errors.Join(
		g.manager.Add(everywhere(g.source.Start)),
		g.manager.Add(everywhere(g.cluster.Start)),
		g.manager.Add(everywhere(g.relax)),
		g.manager.Add(everywhere(flips)),
		g.manager.AddHealthzCheck("ping", func(*http.Request) error { return nil }),
		g.manager.AddReadyzCheck("certificate", func(*http.Request) error { return g.source.Ready() }),
		g.manager.AddReadyzCheck("caches", func(*http.Request) error { return g.synced() }),
		g.manager.AddReadyzCheck("webhook", hooks.StartedChecker()),
		g.manager.AddReadyzCheck("ending", g.drain.ready),
	)
}

// relax waits for the caches: filling them leaves much garbage, which sets the peak of
// what the process takes.
func (g *gateway) relax(ctx context.Context) error {
	if poll(ctx, 100*time.Millisecond, g.cluster.HasSynced) {
		heap.Relax()
	}
	return nil
}

var errNotSynced = errors.New("the caches are not filled yet")

func (g *gateway) synced() error {
	if !g.cluster.HasSynced() {
		return errNotSynced
	}
	return nil
}

// controller returns the controller's loop, which with --leader-elect runs on
// one replica at a time.
func (g *gateway) controller() (func(context.Context) error, error) {
	toucher, err := mirrors.NewToucher(g.config)
	if err != nil {
		return nil, err
	}
	selector, err := webhook.Namespaces()
	if err != nil {
		return nil, err
	}
	observed := mirrors.NewMetrics(metrics.Registry)
	recorder := events.NewRecorder(g.manager.GetEventRecorder("mirrorgate"), metrics.Registry)
	if err := g.manager.Add(everywhere(recorder.Start)); err != nil {
		return nil, err
	}
	opts := mirrors.Options{
		Policy: g.opts.Policy, ClusterDomain: g.opts.ClusterDomain, HasSynced: g.cluster.HasSynced, Workers: g.opts.Workers,
		Resync: g.opts.Resync.Duration, Metrics: observed, Log: g.log.WithName("controller"),
	}
	docs, err := g.documents(recorder, &opts)
	if err != nil {
		return nil, err
	}
	c := mirrors.New(g.index, toucher, mirrors.NewNamespaces(g.client.CoreV1(), selector), recorder, opts)
	g.index.Subscribe(c.Notify)
	loops := []func(context.Context) error{c.Start}
	if docs != nil {
		loops = append(loops, docs.Start)
	}
	if g.opts.NoMesh {
		more, err := g.proxies(recorder)
		if err != nil {
			return nil, err
		}
		loops = append(loops, more...)
	}
	run, err := g.lead(loops)
	if err != nil {
		return nil, err
	}
	if !g.opts.LeaderElect {
		return run, nil
	}
	lock, err := lease(g.config, g.manager, cmp.Or(g.opts.LeaderElectionNamespace, g.opts.Namespace))
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	return leadership{lock: lock, run: run}.Start, nil
}

// run starts everything, and outside a cluster registers the webhooks for as
// long as they are served.
func (g *gateway) run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- g.manager.Start(serving) }()
	if g.registration == nil {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			g.drain.wait(serving)
			stop()
			return <-failed
		}
	}
	registered := make(chan error, 1)
	registering, quit := context.WithCancel(ctx)
	defer quit()
	go func() { registered <- g.register(registering) }()

	var err error
	select {
	case err = <-failed:
		failed <- nil
		quit()
		// What it has begun is removed below.
		if late := <-registered; !errors.Is(late, context.Canceled) {
			err = errors.Join(err, late)
		}
	case err = <-registered:
		if err == nil {
			select {
			case <-ctx.Done():
			case err = <-failed:
				failed <- nil
			}
		} else if ctx.Err() != nil {
			err = nil // told to end before it was registered
		}
	}
	// First nobody calls us any more, then we stop answering.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if !g.applied {
		g.log.Info("ends before it was registered", "name", g.registration.Name())
	} else if gone := g.registration.Remove(clean, g.client); gone != nil {
		err = errors.Join(err, fmt.Errorf("the webhook configurations %s are left behind: %w", g.registration.Name(), gone))
	} else {
		g.log.Info("webhooks removed; mirrors that are parked stay parked", "name", g.registration.Name(), "parked", g.parked())
	}
	stop()
	return errors.Join(err, <-failed)
}

// register waits until requests can be answered, and tells the API server.
func (g *gateway) register(ctx context.Context) error {
	started := g.manager.GetWebhookServer().StartedChecker()
	ready := func() bool {
		return g.cluster.HasSynced() && g.noMesh.synced() && g.source.Ready() == nil && started(nil) == nil
	}
	if !poll(ctx, 20*time.Millisecond, ready) {
		return ctx.Err()
	}
	g.applied = true // in part, if it fails
	if err := g.registration.Apply(ctx, g.client); err != nil {
		return err
	}
	g.log.Info("webhooks registered", "name", g.registration.Name(), "url", g.registration.URL.String())
	return nil
}

// parked counts the mirrors that nobody restores any more.
func (g *gateway) parked() (n int) {
	for _, of := range g.index.Counts().Parked {
		n += of
	}
	return n
}

// poll waits until something is true; it returns false when ctx ends first.
func poll(ctx context.Context, every time.Duration, is func() bool) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// everywhere runs on every replica.
type everywhere func(context.Context) error

func (f everywhere) Start(ctx context.Context) error { return f(ctx) }
func (everywhere) NeedLeaderElection() bool          { return false }

func (o *serveOptions) manager(hooks ctrlwebhook.Server, log logr.Logger) ctrl.Options {
	return ctrl.Options{
		Scheme:                 runtime.NewScheme(),
		Logger:                 log,
		Metrics:                server.Options{BindAddress: o.MetricsBind},
		HealthProbeBindAddress: o.HealthBind,
		WebhookServer:          hooks,
	}
}

// clusterMetrics shows how much is cached and whether it is complete.
type clusterMetrics struct {
	index   *variant.Index
	cluster *variant.Cluster
}

var (
	mirrorsDesc = prometheus.NewDesc("mirrorgate_mirrors", "Mirrors in the cluster's routes, by kind of route and state (active, parked).", []string{"kind", "state"}, nil)
	syncedDesc  = prometheus.NewDesc("mirrorgate_cache_synced", "1 when all objects of a kind have been listed, by kind.", []string{"kind"}, nil)
	objectsDesc = prometheus.NewDesc("mirrorgate_cache_objects", "Objects cached, by kind.", []string{"kind"}, nil)
)

func (c clusterMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- mirrorsDesc
	out <- syncedDesc
	out <- objectsDesc
}

func (c clusterMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counts := c.index.Counts()
	for _, kind := range []route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService} {
		gauge(mirrorsDesc, float64(counts.Active[kind]), string(kind), "active")
		gauge(mirrorsDesc, float64(counts.Parked[kind]), string(kind), "parked")
	}
	for kind, n := range counts.Objects {
		gauge(objectsDesc, float64(n), kind.String())
	}
	for kind, done := range c.cluster.Synced() {
		value := 0.0
		if done {
			value = 1
		}
		gauge(syncedDesc, value, kind)
	}
}
