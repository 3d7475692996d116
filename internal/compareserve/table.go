package compareserve

// The report as a table for a terminal.

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mirrorgate/mirrorgate/internal/compare"
)

// writeTable prints the verdict, then a line for each endpoint, and the requests that were not compared.
func writeTable(w io.Writer, r *compare.Report) {
	fmt.Fprintf(w, "%s\n\n", r.Summary)
	if len(r.Endpoints) > 0 {
		out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "ENDPOINT\tCOMPARED\tVERDICT\tFIELD\tRATE\tBOUNDS\tSLOWER\tNOISE\tREASON")
		for i := range r.Endpoints {
			writeEndpoint(out, &r.Endpoints[i])
		}
		_ = out.Flush()
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "Compared: %d with a control, %d without. One unit of evidence is %s.\n", r.Triples, r.Pairs, seconds(r.Independence))
	if !r.Control {
		fmt.Fprintln(w, "Without --control a difference cannot be told from noise: only same can be decided.")
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Skipped)) {
		fmt.Fprintf(w, "Not compared: %d %s\n", r.Skipped[reason], reason)
	}
	for i := range r.Endpoints {
		if e := &r.Endpoints[i]; e.Long > 0 {
			fmt.Fprintf(w, "Bodies too long: %d of %s\n", e.Long, e.Key)
		}
	}
}

// writeEndpoint prints the most important field of an endpoint, and further lines for those that are different, too.
func writeEndpoint(w io.Writer, e *compare.EndpointReport) {
	var first compare.FieldReport
	if len(e.Fields) > 0 {
		first = e.Fields[0]
	}
	slower := "-"
	if e.Slower > 0 {
		slower = fmt.Sprintf("%.1fx", e.Slower)
	}
	field, rate, bounds := "-", percent(e.Rate), "< "+percent(e.Upper)
	if first.Field != "" && first.Finding != compare.FoundNoise && first.Finding != compare.FoundMirroring {
		field, rate, bounds = describe(&first), percent(first.Rate), percent(first.Lower)+" to "+percent(first.Upper)
	}
	fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Key, e.Compared, e.Verdict, field, rate, bounds, slower, noise(e), reason(e))
	for i := range e.Fields {
		if f := &e.Fields[i]; i > 0 && i < 10 && f.Finding == compare.FoundDifferent {
			fmt.Fprintf(w, "\t\t\t%s\t%s\t%s to %s\t\t\t\n", describe(f), percent(f.Rate), percent(f.Lower), percent(f.Upper))
		}
	}
}

// describe returns a field with its kind and the classes of its values.
func describe(f *compare.FieldReport) string {
	return f.Field + " (" + cmp.Or(f.Example, f.Kind) + ")"
}

// noise returns the fields that are noise.
func noise(e *compare.EndpointReport) string {
	var names []string
	for i := range e.Fields {
		if f := e.Fields[i].Finding; f == compare.FoundNoise || f == compare.FoundMirroring {
			names = append(names, e.Fields[i].Field)
		}
	}
	if more := len(names) - 2; more > 0 {
		names = append(names[:2], fmt.Sprintf("%d more", more))
	}
	return cmp.Or(strings.Join(names, ", "), "-")
}

// reason returns the summary without the verdict.
func reason(e *compare.EndpointReport) string {
	_, rest, _ := strings.Cut(e.Summary, ": ")
	return rest
}

func percent(rate float64) string { return fmt.Sprintf("%.4g%%", 100*rate) }

func seconds(s float64) string { return fmt.Sprintf("%g s", s) }
