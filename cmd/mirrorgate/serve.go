package main

// The verb that runs in a cluster, or for one: its flags, help and exit code.

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirrorgate/mirrorgate/internal/serve"
)

func newServe() *cobra.Command {
	opts := newServeConfig()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the admission webhooks and run the controllers",
		Long: `Serve answers the API server's admission requests for routes, and touches a route
when one of its variants comes or goes.

In a cluster it uses its service account, and the webhook configurations are part of
the installation. --certs chooses the source of its certificate: cert-manager, self (a
Secret that the replicas manage themselves), files (from --cert-dir), or auto. With
auto it uses the files if there are any, cert-manager if the webhook configurations are
annotated for cainjector, or else self. The validating webhook begins with failure
policy Ignore, and serve sets it to Fail once a dry run has shown that it denies.

Outside a cluster, with --webhook-url, it makes its own CA, registers both webhook
configurations by URL once a dry run has shown that the API server reaches it, and removes
them when it ends.

A flag overrides the same key in the file that --config names:

  webhook-url: https://192.0.2.7:9443
  unready-grace: 20s
  policy:
    limits: {maxPercent: 50, maxMirrors: 2}
    namespaces:
      prod: {maxPercent: 10}

The exit code is 0 after a signal, 1 after a fault, and 2 after a wrong flag or file.`,
		Example: `  mirrorgate serve --kubeconfig ~/.kube/config --webhook-url https://192.0.2.7:9443
  mirrorgate serve --config mirrorgate.yaml --log-level debug`,
		Args: cobra.NoArgs,
	}
	bindServe(cmd.Flags(), opts.Options)
	opts.bindShared(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return opts.run(cmd, func() (*serve.Process, error) { return serve.New(cmd.Context(), opts.Options) })
	}
	return cmd
}

func bindServe(f *pflag.FlagSet, o *serve.Options) {
	f.SortFlags = false
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig of the cluster to serve; in a cluster the service account is used")
	f.StringVar(&o.Context, "context", o.Context, "context of the kubeconfig, if not its current one")
	f.StringVar(&o.WebhookURL, "webhook-url", o.WebhookURL, "https://HOST:PORT at which the API server reaches this process; the webhooks are registered by it while the process runs")
	f.StringVar(&o.WebhookBind, "webhook-bind", o.WebhookBind, "address that the webhook server listens on (default the port of --webhook-url, or :9443)")
	f.StringSliceVar(&o.Routes, "routes", o.Routes, "kinds of routes to serve: gateway-api (HTTPRoutes, GRPCRoutes), istio (VirtualServices); others are left alone, and need no rights")
	f.BoolVar(&o.NoMesh, "no-mesh", o.NoMesh, "run proxies in front of Services that have the label mirrorgate.dev/proxy: enabled; for a cluster without a mesh")
	f.BoolVar(&o.Intercept, "intercept", o.Intercept, "with --no-mesh, run these proxies from this process; false where mirrorgate intercept does")
	f.StringVar(&o.Proxy.Image, "proxy-image", o.Proxy.Image, "image of these proxies; in a cluster the pod's own by default")
	f.StringVar(&o.Certs, "certs", o.Certs, "source of the certificate, without --webhook-url: auto, cert-manager, self or files")
	f.StringVar(&o.CertDir, "cert-dir", o.CertDir, "folder with tls.crt and tls.key, for --certs=files")
	f.StringSliceVar(&o.CertNames, "cert-names", o.CertNames, "more names and IP addresses at which the API server calls, beside mirrorgate.NAMESPACE.svc")
	f.DurationVar(&o.CertLife.Duration, "cert-life", o.CertLife.Duration, "how long a certificate is valid; it is renewed at two thirds, and its CA lives four times as long")
	f.StringVarP(&o.Namespace, "namespace", "n", o.Namespace, "namespace of the installation; in a cluster the pod's own by default")
	f.StringVar(&o.ProbeNamespace, "probe-namespace", o.ProbeNamespace, "namespace for the dry runs that show that the validating webhook denies")
	f.StringVar(&o.FailurePolicy, "failure-policy", o.FailurePolicy, "failure policy of the validating webhook once it is known to work: Fail or Ignore")
	f.StringVar(&o.ReportBind, "report-bind", o.ReportBind, "with --no-mesh, address at which the leader takes the reports of proxies; 0 for none")
	f.StringVar(&o.MetricsBind, "metrics-bind", o.MetricsBind, "address of the Prometheus metrics; 0 for none")
	f.StringVar(&o.HealthBind, "health-bind", o.HealthBind, "address of /healthz and /readyz; 0 for none")
	f.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "elect a leader among the replicas: only the leader touches routes")
	f.StringVar(&o.LeaderElectionNamespace, "leader-election-namespace", o.LeaderElectionNamespace, "namespace of the leader's lease; in a cluster the pod's own by default")
	f.DurationVar(&o.UnreadyGrace.Duration, "unready-grace", o.UnreadyGrace.Duration, "how long a variant may be unready before its mirrors are parked; longer than a restart takes")
	f.DurationVar(&o.Resync.Duration, "resync", o.Resync.Duration, "how often every route is checked again")
	f.IntVar(&o.Workers, "workers", o.Workers, "routes touched at the same time")
	f.BoolVar(&o.Iter8, "iter8", o.Iter8, "serve Iter8's documents too: subjects, routing policies and routemaps; reads ConfigMaps by label, and applies routes")
	f.BoolVar(&o.Policy.Strict, "strict", o.Policy.Strict, "deny a mirror whose variant is not ready, instead of parking it")
	bindLog(f, &o.Log)
}
