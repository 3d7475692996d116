// Package serve runs `mirrorgate serve`: the admission webhooks, the caches that they decide by, and the
// controllers, of which one replica at a time runs the loops.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/heap"
	"github.com/mirrorgate/mirrorgate/internal/logging"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// Installation is the name of the Service and of both webhook configurations in the manifests.
const Installation = "mirrorgate"

// cachePoll is how often a part that needs filled caches checks them.
const cachePoll = 20 * time.Millisecond

// Process is one `mirrorgate serve`, assembled and not yet started.
type Process struct {
	opts    *Options
	log     logr.Logger
	config  *rest.Config
	client  kubernetes.Interface
	clock   *certs.ServerClock
	manager manager.Manager
	source  certs.Source
	cluster *variant.Cluster
	index   *variant.Index
	drain   drain
	// registration is nil in an installation, whose manifests hold the webhook configurations.
	registration *webhook.Registration
	// reached holds why the API server has not reached the process by its URL.
	reached reached
	// noMesh is nil without --no-mesh.
	noMesh *noMesh
	// reports is nil where no proxies report.
	reports *reports
}

// New connects to the API server, gets a certificate and assembles all parts. opts must be valid.
func New(ctx context.Context, opts *Options) (*Process, error) {
	p := &Process{opts: opts, log: opts.Logger(), clock: certs.NewServerClock(opts.Clock)}
	ctrl.SetLogger(logging.OfLibrary(p.log))
	if err := p.connect(); err != nil {
		return nil, err
	}
	if err := p.certificate(ctx); err != nil {
		return nil, err
	}
	return p, p.assemble()
}

// connect sets the client of the API server: the kubeconfig's, or that of the cluster that the process runs
// in.
func (p *Process) connect() (err error) {
	if p.opts.Kubeconfig == "" && p.opts.Context == "" && p.opts.WebhookURL == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		p.config, err = rest.InClusterConfig()
		if err != nil {
			return fmt.Errorf("no --kubeconfig, no $KUBECONFIG, and not in a cluster: %w", err)
		}
	} else if p.config, _, err = cli.Kubeconfig(p.opts.Kubeconfig, p.opts.Context); err != nil {
		return err
	}
	p.config.UserAgent = "mirrorgate/" + p.opts.Version
	p.config.QPS = -1 // the API server's priority and fairness limits the rate
	p.config.Wrap(p.clock.Wrap)
	p.client, err = kubernetes.NewForConfig(p.config)
	return err
}

// assemble wires the parts into a manager.
func (p *Process) assemble() (err error) {
	hooks := p.webhookServer()
	p.manager, err = ctrl.NewManager(p.config, ctrl.Options{
		Scheme:                 runtime.NewScheme(),
		Logger:                 logging.OfLibrary(p.log),
		Metrics:                server.Options{BindAddress: p.opts.MetricsBind},
		HealthProbeBindAddress: p.opts.HealthBind,
		WebhookServer:          hooks,
	})
	if err != nil {
		return err
	}
	p.index = variant.NewIndex(variant.Options{
		ClusterDomain: p.opts.ClusterDomain, RootNamespace: p.opts.RootNamespace,
		Grace: p.opts.indexGrace(), Without: p.opts.ignoredGroups(),
	})
	if p.cluster, err = variant.NewCluster(p.config, p.index, withoutRepeats(p.log.WithName("cluster"))); err != nil {
		return err
	}
	metrics.Registry.MustRegister(clusterMetrics{p.index, p.cluster}, p.drain.lastCallMetric())
	counted := webhook.NewMetrics(metrics.Registry)
	gate := webhook.New(variant.NewResolver(p.index, p.cluster, p.cluster.HasSynced), webhook.Options{
		Policy: p.opts.Policy, ClusterDomain: p.opts.ClusterDomain, Metrics: counted,
	})
	gate.Register(p.drain.watch(p.manager.GetWebhookServer())) // the manager starts only a server that was asked for
	if p.registration != nil {
		webhook.RegisterReach(p.drain.watch(p.manager.GetWebhookServer()))
		if err := p.manager.AddReadyzCheck("reached", p.reached.ready); err != nil {
			return err
		}
	}
	if p.opts.NoMesh {
		if err := p.assembleNoMesh(counted); err != nil {
			return err
		}
	}
	controllers, err := p.controllers()
	if err != nil {
		return err
	}
	return errors.Join(
		p.manager.Add(everyReplica(p.source.Start)),
		p.manager.Add(everyReplica(p.cluster.Start)),
		p.manager.Add(everyReplica(p.relaxHeap)),
		p.manager.Add(everyReplica(p.reportMissing)),
		p.manager.Add(everyReplica(controllers)),
		p.manager.AddHealthzCheck("ping", func(*http.Request) error { return nil }),
		p.manager.AddReadyzCheck("certificate", func(*http.Request) error { return p.source.Ready() }),
		p.manager.AddReadyzCheck("caches", filled(p.cluster.HasSynced)),
		p.manager.AddReadyzCheck("webhook", hooks.StartedChecker()),
		p.manager.AddReadyzCheck("ending", p.drain.ready),
	)
}

func (p *Process) webhookServer() ctrlwebhook.Server {
	host, port := p.opts.webhookAddress()
	return ctrlwebhook.NewServer(ctrlwebhook.Options{
		Host: host, Port: port,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) {
			c.GetCertificate = p.source.GetCertificate
			c.MinVersion = tls.VersionTLS12
			c.NextProtos = []string{"http/1.1"} // the API server makes few calls at once; HTTP/2 would only add attack surface
		}},
	})
}

// everyReplica is a part of the manager that runs on every replica.
type everyReplica func(context.Context) error

func (f everyReplica) Start(ctx context.Context) error { return f(ctx) }
func (everyReplica) NeedLeaderElection() bool          { return false }

// relaxHeap waits for the caches, because filling them leaves the garbage that sets the process's peak
// memory.
func (p *Process) relaxHeap(ctx context.Context) error {
	if poll(ctx, 100*time.Millisecond, p.cluster.HasSynced) {
		heap.Relax()
	}
	return nil
}

// filled is a readiness check that passes once caches are filled.
func filled(hasSynced func() bool) func(*http.Request) error {
	return func(*http.Request) error {
		if !hasSynced() {
			return errors.New("the caches are not filled yet")
		}
		return nil
	}
}

// poll waits until condition holds; it returns false when ctx ends first.
func poll(ctx context.Context, every time.Duration, condition func() bool) bool {
	return wait.PollUntilContextCancel(ctx, every, true, func(context.Context) (bool, error) { return condition(), nil }) == nil
}
