package main

// The verb for traffic without a mesh: its flags, help and exit codes, and --check.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
	"github.com/mirrorgate/mirrorgate/internal/proxyserve"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// exitAborted is the exit code of proxy when --drain-timeout passed with requests under way.
const exitAborted exitError = 3

const proxyHelp = `Proxy is the data plane for clusters and machines without a mesh: it forwards requests
to their primary by the rules of a file, and sends copies to variants. A copy never
delays, fails or changes the primary's request: past its limits it is dropped and
counted.

The file uses the words of an HTTPRoute. This one sends everything to port 9001, and
every fourth request to port 9002 as well:

  listeners:
  - address: 127.0.0.1:8000
    rules:
    - matches: [{path: {type: PathPrefix, value: /}}]
      filters:
      - type: RequestMirror
        requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 25}
      backendRefs: [{name: httpbin-v1, port: 80}]
  services:
    httpbin-v1: {80: [127.0.0.1:9001]}
    httpbin-v2: {80: [127.0.0.1:9002]}
  admin: {address: 127.0.0.1:9090}   # /metrics, /healthz, /readyz
  accessLog: {format: common}

docs/proxy.md explains every key. --check reads the file and prints its problems.

The file is read again when it or one of its certificates changes, and on SIGHUP,
without dropping a request. A file with problems is refused as a whole: the problems
are logged, mirrorgate_proxy_config_valid becomes 0, and the last good file stays.

With --service the rules come from the cluster instead: the proxy serves the HTTPRoutes
and GRPCRoutes whose parentRef is that Service, at all of its target ports, and passes
ports without a route through as TCP. mirrorgate serve --no-mesh runs such proxies
itself for Services with the label mirrorgate.dev/proxy: enabled.

On SIGTERM or Ctrl-C the proxy stops being ready at once. For at least --drain-min it
goes on serving and asks clients to reconnect; then it accepts nothing more, and
requests under way have --drain-timeout to end. A second signal ends it at once.

Exit codes: 0 everything ended well; 1 it could not start, or stopped serving;
2 a flag or the file is wrong; 3 requests were aborted after --drain-timeout.`

func newProxy() *cobra.Command {
	opts := proxyserve.DefaultOptions()
	opts.Version = version
	var check bool
	cmd := &cobra.Command{
		Use:   "proxy {--config FILE | --service NAME}",
		Short: "Forward requests, and copy a percentage of them to a variant",
		Long:  proxyHelp,
		Example: `  mirrorgate proxy --config proxy.yaml --check
  mirrorgate proxy --config proxy.yaml
  mirrorgate proxy --service web --namespace shop --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&opts.Config, "config", "", "YAML file with listeners, rules and services")
	f.BoolVar(&check, "check", false, "only check the file, and print its problems")
	f.StringVar(&opts.Service, "service", "", "Service to stand in front of, instead of --config")
	f.StringVarP(&opts.Namespace, "namespace", "n", "", "namespace of --service; the kubeconfig's or the pod's by default")
	f.StringVar(&opts.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster, with --service; kubectl's or the pod's service account by default")
	f.StringVar(&opts.Context, "context", "", "context of the kubeconfig, with --service, if not its current one")
	f.StringVar(&opts.AdminBind, "admin-bind", opts.AdminBind, "address of /metrics, /healthz and /readyz, with --service")
	f.StringVar(&opts.AccessLog, "access-log", "", "json or common, to standard output, with --service; none by default")
	f.StringVar(&opts.Zone, "zone", os.Getenv(wellknown.ZoneVariable), "zone of the proxy, for the hints of EndpointSlices, with --service; $"+wellknown.ZoneVariable+" by default, and without it they have no effect")
	f.IntVar(&opts.TrustedHops, "trusted-hops", opts.TrustedHops, "write X-Forwarded-For, -Proto and -Host, and believe as many proxies before this one, with --service; -1 leaves the fields as they are")
	f.StringVar(&opts.ProxyProtocol, "proxy-protocol", "", "in, out or in-out: connections of clients, those that are passed through, or both begin with a header of PROXY protocol, version 2, with --service")
	f.StringSliceVar(&opts.Certificates, "certificate", nil, "PORT=FOLDER: terminate the TLS of this port of --service with tls.crt and tls.key of the folder")
	f.StringVar(&opts.ReportToken, "report-token", os.Getenv(wellknown.ReportTokenVariable), "file with the token for reports to mirrorgate's leader, with --service; $"+wellknown.ReportTokenVariable+" by default, and without it there are none")
	f.StringVar(&opts.AffinityCookie, "affinity-cookie", "", "a cookie that clients get, with which they stay with an endpoint, with --service; none by default")
	f.BoolVar(&opts.MetricsPerRule, "metrics-per-rule", false, "metrics for each rule and mirror instead of for each listener, service and target, with --service")
	f.BoolVar(&opts.ReasonHeader, "reason-header", opts.ReasonHeader, "tell clients the reason of the proxy's own errors in x-mirrorgate-reason, with --service")
	f.StringVar(&opts.H2, "h2", opts.H2, "what speaks HTTP/2 with clients: own, or nethttp for the standard library")
	f.StringVar(&opts.BackendH2, "h2-backends", opts.BackendH2, "what speaks HTTP/2 with backends and variants: own, or nethttp for the standard library")
	f.DurationVar(&opts.DrainMin, "drain-min", opts.DrainMin, "how long to go on serving after SIGTERM, until load balancers notice; behind a Service that takes 8s, the default with --service")
	f.DurationVar(&opts.DrainTimeout, "drain-timeout", opts.DrainTimeout, "how long requests under way may take to end after that")
	bindLog(f, &opts.Log)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if opts.Service != "" && !cmd.Flags().Changed("drain-min") {
			opts.DrainMin = wellknown.EndpointLag
		}
		errs := opts.Validate()
		if opts.Service != "" && check {
			errs = append(errs, field.Forbidden(field.NewPath("check"), "reads the file of --config"))
		}
		for _, name := range []string{"namespace", "kubeconfig", "context", "admin-bind", "access-log", "zone", "metrics-per-rule", "reason-header", "trusted-hops", "proxy-protocol", "certificate", "report-token", "affinity-cookie"} {
			if opts.Service == "" && cmd.Flags().Changed(name) {
				errs = append(errs, field.Forbidden(field.NewPath(name), "goes with --service; with --config the file sets it"))
			}
		}
		if len(errs) > 0 {
			return usage(errs.ToAggregate())
		}
		return proxy(cmd.Context(), opts, check, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// proxy checks or serves a file, or serves a Service until ctx ends.
func proxy(ctx context.Context, opts *proxyserve.Options, check bool, stdout, stderr io.Writer) error {
	if opts.Service != "" {
		return proxyExit(proxyserve.Service(ctx, opts))
	}
	c, err := config.Load(opts.Config)
	var problems *config.Problems
	switch {
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, problems)
		return exitUsage
	case err != nil:
		return usage(fmt.Errorf("--config: %w", err))
	case !check:
		return proxyExit(proxyserve.File(ctx, opts, c))
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(stderr, "%s:%s\n", opts.Config, w)
	}
	fmt.Fprintf(stdout, "%s: %s, %s, %s\n", opts.Config,
		plural(len(c.Table.Listeners), "listener"), plural(len(c.Table.Rules), "rule"), plural(len(c.Table.Mirrors), "mirror"))
	return nil
}

// proxyExit gives an aborted drain its exit code.
func proxyExit(err error) error {
	if errors.Is(err, proxyserve.ErrAborted) {
		return exitAborted
	}
	return err
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
