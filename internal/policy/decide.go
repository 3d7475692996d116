package policy

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Config is what a cluster's operator decides. The zero value is valid: no
// limits, not strict.
type Config struct {
	// Strict denies a mirror that would otherwise be parked until a later
	// object mends it.
	Strict bool `json:"strict,omitempty"`
	// Limits hold for every namespace without an entry in Namespaces.
	Limits Limits `json:"limits,omitzero"`
	// Namespaces holds the limits of single namespaces; an entry replaces
	// Limits as a whole.
	Namespaces map[string]Limits `json:"namespaces,omitempty"`
}

// Limits bound the mirrors of the routes in a namespace.
type Limits struct {
	// MaxPercent is the largest share of the traffic that one mirror may copy,
	// 0 to 100; nil means no limit.
	MaxPercent *float64 `json:"maxPercent,omitempty"`
	// MaxMirrors is the largest number of mirrors in one rule; nil means no
	// limit, 0 that mirroring is not allowed.
	MaxMirrors *int `json:"maxMirrors,omitempty"`
}

// For returns the limits of a namespace.
func (c Config) For(namespace string) Limits {
	if l, ok := c.Namespaces[namespace]; ok {
		return l
	}
	return c.Limits
}

// Action is what a decision does to a route.
type Action string

// The actions, as metric label and audit annotation. A decision that parks one
// mirror and restores another counts as Park.
const (
	Park    Action = "park"
	Restore Action = "restore"
	None    Action = "none"
	Skip    Action = "skip"
	Deny    Action = "deny"
)

// Verdict is what policy says about one mirror.
type Verdict struct {
	Mirror *route.Mirror
	// Park tells where the mirror should be: parked, or in the spec.
	Park bool
	// Reason and Detail tell why; Detail is one clause for people.
	Reason Reason
	Detail string
}

// Decision is what policy says about one route.
type Decision struct {
	Action   Action
	Reason   Reason
	Verdicts []Verdict
	// Plan carries the decision out; it has no operations when the
	// stored state is as it should be.
	Plan route.Plan
	// Findings are contradictions. Whether one denies a write depends on
	// whether the write made it: see Made.
	Findings []Finding
	// Notices are what the author of the route should know, whole; Warnings are
	// the same for the author of a write, 120 characters at most each.
	Notices  []Notice
	Warnings []string
}

// Decide says what should happen to a route's mirrors. It is a function of its
// arguments alone. The error is internal: it never concerns the user's input.
func Decide(doc *route.Route, snap Snapshot, cfg Config) (Decision, error) {
	if doc.Deleting {
		return Decision{Action: Skip, Reason: Deleting}, nil
	}
	managed := snap.ManagedBy
	var d Decision
	for rule, m := range doc.Every {
		v := verdict(doc, m, snap)
		if managed != "" {
			v = Verdict{Mirror: m, Park: m.Parked, Reason: ManagedRoute}
		}
		d.Verdicts = append(d.Verdicts, v)
		d.Findings = append(d.Findings, judgeMirror(doc, rule, m, snap, cfg)...)
		if cfg.Strict && v.Park && v.Reason.mendable() {
			d.Findings = append(d.Findings, finding(v.Reason, m, m.TargetPath, quote(TargetName(m)), v.Detail+"; strict mode wants it mended first"))
		}
	}
	for i := range doc.Rules {
		d.Findings = append(d.Findings, judgeRule(doc, &doc.Rules[i], cfg)...)
	}
	d.Findings = append(d.Findings, judgeAnnotations(doc)...)

	if managed == "" {
		if err := d.arrange(doc); err != nil {
			return Decision{}, err
		}
	}
	d.conclude(managed)
	d.Notices = notices(doc, &d, snap)
	d.Warnings = Warnings(d.Notices)
	return d, nil
}

// verdict says where one mirror belongs.
func verdict(doc *route.Route, m *route.Mirror, snap Snapshot) Verdict {
	stay := func(reason Reason, detail string) Verdict {
		return Verdict{Mirror: m, Park: m.Parked, Reason: reason, Detail: detail}
	}
	park := func(reason Reason, detail string) Verdict {
		return Verdict{Mirror: m, Park: true, Reason: reason, Detail: detail}
	}
	v, known := snap.Variants[m.Target.WithoutPort()]
	gate := Ready
	if doc.Gate == Present.String() {
		gate = Present
	}
	switch {
	case unsupported(doc, m, v) != "":
		return stay(UnsupportedTarget, unsupported(doc, m, v))
	case !known || v.State == Unknown:
		return Verdict{Mirror: m, Park: m.Parked || v.WasParked, Reason: VariantUnknown, Detail: v.Detail}
	case v.External:
		return Verdict{Mirror: m, Reason: ExternalTarget}
	case v.Ungranted:
		return park(NotGranted, fmt.Sprintf("no ReferenceGrant in namespace %q lets it be a target", m.Target.Namespace))
	case v.State >= Present && portProblem(m, v) != "":
		return park(PortNotFound, portProblem(m, v))
	case v.State < gate, v.InGrace && gate == Ready && (m.Parked || v.WasParked):
		return park(v.Reason, v.Detail)
	default:
		return Verdict{Mirror: m, Reason: VariantReady}
	}
}

func (d *Decision) arrange(doc *route.Route) error {
	park := map[*route.Mirror]bool{}
	for _, v := range d.Verdicts {
		park[v.Mirror] = v.Park
	}
	var err error
	d.Plan, err = doc.Plan(func(m *route.Mirror) bool { return park[m] })
	if err != nil {
		return fmt.Errorf("arrange the mirrors of %s: %w", doc.Key, err)
	}
	return nil
}

// conclude sums the decision up in one action and one reason.
func (d *Decision) conclude(managed string) {
	moved := map[string]bool{}
	for _, id := range slices.Concat(d.Plan.Parked, d.Plan.Restored) {
		moved[id] = true
	}
	switch {
	case managed != "":
		d.Action, d.Reason = Skip, ManagedRoute
		return
	case len(d.Verdicts) == 0:
		d.Action, d.Reason = None, NoMirror
		return
	case len(d.Plan.Parked) > 0:
		d.Action = Park
	case len(d.Plan.Restored) > 0:
		d.Action = Restore
	case len(d.Plan.Misfits) > 0:
		d.Action, d.Reason = None, WouldNotFit
		return
	default:
		d.Action = None
	}
	d.Reason = d.Verdicts[0].Reason
	for _, v := range d.Verdicts {
		if moved[v.Mirror.ID] && v.Park == (d.Action == Park) {
			d.Reason = v.Reason
			return
		}
	}
}

// maxTouch is how long the list of variants may get.
const maxTouch = 4 << 10

// VariantsValue returns the value of the variants annotation that tells admission, and
// a reader of the route, what the decision was made on: "httpbin-v2=Ready". Of
// a list that is too long for an annotation a hash takes the place of the rest.
func VariantsValue(doc *route.Route, snap Snapshot) string {
	seen := map[string]bool{}
	for _, m := range doc.Every {
		state := snap.Variants[m.Target.WithoutPort()].State
		seen[shortTarget(doc, m.Target)+"="+state.String()] = true
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	text := strings.Join(names, ",")
	if len(text) > maxTouch {
		return fmt.Sprintf("%s,... (%08x)", shorten(text, maxTouch), crc32.ChecksumIEEE([]byte(text)))
	}
	return text
}

func shortTarget(doc *route.Route, t route.Target) string {
	name := t.Name
	if t.Namespace != "" && t.Namespace != doc.Namespace {
		name += "." + t.Namespace
	}
	if t.Subset != "" {
		name += "/" + t.Subset
	}
	return name
}
