package lint

// How findings are printed, and the remedies for them.

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// comesBack ends the remedies of mirrors that are parked.
const comesBack = "; the mirror comes back by itself then"

// remedies are the remedies of the reasons whose messages name none.
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
	policy.MirrorReplaced:          "remove the placeholder of the parked mirror, or the mirror that replaces it",
	policy.WouldNotFit:             "make room in the rule, or take the mirror out",
	policy.ManagedRoute:            "let that tool do the mirroring, or write the mirror into a route of your own",
	policy.SumExceeds100:           "lower the percentages, unless the variants can bear it",
	policy.NonIdempotent:           "mirror other methods only, or give the variant data of its own",
	policy.DeprecatedField:         "write mirrorPercentage: {value: PERCENT}",
	policy.TruncatesToZero:         "raise it, or set 0 to mirror nothing",
	DuplicateObject:                "keep one of them, or lint one overlay at a time: kustomize build | mirrorgate lint -",
}

// remedy returns the remedy for a finding about a mirror of a VirtualService, whose host says more than the
// reason does; "" for any other.
func (c *checker) remedy(rt *route.Route, f Finding) string {
	if rt.Kind != route.VirtualService {
		return ""
	}
	for _, m := range rt.Every {
		if within(f.Field, m.Path) {
			return c.hostRemedy(rt, m, f)
		}
	}
	return ""
}

func (c *checker) hostRemedy(rt *route.Route, m *route.Mirror, f Finding) string {
	switch f.Reason {
	case policy.ShortHost, policy.ServiceNotFound, policy.HostNotFound, policy.UnsupportedTarget:
	default:
		return ""
	}
	if lower := strings.ToLower(m.Host); f.Reason == policy.HostNotFound && lower != m.Host {
		return "hosts are compared letter by letter: write " + lower
	}
	domain := "svc." + cmp.Or(c.opts.ClusterDomain, route.DefaultClusterDomain)
	host, full := strings.CutSuffix(strings.ToLower(m.Host), "."+domain)
	host, short := strings.CutSuffix(host, ".svc")
	labels := strings.Count(host, ".") + 1
	switch {
	case host == "" || strings.ContainsAny(host, "*${} "):
		return ""
	case (full || short) && labels == 1:
		return fmt.Sprintf("the host lacks a namespace: write %s.%s.%s", host, rt.Namespace, domain)
	case full || labels == 1:
		return ""
	case short, f.namesService():
		return "write " + host + "." + domain
	default:
		return fmt.Sprintf("%s is no Service of the cluster: for a host outside it add a ServiceEntry; a Service is written NAME.NAMESPACE.%s", m.Host, domain)
	}
}

// quoting returns the remedy for a map of strings with values that YAML reads as another type, as in labels:
// {watch: true}; "" for other fields.
func quoting(field string) string {
	for _, name := range []string{"labels", "Labels", "annotations", "selector"} {
		if strings.HasSuffix(field, name) {
			return `quote its values, as in "true"`
		}
	}
	return ""
}

// String returns the finding in one line for a terminal, without its remedy.
func (f Finding) String() string {
	place := f.File
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	return printing.Plain(place) + ": " + string(f.Level) + ": " + f.explanation()
}

// explanation returns the finding without its place and its remedy.
func (f Finding) explanation() string {
	value, reason := "", string(f.Reason)
	if f.Value != "" {
		value = "Invalid value: " + f.Value
	}
	if f.Reason == policy.Unreadable {
		reason = ""
	}
	parts := []string{f.Object, f.Field, value, reason, f.Message}
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return printing.Plain(strings.Join(parts, ": "))
}

// WriteText prints the findings, each in one line with its remedy in the next, and a summary.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
		if f.Remedy != "" {
			fmt.Fprintln(&b, "  -> "+printing.Plain(f.Remedy))
		}
	}
	b.WriteString(r.summary())
	_, err := io.WriteString(w, b.String())
	return err
}

// summary counts mirrors and writes.
func (r *Report) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s: %d active, %d parked, %d denied\n", count(r.Mirrors, "mirror"), count(r.Routes, "route"), r.Active, r.Parked, r.Denied)
	fmt.Fprintf(&b, "%s: %s would be denied, %s, %d unreadable\n", count(r.Files, "file"), count(r.RoutesDenied, "write"),
		count(r.Count(Warning), "warning"), r.Count(Unreadable))
	if len(r.Ignored) > 0 {
		fmt.Fprintf(&b, "%s ignored by comments\n", count(len(r.Ignored), "finding"))
	}
	fixable := 0
	for _, f := range r.Findings {
		if f.Fixable {
			fixable++
		}
	}
	if fixable > 0 {
		fmt.Fprintf(&b, "--fix would correct %s\n", count(fixable, "finding"))
	}
	if len(r.NotJudged) > 0 {
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(r.NotJudged)) {
			kinds = append(kinds, fmt.Sprintf("%d %s", r.NotJudged[kind], printing.Plain(kind)))
		}
		fmt.Fprintf(&b, "not judged, though they mention mirrors: %s\n", strings.Join(kinds, ", "))
	}
	return b.String()
}

// Fails reports whether a finding has one of the levels.
func (r *Report) Fails(levels ...Level) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return slices.Contains(levels, f.Level) })
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// WriteJSON prints the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	out := *r
	if out.Findings == nil {
		out.Findings = []Finding{}
	}
	return printing.JSON(w, out)
}

// The escapes of GitHub's workflow commands, in messages and in properties.
var (
	githubMessage  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	githubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// WriteGitHub prints the findings as annotations of GitHub's workflows, and a summary.
func (r *Report) WriteGitHub(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		command := map[Level]string{Warning: "warning", Parked: "notice"}[f.Level]
		text := f.explanation()
		if f.Remedy != "" {
			text += "\n" + printing.Plain(f.Remedy)
		}
		fmt.Fprintf(&b, "::%s file=%s,line=%d,col=%d,title=%s::%s\n", cmp.Or(command, "error"),
			githubProperty.Replace(f.File), f.Line, f.Column, githubProperty.Replace(string(f.Reason)), githubMessage.Replace(text))
	}
	b.WriteString(r.summary())
	_, err := io.WriteString(w, b.String())
	return err
}
