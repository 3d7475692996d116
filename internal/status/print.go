package status

// How the routes are printed. A VirtualService's host may have control characters, which must not reach a
// terminal.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"
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
	// Colour colours the states of a table, for a terminal.
	Colour bool
	// Now is the time from which others are counted; nil means time.Now.
	Now func() time.Time

	template *jsonpath.JSONPath
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
	columns := f.columns(routes)
	var table [][]string
	if !f.NoHeaders {
		table = append(table, nil)
		for _, c := range columns {
			table[0] = append(table[0], c.name)
		}
	}
	var colours []string // of the state, by line
	for _, r := range routes {
		for i := range r.Mirrors {
			var line []string
			for _, c := range columns {
				line = append(line, c.cell(&r, &r.Mirrors[i]))
			}
			table = append(table, line)
			colours = append(colours, r.Mirrors[i].colour())
		}
	}
	text := printing.Table(table)
	if f.Colour {
		text = f.paint(text, table, columns, colours)
	}
	_, err := io.WriteString(w, text)
	return err
}

// column is one column of the table.
type column struct {
	name string
	cell func(*Route, *Mirror) string
}

const stateColumn = "STATE"

// columns returns the columns of the table. Those of policies are there where a mirror has one.
func (f *Format) columns(routes []Route) []column {
	columns := []column{
		{"ROUTE", func(r *Route, _ *Mirror) string { return Name{r.Kind, r.Name}.String() }},
		{"TARGET", func(_ *Route, m *Mirror) string { return printing.Plain(m.Target) }},
		{"SHARE", func(_ *Route, m *Mirror) string { return m.share() }},
		{stateColumn, func(_ *Route, m *Mirror) string { return m.State }},
		{"REASON", func(_ *Route, m *Mirror) string { return string(m.Reason) }},
		{"SYNCED", func(r *Route, m *Mirror) string { return m.synced(*r) }},
	}
	has := func(is func(*Policy) bool) bool {
		return slices.ContainsFunc(routes, func(r Route) bool {
			return slices.ContainsFunc(r.Mirrors, func(m Mirror) bool { return m.Policy != nil && is(m.Policy) })
		})
	}
	now := f.now()
	if has(func(p *Policy) bool { return p.Steps > 0 }) {
		columns = append(columns,
			column{"STEP", func(_ *Route, m *Mirror) string { return m.Policy.step() }},
			column{"NEXT", func(_ *Route, m *Mirror) string { return m.Policy.next(now) }})
	}
	if has(func(p *Policy) bool { return p.ExpiresAt != nil }) {
		columns = append(columns, column{"EXPIRES", func(_ *Route, m *Mirror) string { return m.Policy.expires(now) }})
	}
	if f.AllNamespaces {
		columns = slices.Insert(columns, 0, column{"NAMESPACE", func(r *Route, _ *Mirror) string { return r.Namespace }})
	}
	if f.Output != "wide" {
		return columns
	}
	return append(columns,
		column{"SINCE", func(r *Route, _ *Mirror) string { return ago(r.Since, now) }},
		column{"MANAGER", func(r *Route, _ *Mirror) string { return cmp.Or(printing.Plain(r.Manager), none) }},
		column{"VARIANT", func(_ *Route, m *Mirror) string { return m.Variant }},
		column{"FIELD", func(_ *Route, m *Mirror) string { return m.Field }},
		column{"DETAIL", func(_ *Route, m *Mirror) string { return printing.Plain(cmp.Or(m.Misfit, m.Detail)) }})
}

func (f *Format) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

// none stands in a column that does not apply.
const none = "-"

func (p *Policy) step() string {
	if p == nil || p.Steps == 0 {
		return none
	}
	return fmt.Sprintf("%d/%d", p.Step, p.Steps)
}

// next returns the next step and when it comes: "25% in 9m". One whose time has come waits for the leader, for an active
// mirror, or for the person who holds it.
func (p *Policy) next(now time.Time) string {
	if p == nil || p.NextPercent == nil || p.Expired {
		return none
	}
	text := percent(*p.NextPercent)
	switch {
	case p.NextAt == nil:
		return text + " once active"
	case !p.NextAt.After(now):
		return text + " due"
	default:
		return text + " in " + duration.HumanDuration(p.NextAt.Sub(now))
	}
}

func (p *Policy) expires(now time.Time) string {
	switch {
	case p == nil || p.ExpiresAt == nil:
		return none
	case p.Expired:
		return "expired"
	case !p.ExpiresAt.After(now):
		return "due"
	}
	return "in " + duration.HumanDuration(p.ExpiresAt.Sub(now))
}

// ago returns how long ago a time was, as kubectl prints ages.
func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return none
	}
	return duration.HumanDuration(max(now.Sub(*t), 0))
}

// The colours of a terminal.
const (
	green, yellow, red, plain = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
)

// colour returns the colour of a mirror's state: whether it copies as declared, less, or not as it should.
func (m *Mirror) colour() string {
	switch {
	case m.moves() || m.Misfit != "":
		return red
	case m.State == active:
		return green
	default:
		return yellow
	}
}

// paint colours the states in a table that is laid out.
func (f *Format) paint(text string, table [][]string, columns []column, colours []string) string {
	at := 0
	for i, c := range columns {
		if c.name == stateColumn {
			break
		}
		widest := 0
		for _, line := range table {
			widest = max(widest, utf8.RuneCountInString(line[i]))
		}
		at += widest + printing.Gap
	}
	lines := strings.SplitAfter(text, "\n")
	for i, colour := range colours {
		n := i + len(table) - len(colours)
		line := []rune(lines[n])
		end := at
		for end < len(line) && line[end] != ' ' && line[end] != '\n' {
			end++
		}
		lines[n] = string(line[:at]) + colour + string(line[at:end]) + plain + string(line[end:])
	}
	return strings.Join(lines, "")
}

// moves reports whether policy wants the mirror elsewhere, or with another percentage.
func (m Mirror) moves() bool { return m.State != m.Wanted || m.Stored != m.WantedPercent }

func percent(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + "%" }

// share returns the declared percentage, and the stored one where it is smaller: "5% of 25%".
func (m Mirror) share() string {
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
