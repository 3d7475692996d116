package main

// The verbs that steer a MirrorPolicy by hand: stop, resume and step.

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"

	"github.com/mirrorgate/mirrorgate/internal/steer"
)

// steerOptions are the flags that these verbs share.
type steerOptions struct {
	namespace, kubeconfig, context string
	dryRun                         bool
}

// steering returns a verb that calls do with the arguments behind the name of a policy.
func steering(cmd *cobra.Command, do func(ctx context.Context, c steer.Client, name string, args []string) (string, error)) *cobra.Command {
	o := &steerOptions{}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the policy; by default that of the kubeconfig's context")
	f.BoolVar(&o.dryRun, "dry-run", false, "let the API server check the write, and store nothing")
	bindCluster(f, &o.kubeconfig, &o.context)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := steer.ParseName(args[0])
		if err != nil {
			return usage(err)
		}
		config, own, err := connect(cmd.Name(), o.kubeconfig, o.context)
		if err != nil {
			return err
		}
		client, err := dynamic.NewForConfig(config)
		if err != nil {
			return err
		}
		if o.namespace == "" {
			o.namespace = own
		}
		c := steer.Client{Policies: client.Resource(steer.Resource).Namespace(o.namespace), Namespace: o.namespace, DryRun: o.dryRun}
		says, err := do(cmd.Context(), c, name, args[1:])
		if err != nil {
			return fmt.Errorf("%s: %w", cmd.Name(), err)
		}
		note := ""
		if o.dryRun {
			note = " (dry run)"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "mirrorpolicy/%s %s%s\n", name, says, note)
		return nil
	}
	return cmd
}

func newStop() *cobra.Command {
	var reason string
	cmd := steering(&cobra.Command{
		Use:   "stop POLICY --reason TEXT",
		Short: "Park the mirrors of a MirrorPolicy by hand",
		Long: `Stop parks the mirrors of all targets of a MirrorPolicy until "mirrorgate resume". It
writes the annotation mirrorgate.dev/stop of the policy, with the reason, and never a
route: mirrorgate's leader writes the stop to the policy's status, and moves the mirrors.

The exit code is 0 when they are stopped, 1 when they could not be, and 2 after a wrong flag.`,
		Example: `  mirrorgate stop web -n shop --reason "incident 42"
  mirrorgate stop mirrorpolicy/web --reason "load test" --dry-run`,
		Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, c steer.Client, name string, _ []string) (string, error) {
		return c.Stop(ctx, name, reason)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the person who finds the mirrors stopped")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func newResume() *cobra.Command {
	return steering(&cobra.Command{
		Use:   "resume POLICY",
		Short: "End the stops of a MirrorPolicy",
		Long: `Resume ends the stops of all targets of a MirrorPolicy: those by hand, whose annotation it
removes, and those over failures, whose latest time it writes to the annotation
mirrorgate.dev/resume, so that a later stop holds. The mirrors come back at the step of
the ramp at which they were.

The exit code is 0 when it is written, 1 when nothing is stopped, and 2 after a wrong flag.`,
		Example: `  mirrorgate resume web -n shop`,
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, c steer.Client, name string, _ []string) (string, error) {
		return c.Resume(ctx, name)
	})
}

func newStep() *cobra.Command {
	return steering(&cobra.Command{
		Use:   "step POLICY N|auto",
		Short: "Hold the ramp of a MirrorPolicy at a step, or let it go on",
		Long: `Step holds the ramp of a MirrorPolicy at step N, counted from 1, forwards or back, by the
annotation mirrorgate.dev/step. With auto it goes on from there by itself. No step raises
a mirror above what its route declares.

The exit code is 0 when it is written, 1 when the policy has no such step, and 2 after a wrong flag.`,
		Example: `  mirrorgate step web 2 -n shop
  mirrorgate step web auto -n shop`,
		Args: cobra.ExactArgs(2),
	}, func(ctx context.Context, c steer.Client, name string, args []string) (string, error) {
		return c.Step(ctx, name, args[0])
	})
}
