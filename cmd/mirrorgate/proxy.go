package main

// The verb for traffic without a mesh: flags, help, and --check.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Exit codes of proxy beside 0 and 1.
const (
	exitBadFile   exitError = 2 // the file has problems; they have been listed
	exitBrokenOff exitError = 3 // --drain-timeout passed with requests under way
)

type proxyOptions struct {
	Config string
	Check  bool

	Service    string
	Namespace  string
	Kubeconfig string
	AdminBind  string
	AccessLog  string

	DrainMin     time.Duration
	DrainTimeout time.Duration
	LogLevel     string
	LogFormat    string
}

func newProxy() *cobra.Command {
	opts := &proxyOptions{AdminBind: ":" + strconv.Itoa(wellknown.AdminPort), DrainTimeout: 30 * time.Second, LogLevel: "info", LogFormat: "text"}
	cmd := &cobra.Command{
		Use:   "proxy {--config FILE | --service NAME}",
		Short: "Forward requests, and copy a share of them to a variant",
		Long: `Proxy is the data plane for places without a mesh: it forwards requests to their
primary by the rules of a file, and sends copies to variants. A copy can never
delay, fail or change the primary's request: past its bounds it is dropped and
counted.

The file speaks HTTPRoute's words. This one sends everything to port 9001, and every
fourth request to port 9002 as well:

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

docs/proxy.md has every key. --check reads a file and says what is wrong with it.

The file is read again when it or a certificate in it changes, and on SIGHUP, without
dropping a request. One that has problems is refused as a whole: they are logged,
mirrorgate_proxy_config_valid becomes 0, and the last good one stays.

With --service the rules come from the cluster instead: the proxy serves the HTTPRoutes
whose parentRef is that Service, at all of its target ports, and passes ports without a
route through as TCP. mirrorgate runs such proxies itself for Services with the label
mirrorgate.dev/proxy: enabled.

On SIGTERM or Ctrl-C readiness ends at once and clients are asked to connect anew,
for --drain-min at least; then nothing is accepted any more, and what is under way
ends, until --drain-timeout. A second signal ends at once.

Exit codes: 0 everything ended well; 1 it could not start, or stopped serving;
2 the file has problems; 3 --drain-timeout broke off requests.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&opts.Config, "config", "", "YAML file with listeners, rules and services")
	f.BoolVar(&opts.Check, "check", false, "only say whether the file is in order")
	f.StringVar(&opts.Service, "service", "", "Service to stand in front of, instead of --config")
	f.StringVarP(&opts.Namespace, "namespace", "n", "", "namespace of --service; the kubeconfig's or the pod's by default")
	f.StringVar(&opts.Kubeconfig, "kubeconfig", "", "how to reach the API server, with --service; kubectl's file, or the pod's own identity by default")
	f.StringVar(&opts.AdminBind, "admin-bind", opts.AdminBind, "address of /metrics, /healthz and /readyz, with --service")
	f.StringVar(&opts.AccessLog, "access-log", "", "json or common, to standard output, with --service; none by default")
	f.DurationVar(&opts.DrainMin, "drain-min", opts.DrainMin, "how long to serve on after SIGTERM, so that whoever balances notices; behind a Service at least 8s, which is the default with --service")
	f.DurationVar(&opts.DrainTimeout, "drain-timeout", opts.DrainTimeout, "how long requests under way may take to end after that")
	f.StringVar(&opts.LogLevel, "log-level", opts.LogLevel, "debug, info, warn or error")
	f.StringVar(&opts.LogFormat, "log-format", opts.LogFormat, "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if opts.Service != "" && !cmd.Flags().Changed("drain-min") {
			opts.DrainMin = wellknown.EndpointLag
		}
		errs := opts.Validate()
		for _, name := range []string{"namespace", "kubeconfig", "admin-bind", "access-log"} {
			if opts.Service == "" && cmd.Flags().Changed(name) {
				errs = append(errs, field.Forbidden(field.NewPath(name), "goes with --service; the file of --config says it otherwise"))
			}
		}
		if len(errs) > 0 {
			return errs.ToAggregate()
		}
		if opts.Service != "" {
			return serveService(cmd.Context(), opts)
		}
		return runProxy(cmd.Context(), opts, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// Validate checks all flags at once.
func (o *proxyOptions) Validate() field.ErrorList {
	var errs field.ErrorList
	switch {
	case o.Config == "" && o.Service == "":
		errs = append(errs, field.Required(field.NewPath("config"), "names the file with listeners, rules and services; or --service a Service of a cluster"))
	case o.Config != "" && o.Service != "":
		errs = append(errs, field.Forbidden(field.NewPath("service"), "cannot stand beside --config: the rules come from the cluster or from a file"))
	case o.Service != "":
		errs = append(errs, o.validateService()...)
	}
	for name, d := range map[string]time.Duration{"drain-min": o.DrainMin, "drain-timeout": o.DrainTimeout} {
		if d < 0 {
			errs = append(errs, field.Invalid(field.NewPath(name), d.String(), "must be 0 or more"))
		}
	}
	errs = append(errs, oneOf("log-level", o.LogLevel, "debug", "info", "warn", "error")...)
	return append(errs, oneOf("log-format", o.LogFormat, "text", "json")...)
}

// validateService checks what goes with --service.
func (o *proxyOptions) validateService() field.ErrorList {
	var errs field.ErrorList
	if o.Check {
		errs = append(errs, field.Forbidden(field.NewPath("check"), "reads the file of --config"))
	}
	for name, value := range map[string]string{"service": o.Service, "namespace": o.Namespace} {
		if value != "" {
			for _, problem := range validation.IsDNS1123Label(value) {
				errs = append(errs, field.Invalid(field.NewPath(name), value, problem))
			}
		}
	}
	if _, port, err := net.SplitHostPort(o.AdminBind); err != nil || port == "" {
		errs = append(errs, field.Invalid(field.NewPath("admin-bind"), o.AdminBind, "must be HOST:PORT, like :15020"))
	}
	if o.AccessLog != "" {
		errs = append(errs, oneOf("access-log", o.AccessLog, "json", "common")...)
	}
	return errs
}

// runProxy reads the file, and serves it until ctx ends.
func runProxy(ctx context.Context, opts *proxyOptions, stdout, stderr io.Writer) error {
	c, err := config.Load(opts.Config)
	var problems *config.Problems
	switch {
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, problems)
		return exitBadFile
	case err != nil:
		return fmt.Errorf("--config: %w", err)
	}
	if !opts.Check {
		return serveProxy(ctx, opts, c)
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(stderr, "%s:%s\n", opts.Config, w)
	}
	fmt.Fprintf(stdout, "%s: %s, %s, %s\n", opts.Config,
		plural(len(c.Table.Listeners), "listener"), plural(len(c.Table.Rules), "rule"), plural(len(c.Table.Mirrors), "mirror"))
	return nil
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
