package serve

// `mirrorgate intercept`: the loops of --no-mesh alone, in a process and with an account of their own. Only they need
// the right to create Deployments anywhere, with which one can do everything, and only they have no port that others
// reach.

import (
	"errors"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/logging"
)

// Interception is the name of the Deployment, the account and the lease of `mirrorgate intercept`.
const Interception = Installation + "-intercept"

// NewInterception connects to the API server and assembles the process that runs proxies in front of Services. opts
// must be valid; of them it needs those of the cluster, the leader, the addresses and the proxies.
func NewInterception(opts *Options) (*Process, error) {
	p := &Process{opts: opts, log: opts.Logger(), clock: certs.NewServerClock(opts.Clock)}
	ctrl.SetLogger(logging.OfLibrary(p.log))
	if err := p.connect(); err != nil {
		return nil, err
	}
	var err error
	p.manager, err = ctrl.NewManager(p.config, ctrl.Options{
		Scheme:                 runtime.NewScheme(),
		Logger:                 logging.OfLibrary(p.log),
		Metrics:                server.Options{BindAddress: opts.MetricsBind},
		HealthProbeBindAddress: opts.HealthBind,
	})
	if err != nil {
		return nil, err
	}
	if err := p.modelServices(nil); err != nil {
		return nil, err
	}
	controllers, err := p.led(Interception, p.intercepting)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(
		p.manager.Add(everyReplica(controllers)),
		p.manager.AddHealthzCheck("ping", func(*http.Request) error { return nil }),
	)
}
