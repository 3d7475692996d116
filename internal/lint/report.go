package lint

// How findings are printed, and what to do about them.

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

// comesBack ends the remedies of mirrors that are parked.
const comesBack = "; the mirror comes back by itself then"

// remedies tell what to do where a message does not.
var remedies = map[policy.Reason]string{
	policy.ServiceNotFound:         "add the Service, or apply it later" + comesBack,
	policy.ServiceDeleting:         "leave deletionTimestamp out, or apply the Service again" + comesBack,
	policy.HostNotFound:            "add a ServiceEntry for the host" + comesBack,
	policy.DestinationRuleNotFound: "add a DestinationRule with the subset" + comesBack,
	policy.WorkloadNotFound:        "add a workload whose pods have these labels" + comesBack,
	policy.WorkloadDeleting:        "leave deletionTimestamp out, or apply the workload again" + comesBack,
	policy.ScaledToZero:            "set replicas to 1 or more" + comesBack,
	policy.NoReadyEndpoints:        "leave out the EndpointSlices, which are not ready, or wait" + comesBack,
	policy.NotGranted:              "add a ReferenceGrant to the namespace of the Service" + comesBack,
	policy.WouldNotFit:             "make room in the rule, or take the mirror out",
	policy.ManagedRoute:            "let that tool do the mirroring, or write the mirror into a route of your own",
	policy.SumExceeds100:           "lower the percentages, unless the variants can bear it",
	policy.NonIdempotent:           "mirror other methods only, or give the variant data of its own",
	policy.DeprecatedField:         "write mirrorPercentage: {value: PERCENT}",
	policy.TruncatesToZero:         "raise it, or set 0 to mirror nothing",
	DuplicateObject:                "keep one of them, or lint one overlay at a time: kustomize build | mirrorgate lint -",
	UnknownField:                   "correct the name, or remove it",
}

// quoting is the remedy for the maps whose values YAML does not take as text, as
// in labels: {watch: true}.
func quoting(field string) string {
	for _, of := range []string{"labels", "Labels", "annotations", "selector"} {
		if strings.HasSuffix(field, of) {
			return `quote its values, as in "true"`
		}
	}
	return ""
}

// String is the finding in one line; its remedy is not in it. Control characters
// of the input do not reach a terminal.
func (f Finding) String() string {
	parts := []string{f.File}
	if f.Line > 0 {
		parts[0] = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	parts = append(parts, string(f.Level))
	if f.Object != "" {
		parts = append(parts, f.Object)
	}
	if f.Field != "" {
		parts = append(parts, f.Field)
	}
	if f.Value != "" {
		parts = append(parts, "Invalid value: "+f.Value)
	}
	if f.Reason != policy.Unreadable {
		parts = append(parts, string(f.Reason))
	}
	return plain(strings.Join(append(parts, f.Message), ": "))
}

func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// WriteText prints the findings, each in a line and its remedy in the next, and
// a summary.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
		if f.Remedy != "" {
			fmt.Fprintln(&b, "  -> "+f.Remedy)
		}
	}
	fmt.Fprintf(&b, "%s, %s, %s: %d would be denied, %d would be parked, %s, %d unreadable\n",
		count(r.Files, "file"), count(r.Routes, "route"), count(r.Mirrors, "mirror"),
		r.Count(Error), r.Count(Parked), count(r.Count(Warning), "warning"), r.Count(Unreadable))
	_, err := io.WriteString(w, b.String())
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// WriteJSON prints the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	out := *r
	if out.Findings == nil {
		out.Findings = []Finding{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
