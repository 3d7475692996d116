package main

// The verb that explains a reason in a finding, a warning, an Event or a status, and the decision about a route.

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirrorgate/mirrorgate/docs/reasons"
	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/status"
)

func newExplain() *cobra.Command {
	q := newRouteQuery()
	cmd := &cobra.Command{
		Use:   "explain [REASON|KIND/NAME]",
		Short: "Explain a reason, or the decision about a route",
		Long: `Explain prints the page of documentation about a reason, such as PortNotFound, that a
finding of lint, a warning of admission, an Event or status names. Without a reason it
lists all of them, with a line for each.

Of a route, such as httproute/web, it tells how the decision about each mirror came out,
step by step: what is declared, the state of the variant, the rules, the MirrorPolicy and
each MirrorLimit that were looked at, what is stored, and what would change it. It only
reads, and needs the rights that status needs; the other flags are for routes alone.

The exit code is 0, 1 when the route is not there or could not be read, and 2 when there
is no such reason.`,
		Example: `  mirrorgate explain PortNotFound
  mirrorgate explain httproute/web -n shop
  mirrorgate explain`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			if strings.Contains(text, "/") {
				return completeRoutes(cmd, args, text)
			}
			return reasons.All(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	q.bind(f)
	f.Lookup("selector").Hidden = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return listReasons(cmd)
		case strings.Contains(args[0], "/"):
			return explainRoute(cmd, q, args)
		}
		known := reasons.All()
		at := slices.IndexFunc(known, func(reason string) bool { return strings.EqualFold(reason, args[0]) })
		if at < 0 {
			return usage(unknownReason(args[0], known))
		}
		page, _ := reasons.Page(known[at])
		_, err := fmt.Fprint(cmd.OutOrStdout(), page)
		return err
	}
	return cmd
}

// explainRoute tells the decision about a route.
func explainRoute(cmd *cobra.Command, q *routeQuery, names []string) error {
	if err := q.connect(cmd.Flags(), "explain", names); err != nil {
		return err
	}
	survey, routes, err := q.survey(cmd.Context(), os.Stderr)
	if survey == nil {
		return fmt.Errorf("explain: %w", err)
	}
	if missing := q.query.Missing(routes); len(missing) > 0 {
		return errors.Join(fmt.Errorf("explain: no route with mirrors is called %q in %s", missing[0], place(q.query.Namespace)), err)
	}
	for rt := range survey.Routes() {
		at := slices.IndexFunc(routes, func(r status.Route) bool {
			return r.Kind == rt.Kind && r.Namespace == rt.Namespace && r.Name == rt.Name
		})
		if at >= 0 {
			return errors.Join(status.Explain(cmd.Context(), cmd.OutOrStdout(), survey, rt, routes[at], q.opts.Policy, time.Now()), err)
		}
	}
	return err
}

func listReasons(cmd *cobra.Command) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, reason := range reasons.All() {
		fmt.Fprintf(w, "%s\t%s\n", reason, reasons.Summary(reason))
	}
	return w.Flush()
}

// unknownReason suggests the reason that is nearest, and those that contain the text.
func unknownReason(text string, known []string) error {
	var like []string
	if near := printing.Nearest(text, known); near != "" {
		like = append(like, near)
	}
	for _, reason := range known {
		if len(text) >= 3 && !slices.Contains(like, reason) && strings.Contains(strings.ToLower(reason), strings.ToLower(text)) {
			like = append(like, reason)
		}
	}
	hint := `"mirrorgate explain" lists all, and a route is KIND/NAME`
	if len(like) > 0 {
		hint = "did you mean " + strings.Join(like, " or ") + "?"
	}
	return fmt.Errorf("explain: no reason is called %q; %s", printing.Shorten(text, 60), hint)
}
