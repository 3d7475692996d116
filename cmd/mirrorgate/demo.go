package main

// The verb for people who want to see mirrorgate at work before they install it.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mirrorgate/mirrorgate/internal/demo"
)

func newDemo() *cobra.Command {
	opts := demo.Options{Namespace: "mirrorgate-demo"}
	var kubeconfig, kubecontext string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play the tutorials of Istio and Iter8, without a cluster or in one",
		Long: `Demo plays Istio's task "Mirroring", as VirtualService and as HTTPRoute, and Iter8's
tutorial "Traffic mirroring", with their own manifests: it takes variant 2 from absent to
ready and back, and shows after each step how the stored route changed.

Without --kubeconfig and --context it reaches no cluster, whatever $KUBECONFIG says. The
same gate decides on the manifests, the same proxy serves the HTTPRoutes that it stores,
and real requests on this machine show in the access logs of both variants which of them
were copied.

With one of these flags it plays in that cluster and times each flip; it sends no
requests. mirrorgate has to serve the cluster, with --iter8 for the tutorial, and the CRDs
of Istio and of the Gateway API have to be installed. Everything happens in a namespace
of its own, which is removed at the end, also after a failure or Ctrl-C.

The exit code is 0 only if every step led to the expected route.`,
		Example: `  mirrorgate demo                  # without a cluster
  mirrorgate demo --context NAME   # in a cluster that mirrorgate serves`,
		Args: knownVerb,
	}
	f := cmd.Flags()
	f.SortFlags = false
	bindCluster(f, &kubeconfig, &kubecontext)
	f.StringVarP(&opts.Namespace, "namespace", "n", opts.Namespace, "namespace to create, play in and remove; in a cluster only")
	addPlay(cmd, &opts, func(ctx context.Context) (err error) {
		if kubeconfig == "" && kubecontext == "" {
			if f.Changed("namespace") {
				return usage(errors.New("--namespace goes with --kubeconfig or --context: without them there is no cluster"))
			}
			return demo.RunLocal(ctx, opts)
		}
		if opts.Config, _, err = connect("demo", kubeconfig, kubecontext); err != nil {
			return err
		}
		return demo.Run(ctx, opts)
	})
	cmd.AddCommand(newDemoProxy())
	return cmd
}

func newDemoProxy() *cobra.Command {
	var opts demo.Options
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Play the proxy alone, without a cluster",
		Long: `Proxy runs mirrorgate proxy and two variants of a service on this machine, sends
requests through it, and shows the access logs of both variants: without a mirror, with
one, and with a second variant that is absent, hangs, or crashes.

The exit code is 0 only if every step led to the expected logs.`,
		Example: `  mirrorgate demo proxy
  mirrorgate demo proxy --no-color | tee demo.txt`,
		Args: cobra.NoArgs,
	}
	addPlay(cmd, &opts, func(ctx context.Context) error { return demo.RunProxy(ctx, opts) })
	return cmd
}

// addPlay adds the flags of every play, and runs it with them.
func addPlay(cmd *cobra.Command, opts *demo.Options, run func(context.Context) error) {
	var noColor bool
	f := cmd.Flags()
	f.SortFlags = false
	f.DurationVar(&opts.Timeout, "timeout", time.Minute, "how long a step may take")
	f.BoolVar(&noColor, "no-color", false, "no colours; nor are there any with the environment variable NO_COLOR, or without a terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if opts.Timeout <= 0 {
			return usage(fmt.Errorf("--timeout: %s must be more than 0", opts.Timeout))
		}
		opts.Out, opts.Color = os.Stdout, !noColor && wantsColor(os.Stdout)
		err := run(cmd.Context())
		if errors.Is(err, demo.ErrFailed) {
			return exitError(1)
		}
		return err
	}
}

// wantsColor reports whether out is a terminal whose user wants colours; see no-color.org.
func wantsColor(out *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(out.Fd()))
}
