package main

// The verb that explains a reason in a finding, a warning, an Event or a status.

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mirrorgate/mirrorgate/docs/reasons"
	"github.com/mirrorgate/mirrorgate/internal/printing"
)

func newExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [REASON]",
		Short: "Explain a reason: what it means, and what to do",
		Long: `Explain prints the page of documentation about a reason, such as PortNotFound, that a
finding of lint, a warning of admission, an Event or status names. Without a reason it
lists all of them, with a line for each.`,
		Example: `  mirrorgate explain PortNotFound
  mirrorgate explain`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.FixedCompletions(reasons.All(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listReasons(cmd)
			}
			known := reasons.All()
			at := slices.IndexFunc(known, func(reason string) bool { return strings.EqualFold(reason, args[0]) })
			if at < 0 {
				return usage(unknownReason(args[0], known))
			}
			page, _ := reasons.Page(known[at])
			_, err := fmt.Fprint(cmd.OutOrStdout(), page)
			return err
		},
	}
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
	hint := `"mirrorgate explain" lists all`
	if len(like) > 0 {
		hint = "did you mean " + strings.Join(like, " or ") + "?"
	}
	return fmt.Errorf("explain: no reason is called %q; %s", printing.Shorten(text, 60), hint)
}
