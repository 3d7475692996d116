package main

// The verb for the question whether mirrorgate works in a cluster, or would.

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/check"
	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/status"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// checkPoll is the time between two rounds of checks with --wait.
const checkPoll = 2 * time.Second

const checkHelp = `Check looks for the faults that keep mirrorgate from working in a cluster: with --pre
before it is installed (versions, CRDs, GatewayClasses, webhooks of others, your rights),
and without it afterwards as well (webhooks, certificate, replicas, leader, mirrors that
are not where they should be, Services that lead past their proxies).

It prints a line for each check: ✓ all is well, ‼ something may go wrong or could not be
read, × something is wrong. Under a fault stand its remedy and the address of its
description. It writes nothing: its proofs are dry runs. It works with your own rights,
and where they do not suffice it says so and goes on.

The exit code is 0, or 1 when there is a ×; --fail-on=warning makes it 1 for a ‼ too. It
is 2 after a wrong flag.`

func newCheck() *cobra.Command {
	q := newRouteQuery()
	var pre bool
	var wait time.Duration
	var output, failOn string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a cluster before mirrorgate is installed, and the installation",
		Long:  checkHelp,
		Example: `  mirrorgate check --pre
  mirrorgate check --wait 2m                       # after an installation
  mirrorgate check -o json | jq -r '.checks[] | select(.level == "error").text'`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&pre, "pre", false, "check a cluster in which mirrorgate is not installed yet")
	f.DurationVar(&wait, "wait", 0, "check again until no finding has the level of --fail-on, for so long at most")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	f.StringVar(&failOn, "fail-on", "error", "the level that makes the exit code 1: error or warning")
	bindCluster(f, &q.opts.Kubeconfig, &q.opts.Context)
	q.opts.bindShared(f)
	q.all = true
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		errs := append(cli.OneOf("output", output, "text", "json"), cli.OneOf("fail-on", failOn, "error", "warning")...)
		if wait < 0 {
			errs = append(errs, field.Invalid(field.NewPath("wait"), wait.String(), "must be 0 or more"))
		}
		if len(errs) > 0 {
			return usage(errs.ToAggregate())
		}
		if err := q.connect(f, "check", nil); err != nil {
			return err
		}
		return runChecks(cmd.Context(), cmd.OutOrStdout(), q, pre, wait, output, check.Level(failOn))
	}
	return cmd
}

func runChecks(ctx context.Context, out io.Writer, q *routeQuery, pre bool, wait time.Duration, output string, failOn check.Level) error {
	// The API server judges certificates and leases, so its clock counts.
	clock := certs.NewServerClock(ownClock)
	config := rest.CopyConfig(q.config)
	config.Wrap(clock.Wrap)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(wait)
	var results []check.Result
	for {
		results = check.Run(ctx, &check.View{
			Client: client, Objects: objects, Version: version, Now: clock.Now,
			Routes: func(ctx context.Context) ([]status.Route, error) { return q.read(ctx, io.Discard) },
			Denies: func(ctx context.Context, namespace, hook string) (bool, error) {
				return webhook.Denies(ctx, q.client, namespace, hook)
			},
		}, pre)
		if !check.Fails(results, failOn) || time.Now().Add(checkPoll).After(deadline) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(checkPoll):
		}
	}
	write := check.WriteText
	if output == "json" {
		write = check.WriteJSON
	}
	if err := write(out, results); err != nil {
		return err
	}
	if check.Fails(results, failOn) {
		return exitFindings
	}
	return nil
}
