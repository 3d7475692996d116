package status

// How the routes are printed. A VirtualService's host may have control characters, which must not reach a
// terminal.

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/printing"
)

// WriteTable prints the routes as a table with one line for each mirror.
func WriteTable(w io.Writer, routes []Route) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tKIND\tNAME\tTARGET\tPERCENT\tSTATE\tVARIANT\tREASON\tAS DECIDED")
	for _, r := range routes {
		for _, m := range r.Mirrors {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Namespace, r.Kind, r.Name, printing.Plain(m.Target),
				strconv.FormatFloat(m.Percent, 'f', -1, 64), m.State, m.Variant, m.Reason, m.asDecided(r))
		}
	}
	return table.Flush()
}

// asDecided returns whether the mirror is where policy wants it, and if not, why.
func (m Mirror) asDecided(r Route) string {
	switch {
	case m.State != m.Wanted && r.OptedOut:
		return "no: the namespace has opted out"
	case m.Misfit != "":
		return "no: " + string(policy.WouldNotFit) + ", " + m.Misfit
	case m.State != m.Wanted:
		return "no: should be " + m.Wanted
	default:
		return "yes"
	}
}

// WriteJSON prints the routes as one JSON object with the field routes.
func WriteJSON(w io.Writer, routes []Route) error {
	if routes == nil {
		routes = []Route{}
	}
	return printing.JSON(w, map[string][]Route{"routes": routes})
}
