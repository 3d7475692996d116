package main

// The verb for somebody who wants to see it before they install it.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mirrorgate/mirrorgate/internal/demo"
)

func newDemo() *cobra.Command {
	var path, kubecontext string
	var noColor bool
	opts := demo.Options{Namespace: "mirrorgate-demo", Timeout: time.Minute}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play known documents against a cluster that mirrorgate serves",
		Long: `Demo plays Istio's task "Mirroring", as VirtualService and as HTTPRoute, with its own
manifests, and takes variant 2 through everything that can happen to it; and Iter8's
tutorial "Traffic mirroring", with its manifests, commands and outputs. For each step it
shows how the stored route changed and how long the flip took.

mirrorgate has to serve the cluster, with --iter8 for the tutorial; the CRDs of Istio and of the Gateway API have to
be installed. Everything happens in a namespace of its own, which is removed at the
end, after a failure or a Ctrl-C too. No traffic is sent.

The exit code is 0 only if every step was seen.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	bindCluster(f, &path, &kubecontext)
	f.StringVar(&opts.Namespace, "namespace", opts.Namespace, "namespace to create, play in and remove")
	f.DurationVar(&opts.Timeout, "timeout", opts.Timeout, "how long a step may take")
	f.BoolVar(&noColor, "no-color", false, "no colours; so does the environment variable NO_COLOR, or no terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if opts.Timeout <= 0 {
			return fmt.Errorf("--timeout: %s is not more than 0", opts.Timeout)
		}
		var err error
		if opts.Config, _, err = connect("demo", path, kubecontext); err != nil {
			return err
		}
		opts.Out, opts.Color = os.Stdout, !noColor && colorful(os.Stdout)
		if err = demo.Run(cmd.Context(), opts); errors.Is(err, demo.ErrFailed) {
			return exitError(1)
		}
		return err
	}
	cmd.AddCommand(newDemoProxy())
	return cmd
}

func newDemoProxy() *cobra.Command {
	var noColor bool
	opts := demo.ProxyOptions{Timeout: time.Minute}
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Play the proxy, without a cluster",
		Long: `Proxy starts mirrorgate proxy and two variants of a service on this machine, sends
requests through it, and shows the access logs of both variants: without a mirror, with
one, and with a second variant that is absent, hangs, or crashes.

The exit code is 0 only if every step was seen.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.DurationVar(&opts.Timeout, "timeout", opts.Timeout, "how long a step may take")
	f.BoolVar(&noColor, "no-color", false, "no colours; so does the environment variable NO_COLOR, or no terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if opts.Timeout <= 0 {
			return fmt.Errorf("--timeout: %s is not more than 0", opts.Timeout)
		}
		if opts.Binary, err = exec.LookPath(os.Args[0]); err != nil {
			return err
		}
		opts.Out, opts.Color = os.Stdout, !noColor && colorful(os.Stdout)
		if err = demo.RunProxy(cmd.Context(), opts); errors.Is(err, demo.ErrFailed) {
			return exitError(1)
		}
		return err
	}
	return cmd
}

// colorful tells whether somebody looks who wants colours; see no-color.org.
func colorful(out *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(out.Fd()))
}
