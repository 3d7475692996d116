package policy

// Findings: a route that contradicts itself, or an object that exists, so that no later event can repair it.
// Each finding names the field, its value, and a value that would be right.

import (
	"cmp"
	"fmt"
	"strconv"

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
	// parks is "mirror to … is parked: " where the mirror is parked for this reason, else "".
	parks string
	// percent is the share of the mirror that the finding is about, as far as it is known.
	percent float64
}

// identity identifies a finding by its meaning, apart from the mirror's share: the same contradiction in an
// older version of the route is equal, in whichever place it stood.
type identity struct {
	reason Reason
	target route.Target
	value  string
}

func (f Finding) Error() string {
	return fmt.Sprintf("%s: Invalid value: %s: %s: %s", f.Field, f.Value, f.Reason, f.Message)
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
		f.identity.target, f.percent = m.Target, m.Percentage.Percent()
	}
	return f
}

// TooLong returns the finding about a route that is too large to be judged: if it passed, it would escape every limit.
func TooLong(err *route.TooLongError) Finding {
	return finding(PolicyExceeded, nil, cmp.Or(err.Field, "spec"), "[…]", err.Message()+", and mirrorgate judges no more; split the route")
}

// judge judges the mirrors of one rule.
type judge struct {
	rt   *route.Route
	rule *route.Rule
	snap Snapshot
	cfg  Config
	// receives holds the backends of the rule that get requests.
	receives map[route.Target]bool
	// wasParked holds the targets of mirrors that the stored route has parked. The mirrors of a rule to one
	// target move together.
	wasParked map[route.Target]bool
}

func newJudge(rt *route.Route, rule *route.Rule, snap Snapshot, cfg Config) *judge {
	j := &judge{rt: rt, rule: rule, snap: snap, cfg: cfg}
	if len(rule.Mirrors) == 0 {
		return j
	}
	j.receives, j.wasParked = map[route.Target]bool{}, map[route.Target]bool{}
	for _, b := range rule.Backends {
		if b.Receives {
			j.receives[b.Target] = true
		}
	}
	for i := range rule.Mirrors {
		if m := &rule.Mirrors[i]; snap.WasParked[m.ID] {
			j.wasParked[m.Target] = true
		}
	}
	return j
}

// mirror returns the findings about one mirror: its percentage, its target and its limit.
func (j *judge) mirror(m *route.Mirror) []Finding {
	out := judgePercentage(j.rt, m)
	v := j.snap.Variant(m.Target)
	target := strconv.Quote(TargetName(m))
	if why := unsupported(j.rt, m); why != "" {
		return append(out, finding(UnsupportedTarget, m, m.TargetPath, target, why))
	}
	if why := portProblem(m, v); why != "" {
		out = append(out, finding(PortNotFound, m, m.PortPath, strconv.Itoa(int(m.Target.Port)), why))
	}
	if v.LacksSubset {
		out = append(out, finding(SubsetNotFound, m, m.TargetPath+".subset", strconv.Quote(m.Target.Subset),
			fmt.Sprintf("no DestinationRule for host %q has this subset; %s", m.Host, offer("subset", v.Subsets))))
	}
	switch {
	case j.itself(m, v) && !j.distinguishes(v):
		out = append(out, finding(MirrorsItself, m, m.TargetPath, target,
			"the rule already sends requests to this target; mirror to another Service, port or subset"))
	case v.Loop != "" && !j.rt.TellsCopies:
		out = append(out, finding(Loop, m, m.TargetPath, target,
			"copies come back to this route, because the target is the Service of its own "+v.Loop+"; mirror to another Service"))
	}
	if j.cfg.Strict {
		if reason, why := support(j.rt, m, j.snap); reason != "" {
			out = append(out, finding(reason, m, m.Path, target, why+"; strict mode denies such a mirror"))
		}
	}
	return append(out, j.limit(m)...)
}

func (j *judge) limit(m *route.Mirror) []Finding {
	limit := j.cfg.For(j.rt.Namespace).MaxPercent
	if limit == nil || m.Percentage.Percent() <= *limit {
		return nil
	}
	field, value, unset := m.Path, "100", ", and no percentage means 100 %"
	if len(m.Percentage.Fields) > 0 {
		field, value, unset = m.Percentage.Fields[0].Path, m.Percentage.Fields[0].Value, ""
	}
	return []Finding{finding(PolicyExceeded, m, field, value,
		fmt.Sprintf("a mirror in namespace %q may copy at most %v %% of the traffic%s", j.rt.Namespace, *limit, unset))}
}

// itself reports whether the requests that a mirror copies go to its own target already. A mirror of a
// backendRef copies the requests of that backendRef alone.
func (j *judge) itself(m *route.Mirror, v Variant) bool {
	if i := m.Backend(); i >= 0 {
		return j.rule.Backends[i].Receives && sameTarget(j.rule.Backends[i].Target, m.Target, v)
	}
	if j.receives[m.Target] {
		return true
	}
	if len(v.Ports) != 1 {
		return false
	}
	// A missing port stands for the Service's only one.
	same := m.Target
	switch only := v.Ports[0].Number; m.Target.Port {
	case 0:
		same.Port = only
	case only:
		same.Port = 0
	default:
		return false
	}
	return j.receives[same]
}

// distinguishes reports whether a target that gets requests and their copies can tell them apart: a gateway does
// by the host, which Envoy may end in -shadow, and so may a route that names such a host, or a rule that sets a
// header for copies.
func (j *judge) distinguishes(v Variant) bool {
	return v.Gateway || j.rt.TellsCopies || j.rule.TellsCopies
}

// support returns the reason why a mirror does not do what it says at the gateways that serve the route, ""
// when nothing is known against it.
func support(rt *route.Route, m *route.Mirror, snap Snapshot) (Reason, string) {
	switch {
	case rt.Kind != route.HTTPRoute:
		return "", ""
	case snap.LacksMirrors != "":
		return MirrorNotSupported, snap.LacksMirrors + " does not claim HTTPRouteRequestMirror, so nothing may be copied"
	case snap.LacksShares != "" && len(m.Percentage.Fields) > 0 && m.Percentage.Percent() < 100:
		return ShareNotSupported, snap.LacksShares + ", so everything is copied"
	default:
		return "", ""
	}
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
	if cfg.Strict {
		out = append(out, judgeLost(rt, rule)...)
	}
	limit := cfg.For(rt.Namespace).MaxMirrors
	for i := range rule.Mirrors {
		m := &rule.Mirrors[i]
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
	if rt.Gate != "" && rt.Gate != Ready.String() && rt.Gate != Present.String() && rt.Gate != gateNever {
		add(GateInvalid, route.GateAnnotation, strconv.Quote(printing.Shorten(rt.Gate, 40)), `supported values: "Ready", "Present", "Never"`)
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

// maxPort is the largest number of a port; the schemas refuse greater ones.
const maxPort = 65535

// portProblem returns the reason why a mirror's port is not a port of its Service, "" when it is one. A
// mirror that names no port has none that could be wrong, and a number that no port has is left to the schema.
func portProblem(m *route.Mirror, v Variant) string {
	if !v.Exists || v.External || !m.Target.IsService() || m.Target.Port < 1 || m.Target.Port > maxPort {
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
	return fmt.Sprintf("Service %q has no such port; %s", m.Target.Service(), offer("port", ports))
}
