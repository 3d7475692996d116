package main

// The verb for scripts that need a mirror to be somewhere before they go on.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/status"
)

func newWait() *cobra.Command {
	q := newRouteQuery()
	var condition string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait ROUTE ...",
		Short: "Wait until the mirrors of routes are active, parked or synced",
		Long: `Wait returns when every mirror of the named routes is as --for says: active (in the
spec), parked, or synced (where mirrorgate's decision puts it, while mirrorgate decides).
A route that does not exist yet, or has no mirror yet, is waited for as well.

The exit code is 0 when they are, 1 after --timeout, with the state of each mirror on
standard error, and 2 after a wrong flag.`,
		Example: `  mirrorgate wait httproute/web --for=active --timeout=2m
  kubectl apply -f routes.yaml -o name | xargs mirrorgate wait --for=synced -n shop`,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&condition, "for", "active", "active, parked or synced")
	f.DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait; 0 looks once")
	q.bind(f)
	f.Lookup("selector").Hidden = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		errs := cli.OneOf("for", condition, "active", "parked", "synced").ToAggregate()
		switch {
		case errs != nil:
			return usage(errs)
		case len(args) == 0:
			return usage(errors.New("wait: name the routes to wait for"))
		case timeout < 0:
			return usage(fmt.Errorf("timeout: Invalid value: %q: must be 0 or more", timeout))
		}
		if err := q.connect(f, "wait", args); err != nil {
			return err
		}
		return waitFor(cmd.Context(), cmd.OutOrStdout(), q, condition, timeout)
	}
	return cmd
}

// waitFor looks at the routes again and again. An error of the API server ends it only if it is the last answer.
func waitFor(ctx context.Context, out io.Writer, q *routeQuery, condition string, timeout time.Duration) error {
	deadline := time.After(timeout)
	for {
		routes, err := q.read(ctx, io.Discard)
		missing := q.query.Missing(routes)
		if err == nil && len(missing) == 0 && status.AllAre(routes, condition) {
			for _, r := range routes {
				fmt.Fprintf(out, "%s %s\n", status.Name{Kind: r.Kind, Name: r.Name}, condition)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			for _, name := range missing {
				err = errors.Join(err, fmt.Errorf("no route with mirrors is called %q in %s", name, place(q.query.Namespace)))
			}
			if len(routes) > 0 {
				_ = (&status.Format{}).Write(os.Stderr, routes)
			}
			return errors.Join(fmt.Errorf("wait: not %s after %s", condition, timeout), err)
		case <-time.After(min(statusPoll, max(timeout, time.Millisecond))):
		}
	}
}
