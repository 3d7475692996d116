package policy

// Findings: a route that contradicts itself, or an object that exists, so that no later event can repair it.
// Each finding names the field, its value, and a value that would be right.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Finding is one contradiction in a route.
type Finding struct {
	Reason Reason
	// Field is the field path, Value the bad value as JSON.
	Field, Value string
	// Message says what is wrong and how to correct it.
	Message string

	identity identity
}

// identity identifies a finding by its meaning: the same contradiction in an older version of the route is
// equal, in whichever place it stood.
type identity struct {
	reason  Reason
	target  route.Target
	percent float64
	value   string
}

func (f Finding) Error() string {
	return fmt.Sprintf("%s: Invalid value: %s: %s: %s", f.Field, f.Value, f.Reason, f.Message)
}

// Introduced returns the findings that a write introduced, and those that the route had before it. A finding
// that was known before never denies the write of another change.
func Introduced(now, before []Finding) (introduced, known []Finding) {
	left := map[identity]int{}
	for _, f := range before {
		left[f.identity]++
	}
	for _, f := range now {
		if left[f.identity] > 0 {
			left[f.identity]--
			known = append(known, f)
		} else {
			introduced = append(introduced, f)
		}
	}
	return introduced, known
}

// Values and messages are cut, because the fields of a write can be of any length.
const (
	maxValue   = 100
	maxMessage = 400
)

func finding(reason Reason, m *route.Mirror, field, value, message string) Finding {
	f := Finding{
		Reason: reason, Field: field, Value: printing.Shorten(value, maxValue), Message: printing.Shorten(message, maxMessage),
		identity: identity{reason: reason},
	}
	if m != nil {
		f.identity.target, f.identity.percent = m.Target, m.Percentage.Percent()
	}
	return f
}

// judgeMirror returns the findings about one mirror: its percentage, its target and its limit.
func judgeMirror(rt *route.Route, rule *route.Rule, m *route.Mirror, snap Snapshot, cfg Config) []Finding {
	out := judgePercentage(rt, m)
	v := snap.Variants[m.Target.WithoutPort()]
	target := strconv.Quote(TargetName(m))
	if why := unsupported(rt, m, v); why != "" {
		return append(out, finding(UnsupportedTarget, m, m.TargetPath, target, why))
	}
	if why := portProblem(m, v); why != "" {
		out = append(out, finding(PortNotFound, m, m.PortPath, strconv.Itoa(int(m.Target.Port)), why))
	}
	if m.Target.Subset != "" && v.HasDestinationRule && !slices.Contains(v.Subsets, m.Target.Subset) {
		out = append(out, finding(SubsetNotFound, m, m.TargetPath+".subset", strconv.Quote(m.Target.Subset),
			fmt.Sprintf("no DestinationRule for host %q has this subset; %s", m.Host, offer("subset", v.Subsets))))
	}
	if slices.ContainsFunc(rule.Backends, func(b route.Target) bool { return sameTarget(b, m.Target, v) }) {
		out = append(out, finding(MirrorsItself, m, m.TargetPath, target,
			"the rule already sends requests to this target; mirror to another Service, port or subset"))
	} else if path := snap.Loops[m.Target.WithoutPort()]; path != "" {
		out = append(out, finding(MirrorsItself, m, m.TargetPath, target,
			"mirrors lead back to this route: "+path+"; remove one of them"))
	}
	limit := cfg.For(rt.Namespace).MaxPercent
	if limit != nil && m.Percentage.Percent() > *limit {
		field, value, unset := m.Path, "100", ", and no percentage means 100 %"
		if len(m.Percentage.Fields) > 0 {
			field, value, unset = m.Percentage.Fields[0].Path, m.Percentage.Fields[0].Value, ""
		}
		out = append(out, finding(PolicyExceeded, m, field, value,
			fmt.Sprintf("a mirror in namespace %q may copy at most %v %% of the traffic%s", rt.Namespace, *limit, unset)))
	}
	return out
}

func judgePercentage(rt *route.Route, m *route.Mirror) []Finding {
	var out []Finding
	for _, f := range m.Percentage.Fields {
		if f.Problem != "" {
			bad := finding(PercentOutOfRange, m, f.Path, f.Value, f.Problem)
			bad.identity.value = f.Value
			out = append(out, bad)
		}
	}
	if rt.Kind != route.VirtualService && len(m.Percentage.Fields) > 1 {
		out = append(out, finding(PercentOutOfRange, m, m.Percentage.Fields[1].Path, m.Percentage.Fields[1].Value,
			"percent and fraction are both set; keep one"))
	}
	return out
}

// judgeRule returns the findings about a rule's mirrors together.
func judgeRule(rt *route.Route, rule *route.Rule, cfg Config) []Finding {
	var out []Finding
	if rule.BothForms {
		out = append(out, finding(MirrorConflict, &rule.Mirrors[0], rule.Path+".mirrors", "[...]",
			"the rule has both mirror and mirrors; move mirror into mirrors"))
	}
	if f := rule.LoosePercent; f != nil {
		loose := finding(MirrorConflict, nil, f.Path, f.Value, "a percentage without a mirror; add a mirror or remove the percentage")
		loose.identity.value = f.Value
		out = append(out, loose)
	}
	if cfg.Strict {
		out = append(out, judgeLost(rt, rule)...)
	}
	limit := cfg.For(rt.Namespace).MaxMirrors
	for i := range rule.Mirrors {
		m := &rule.Mirrors[i]
		if rule.Answers != "" {
			out = append(out, finding(MirrorConflict, m, m.Path, strconv.Quote(TargetName(m)),
				"the rule answers with a "+rule.Answers+", so there is no request to copy; remove one of them"))
		}
		if limit != nil && i >= *limit {
			// The identity has no mirror: a write that removes one of too many mirrors introduces no finding.
			over := finding(PolicyExceeded, nil, m.Path, strconv.Quote(TargetName(m)),
				fmt.Sprintf("mirrors per rule are limited to %d in namespace %q, and this rule has %d", *limit, rt.Namespace, len(rule.Mirrors)))
			over.identity.value = "mirrors"
			out = append(out, over)
		}
	}
	return out
}

const strictDenies = "; strict mode denies the loss of a mirror"

// judgeLost returns the findings about parked mirrors that a write loses, perhaps without knowing of them.
func judgeLost(rt *route.Route, rule *route.Rule) []Finding {
	var out []Finding
	for i := range rule.Replaced {
		m := &rule.Replaced[i]
		out = append(out, finding(MirrorReplaced, m, rule.Path, strconv.Quote(TargetName(m)), replacedBy(m)+strictDenies))
	}
	for _, id := range rule.Orphans {
		if rt.ParkedError == nil && rt.EntryError(id) == nil {
			f := finding(OrphanedPlaceholder, nil, rule.Path, strconv.Quote(route.PlaceholderPrefix+id), orphaned+strictDenies)
			f.identity.value = id
			out = append(out, f)
		}
	}
	return out
}

// replacedBy says which parked mirror gave way to another one in the spec.
func replacedBy(m *route.Mirror) string {
	return fmt.Sprintf("the parked mirror to %s (%v %%) gives way to the one in the rule", TargetName(m), m.Percentage.Percent())
}

const orphaned = "no mirror is parked behind it; remove it"

// judgeAnnotations returns the findings about values of mirrorgate's annotations that cannot be used.
func judgeAnnotations(rt *route.Route) []Finding {
	var out []Finding
	add := func(reason Reason, name, value, message string) {
		f := finding(reason, nil, "metadata.annotations["+name+"]", value, message)
		f.identity.value = name + value
		out = append(out, f)
	}
	if rt.Gate != "" && rt.Gate != Ready.String() && rt.Gate != Present.String() {
		add(GateInvalid, route.GateAnnotation, strconv.Quote(printing.Shorten(rt.Gate, 40)), `supported values: "Ready", "Present"`)
	}
	if rt.ParkedError != nil {
		add(ParkedInvalid, route.ParkedAnnotation, strconv.Quote(printing.Shorten(rt.Parked, 40)), rt.ParkedError.Error()+
			"; write the mirrors into their rules, and remove their placeholders and the annotation")
	}
	for i := range rt.Rules {
		for _, id := range rt.Rules[i].Orphans {
			if err := rt.EntryError(id); err != nil {
				add(ParkedInvalid, route.ParkedAnnotation, strconv.Quote(id), err.Error()+
					"; write the mirror into "+rt.Rules[i].Path+" and remove its placeholder there")
			}
		}
	}
	return out
}

// unsupported returns the reason why a mirror cannot have the target, "" when it can.
func unsupported(rt *route.Route, m *route.Mirror, v Variant) string {
	switch t := m.Target; {
	case rt.Kind == route.VirtualService && (t.Name == "" || strings.HasPrefix(t.Name, "*")):
		return "a mirror needs one host; name a Service"
	case rt.Kind != route.VirtualService && !t.IsService():
		return fmt.Sprintf("kind %q cannot be mirrored to; name a Service", strings.Trim(t.Kind+"."+t.Group, "."))
	case v.ExternalName:
		return fmt.Sprintf("Service %q is an ExternalName; name a Service with endpoints", t.Service())
	default:
		return ""
	}
}

// portProblem returns the reason why a mirror's port is not a port of its Service, "" when it is one.
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
		return fmt.Sprintf("Service %q has several ports, so name one; %s", m.Target.Service(), offer("port", ports))
	}
	return ""
}

// sameTarget reports whether a backend is a mirror's target; a missing port stands for the Service's only
// one.
func sameTarget(b, t route.Target, v Variant) bool {
	if b.WithoutPort() != t.WithoutPort() {
		return false
	}
	return b.Port == t.Port || (len(v.Ports) == 1 && (b.Port == 0 || t.Port == 0))
}

// offer lists the values that the author can choose from.
func offer(what string, have []string) string {
	if len(have) == 0 {
		return "it has no " + what
	}
	if len(have) > 5 {
		have = append(slices.Clone(have[:5]), "...")
	}
	return what + "s: " + strings.Join(have, ", ")
}

// TargetName returns the name of a mirror's target as its author would write it: "httpbin-v2:80".
func TargetName(m *route.Mirror) string {
	name := cmp.Or(m.Host, m.Target.Name)
	if m.Target.Subset != "" {
		name += "/" + m.Target.Subset
	}
	if m.Target.Port != 0 {
		name += ":" + strconv.Itoa(int(m.Target.Port))
	}
	return name
}
