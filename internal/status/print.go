package status

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

// WriteTable prints one line a mirror.
func WriteTable(w io.Writer, routes []Route) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tKIND\tNAME\tTARGET\tPERCENT\tSTATE\tVARIANT\tREASON\tAS DECIDED")
	for _, r := range routes {
		for _, m := range r.Mirrors {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Namespace, r.Kind, r.Name, plain(m.Target),
				strconv.FormatFloat(m.Percent, 'f', -1, 64), m.State, m.Variant, m.Reason, m.asDecided(r))
		}
	}
	return table.Flush()
}

// plain keeps control characters, which a VirtualService's host may have, from a
// terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

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

// WriteJSON prints the routes as one JSON object.
func WriteJSON(w io.Writer, routes []Route) error {
	if routes == nil {
		routes = []Route{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string][]Route{"routes": routes})
}
