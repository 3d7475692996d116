// Command mirrorgate makes traffic mirroring safe in Kubernetes: it gates every mirror on the variant that
// should receive it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is stamped by the build.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	var exit exitError
	switch {
	case errors.As(err, &exit):
		os.Exit(int(exit))
	case err != nil:
		fmt.Fprintln(os.Stderr, "mirrorgate:", err)
		os.Exit(1)
	}
}

// exitError ends the program with that code; the message has been printed already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "mirrorgate",
		Short: "Mirror production traffic to a new variant, safely",
		Long: `mirrorgate gates every traffic mirror of an HTTPRoute, GRPCRoute or VirtualService
on the variant that should receive it: while the variant is not ready its mirror is
parked, so that it can neither break the primary nor be forgotten.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newServe(), newProxy(), newLint(), newStatus(), newDemo(), newUninstall(), newVersion())
	return root
}
