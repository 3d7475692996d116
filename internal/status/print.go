package status

// How the routes are printed. A VirtualService's host may have control characters, which must not reach a
// terminal.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/printing"
)

// Format is how routes are printed.
type Format struct {
	// Output is "" for a table, or wide, json, yaml, name, or jsonpath=TEMPLATE.
	Output string
	// AllNamespaces adds a column with the namespace.
	AllNamespaces bool
	NoHeaders     bool
	template      *jsonpath.JSONPath
}

// Outputs are the values of Format.Output, for messages.
var Outputs = []string{"wide", "json", "yaml", "name", "jsonpath=TEMPLATE"}

// Parse checks the output, and compiles a template.
func (f *Format) Parse() error {
	template, is := strings.CutPrefix(f.Output, "jsonpath=")
	switch {
	case is:
		f.template = jsonpath.New("output").AllowMissingKeys(true)
		if err := f.template.Parse(template); err != nil {
			return fmt.Errorf("output: Invalid value: %q: %w", f.Output, err)
		}
		return nil
	case f.IsTable(), f.Output == "json", f.Output == "yaml", f.Output == "name":
		return nil
	}
	return fmt.Errorf("output: Unsupported value: %q: supported values: %s", f.Output, strings.Join(Outputs, ", "))
}

// IsTable reports whether the output is a table.
func (f *Format) IsTable() bool { return f.Output == "" || f.Output == "table" || f.Output == "wide" }

// Write prints the routes.
func (f *Format) Write(w io.Writer, routes []Route) error {
	if routes == nil {
		routes = []Route{}
	}
	list := map[string][]Route{"routes": routes}
	switch {
	case f.template != nil:
		return f.execute(w, list)
	case f.Output == "json":
		return printing.JSON(w, list)
	case f.Output == "yaml":
		text, err := yaml.Marshal(list)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	case f.Output == "name":
		for _, r := range routes {
			fmt.Fprintf(w, "%s.%s/%s\n", strings.ToLower(string(r.Kind)), r.Kind.Group(), r.Name)
		}
		return nil
	}
	return f.writeTable(w, routes)
}

// execute evaluates the template on the value that -o json prints.
func (f *Format) execute(w io.Writer, list any) error {
	var text bytes.Buffer
	if err := printing.JSON(&text, list); err != nil {
		return err
	}
	var value any
	if err := json.Unmarshal(text.Bytes(), &value); err != nil {
		return err
	}
	return f.template.Execute(w, value)
}

func (f *Format) writeTable(w io.Writer, routes []Route) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(namespace, name, target, share, state, reason, synced string, wide ...string) {
		cells := []string{name, target, share, state, reason, synced}
		if f.AllNamespaces {
			cells = append([]string{namespace}, cells...)
		}
		if f.Output == "wide" {
			cells = append(cells, wide...)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if !f.NoHeaders {
		row("NAMESPACE", "ROUTE", "TARGET", "SHARE", "STATE", "REASON", "SYNCED", "VARIANT", "FIELD", "DETAIL")
	}
	for _, r := range routes {
		for _, m := range r.Mirrors {
			row(r.Namespace, Name{r.Kind, r.Name}.String(), printing.Plain(m.Target), m.share(),
				m.State, string(m.Reason), m.synced(r), m.Variant, m.Field, printing.Plain(cmp.Or(m.Misfit, m.Detail)))
		}
	}
	return table.Flush()
}

// moves reports whether policy wants the mirror elsewhere, or with another percentage.
func (m Mirror) moves() bool { return m.State != m.Wanted || m.Stored != m.WantedPercent }

// share returns the declared percentage, and the stored one where it is smaller: "5% of 25%".
func (m Mirror) share() string {
	percent := func(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + "%" }
	if m.State == limited {
		return percent(m.Stored) + " of " + percent(m.Percent)
	}
	return percent(m.Percent)
}

// synced returns whether the mirror is where policy wants it, and if not, why.
func (m Mirror) synced(r Route) string {
	switch {
	case m.moves() && r.OptedOut:
		return "no: opted out"
	case m.Misfit != "":
		return "no: " + string(policy.WouldNotFit)
	case m.moves() && r.Undecided:
		return "no: nothing decides"
	case m.moves():
		return "no"
	case r.Undecided:
		return "nothing decides"
	default:
		return "yes"
	}
}
