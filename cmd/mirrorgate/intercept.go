package main

// The verb that runs proxies in front of Services: its flags, help and exit code.

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirrorgate/mirrorgate/internal/serve"
)

func newIntercept() *cobra.Command {
	opts := newServeConfig()
	cmd := &cobra.Command{
		Use:   "intercept",
		Short: "Run proxies in front of Services",
		Long: `Intercept runs proxies in front of the Services that have the label
mirrorgate.dev/proxy: enabled, or whose namespace has it, in a cluster without a mesh. It
writes what became of their routes into the routes' status.

It is the part of mirrorgate that creates Deployments, and has an account of its own for
them. The webhook of these Services is answered by mirrorgate serve --no-mesh; there,
--intercept=false leaves the proxies to this process. Without that webhook no Service leads
to a proxy.

--config names the file of serve. Of its keys it uses proxy, and those of its own flags:

  proxy:
    image: registry.example/mirrorgate:v1.2.3

The exit code is 0 after a signal, 1 after a fault, and 2 after a wrong flag or file.`,
		Example: `  mirrorgate intercept --leader-elect
  mirrorgate intercept --kubeconfig ~/.kube/config --proxy-image registry.example/mirrorgate:v1.2.3`,
		Args: cobra.NoArgs,
	}
	bindIntercept(cmd.Flags(), opts.Options)
	cmd.Flags().StringVar(&opts.file, "config", "", "YAML file with the options of serve")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return opts.run(cmd, func() (*serve.Process, error) { return serve.NewInterception(opts.Options) })
	}
	return cmd
}

func bindIntercept(f *pflag.FlagSet, o *serve.Options) {
	f.SortFlags = false
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig of the cluster; in a cluster the service account is used")
	f.StringVar(&o.Context, "context", o.Context, "context of the kubeconfig, if not its current one")
	f.StringVar(&o.Proxy.Image, "proxy-image", o.Proxy.Image, "image of the proxies; in a cluster the pod's own by default")
	f.StringVarP(&o.Namespace, "namespace", "n", o.Namespace, "namespace of the installation; in a cluster the pod's own by default")
	f.StringVar(&o.MetricsBind, "metrics-bind", o.MetricsBind, "address of the Prometheus metrics; 0 for none")
	f.StringVar(&o.HealthBind, "health-bind", o.HealthBind, "address of /healthz and /readyz; 0 for none")
	f.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "elect a leader among the replicas: only the leader runs proxies")
	f.StringVar(&o.LeaderElectionNamespace, "leader-election-namespace", o.LeaderElectionNamespace, "namespace of the leader's lease; in a cluster the pod's own by default")
	f.DurationVar(&o.Resync.Duration, "resync", o.Resync.Duration, "how often every Service is checked again")
	f.IntVar(&o.Workers, "workers", o.Workers, "Services dealt with at the same time")
	bindLog(f, &o.Log)
}
