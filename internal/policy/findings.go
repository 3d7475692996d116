package policy

// What contradicts an object that exists, or itself, and so cannot be repaired
// by any later event. Each finding names the field, its value, and what would
// be right.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Finding is one contradiction in a route.
type Finding struct {
	Reason Reason
	// Field is the field path, Value the bad value as JSON.
	Field, Value string
	// Message says what is wrong and what would be right.
	Message string

	about about
}

// about is what a finding is about, by meaning: the same contradiction in an
// older version of the route is equal, wherever it stood.
type about struct {
	reason  Reason
	target  route.Target
	percent float64
	value   string
}

func (f Finding) Error() string {
	return fmt.Sprintf("%s: Invalid value: %s: %s: %s", f.Field, f.Value, f.Reason, f.Message)
}

// Made returns the findings that a write made: those that the route did not
// have before it. An unchanged mirror never blocks the write of something else.
func Made(now, before []Finding) (made, old []Finding) {
	left := map[about]int{}
	for _, f := range before {
		left[f.about]++
	}
	for _, f := range now {
		if left[f.about] > 0 {
			left[f.about]--
			old = append(old, f)
		} else {
			made = append(made, f)
		}
	}
	return made, old
}

// Values and messages are cut, for what a write holds may be as long as it likes.
const (
	maxValue   = 100
	maxMessage = 400
)

func finding(reason Reason, m *route.Mirror, field, value, message string) Finding {
	f := Finding{
		Reason: reason, Field: field, Value: shorten(value, maxValue), Message: shorten(message, maxMessage),
		about: about{reason: reason},
	}
	if m != nil {
		f.about.target, f.about.percent = m.Target, m.Percentage.Percent()
	}
	return f
}

func quote(s string) string { return strconv.Quote(s) }

// judgeMirror finds what is wrong with one mirror by itself and with its target.
func judgeMirror(doc *route.Route, rule *route.Rule, m *route.Mirror, snap Snapshot, cfg Config) []Finding {
	out := judgeShare(doc, m)
	v := snap.Variants[m.Target.WithoutPort()]
	target := quote(TargetName(m))
	if why := unsupported(doc, m, v); why != "" {
		return append(out, finding(UnsupportedTarget, m, m.TargetPath, target, why))
	}
	if why := portProblem(m, v); why != "" {
		out = append(out, finding(PortNotFound, m, m.PortPath, strconv.Itoa(int(m.Target.Port)), why))
	}
	if m.Target.Subset != "" && v.HasRules && !slices.Contains(v.Subsets, m.Target.Subset) {
		out = append(out, finding(SubsetNotFound, m, m.TargetPath+".subset", quote(m.Target.Subset),
			fmt.Sprintf("no DestinationRule for host %q has this subset; %s", m.Host, offer("subset", v.Subsets))))
	}
	if slices.ContainsFunc(rule.Backends, func(b route.Target) bool { return same(b, m.Target, v) }) {
		out = append(out, finding(MirrorsItself, m, m.TargetPath, target,
			"the rule answers from the same target; mirror to another Service, port or subset"))
	} else if way := snap.Loops[m.Target.WithoutPort()]; way != "" {
		out = append(out, finding(MirrorsItself, m, m.TargetPath, target,
			"mirrors lead back to this route: "+way+"; remove one of them"))
	}
	limit := cfg.For(doc.Namespace).MaxPercent
	if limit != nil && m.Percentage.Percent() > *limit {
		field, value, unset := m.Path, "100", ", and no percentage means 100 %"
		if len(m.Percentage.Fields) > 0 {
			field, value, unset = m.Percentage.Fields[0].Path, m.Percentage.Fields[0].Value, ""
		}
		out = append(out, finding(PolicyExceeded, m, field, value,
			fmt.Sprintf("a mirror in namespace %q may copy at most %v %% of the traffic%s", doc.Namespace, *limit, unset)))
	}
	return out
}

func judgeShare(doc *route.Route, m *route.Mirror) []Finding {
	var out []Finding
	for _, f := range m.Percentage.Fields {
		if f.Problem != "" {
			bad := finding(PercentOutOfRange, m, f.Path, f.Value, f.Problem)
			bad.about.value = f.Value
			out = append(out, bad)
		}
	}
	if doc.Kind != route.VirtualService && len(m.Percentage.Fields) > 1 {
		out = append(out, finding(PercentOutOfRange, m, m.Percentage.Fields[1].Path, m.Percentage.Fields[1].Value,
			"percent and fraction are both set; keep one"))
	}
	return out
}

// judgeRule finds what is wrong with a rule's mirrors together.
func judgeRule(doc *route.Route, rule *route.Rule, cfg Config) []Finding {
	var out []Finding
	if rule.BothForms {
		out = append(out, finding(MirrorConflict, &rule.Mirrors[0], rule.Path+".mirrors", "[...]",
			"the rule has mirror and mirrors; move mirror into mirrors"))
	}
	if f := rule.LoosePercent; f != nil {
		loose := finding(MirrorConflict, nil, f.Path, f.Value, "a percentage without a mirror; add mirror or remove it")
		loose.about.value = f.Value
		out = append(out, loose)
	}
	limit := cfg.For(doc.Namespace).MaxMirrors
	for i := range rule.Mirrors {
		m := &rule.Mirrors[i]
		if rule.Answers != "" {
			out = append(out, finding(MirrorConflict, m, m.Path, quote(TargetName(m)),
				"the rule answers with a "+rule.Answers+" and forwards nothing to copy; remove one of them"))
		}
		if limit != nil && i >= *limit {
			// About no mirror: a write that only takes one out makes none exceed.
			over := finding(PolicyExceeded, nil, m.Path, quote(TargetName(m)),
				fmt.Sprintf("mirrors of one rule are limited to %d in namespace %q, and this one has %d", *limit, doc.Namespace, len(rule.Mirrors)))
			over.about.value = "mirrors"
			out = append(out, over)
		}
	}
	return out
}

// judgeAnnotations finds values of our annotations that mean nothing.
func judgeAnnotations(doc *route.Route) []Finding {
	var out []Finding
	add := func(reason Reason, name, value, message string) {
		f := finding(reason, nil, "metadata.annotations["+name+"]", value, message)
		f.about.value = name + value
		out = append(out, f)
	}
	if doc.Gate != "" && doc.Gate != Ready.String() && doc.Gate != Present.String() {
		add(GateInvalid, route.GateAnnotation, quote(shorten(doc.Gate, 40)), `supported values: "Ready", "Present"`)
	}
	if doc.ParkedError != nil {
		add(ParkedInvalid, route.ParkedAnnotation, quote(shorten(doc.Parked, 40)), doc.ParkedError.Error()+
			"; write the mirrors into their rules, and remove their placeholders and the annotation")
	}
	for i := range doc.Rules {
		for _, id := range doc.Rules[i].Orphans {
			if err := doc.EntryError(id); err != nil {
				add(ParkedInvalid, route.ParkedAnnotation, quote(id), err.Error()+
					"; write the mirror into "+doc.Rules[i].Path+" and remove its placeholder there")
			}
		}
	}
	return out
}

// unsupported tells why nothing can be mirrored to a target, "" when it can.
func unsupported(doc *route.Route, m *route.Mirror, v Variant) string {
	switch t := m.Target; {
	case doc.Kind == route.VirtualService && (t.Name == "" || strings.HasPrefix(t.Name, "*")):
		return "a mirror needs one host; name a Service"
	case doc.Kind != route.VirtualService && !t.IsService():
		return fmt.Sprintf("kind %q cannot be mirrored to; name a Service", strings.Trim(t.Kind+"."+t.Group, "."))
	case v.ExternalName:
		return fmt.Sprintf("Service %q is an ExternalName; name a Service with endpoints", t.Service())
	default:
		return ""
	}
}

// portProblem tells why a mirror's port is none of its Service's, "" when it is
// one.
func portProblem(m *route.Mirror, v Variant) string {
	if !v.Exists || v.External || !m.Target.IsService() {
		return ""
	}
	var ports []string
	for _, p := range v.Ports {
		if p.Number == m.Target.Port {
			return ""
		}
		text := strconv.Itoa(int(p.Number))
		if p.Name != "" {
			text += " (" + p.Name + ")"
		}
		ports = append(ports, text)
	}
	if m.Target.Port != 0 {
		return fmt.Sprintf("Service %q has no such port; %s", m.Target.Service(), offer("port", ports))
	}
	if len(ports) > 1 {
		return fmt.Sprintf("Service %q has several ports and none is named; %s", m.Target.Service(), offer("port", ports))
	}
	return ""
}

// same tells whether a backend is a mirror's target; a port left out is the
// Service's only one.
func same(b, t route.Target, v Variant) bool {
	if b.WithoutPort() != t.WithoutPort() {
		return false
	}
	return b.Port == t.Port || (len(v.Ports) == 1 && (b.Port == 0 || t.Port == 0))
}

func offer(what string, have []string) string {
	if len(have) == 0 {
		return "it has no " + what
	}
	if len(have) > 5 {
		have = append(slices.Clone(have[:5]), "...")
	}
	return what + "s: " + strings.Join(have, ", ")
}

// TargetName names a mirror's target as its author would.
func TargetName(m *route.Mirror) string {
	name := m.Target.Name
	if m.Host != "" {
		name = m.Host
	}
	if m.Target.Subset != "" {
		name += "/" + m.Target.Subset
	}
	if m.Target.Port != 0 {
		name += ":" + strconv.Itoa(int(m.Target.Port))
	}
	return name
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "..."
}
