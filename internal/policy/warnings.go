package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// maxWarning is the length that the API asks webhooks to keep to (k8s.io/api
// admission/v1); longer ones may be cut by clients.
const maxWarning = 120

// maxWarnings keeps the warnings of a route within the 4 KiB that the API server
// passes on of all.
const maxWarnings = 32

// Warning cuts a warning to the length that clients show. The API server drops
// one with a control character.
func Warning(format string, args ...any) string {
	text := shorten(fmt.Sprintf(format, args...), maxWarning)
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}

// Stale returns the notices about findings that an earlier write made.
func Stale(findings []Finding) []Notice {
	notices := make([]Notice, len(findings))
	for i, f := range findings {
		notices[i] = Notice{Reason: f.Reason, Field: f.Field, Message: f.Message}
	}
	return notices
}

// Notice is what mirrorgate did to a route, or what is doubtful about it but not
// wrong.
type Notice struct {
	Reason Reason
	// Field is the field path, "" for the route as a whole.
	Field   string
	Message string
	// Parked marks a notice of a mirror that should be parked.
	Parked bool
}

// String is the notice as a warning, cut to the length that clients show.
func (n Notice) String() string { return Warning("%s", n.Text()) }

// Text is the notice as a warning of any length. Where the message gives the reason by
// itself the constant is left out, to save room.
func (n Notice) Text() string {
	switch {
	case n.Parked, n.Reason == VariantUnknown:
		return fmt.Sprintf("%s: %s", n.Field, n.Message)
	case n.Field == "":
		return fmt.Sprintf("%s: %s", n.Reason, n.Message)
	default:
		return fmt.Sprintf("%s: %s: %s", n.Field, n.Reason, n.Message)
	}
}

// Warnings returns the notices as warnings for the author of a write: at most maxWarnings, each cut to the
// length that clients show.
func Warnings(notices []Notice) []string {
	var out []string
	for _, n := range notices {
		if more := len(notices) - len(out); len(out) == maxWarnings-1 && more > 1 {
			return append(out, Warning("and %d more warnings", more))
		}
		out = append(out, n.String())
	}
	return out
}

// notices tells the author of a route what mirrorgate did, and what is doubtful
// but not wrong.
func notices(doc *route.Route, d *Decision, snap Snapshot) []Notice {
	var out []Notice
	add := func(path string, reason Reason, format string, args ...any) {
		out = append(out, Notice{Field: path, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	managed := snap.ManagedBy
	if managed != "" && len(d.Verdicts) > 0 {
		add("", ManagedRoute, "mirrors of %s are left alone: %s manages the route", doc.Name, managed)
	}
	if doc.ParkedError != nil && len(d.Plan.Operations) > 0 {
		add("", ParkedInvalid, "%s is replaced, for nothing needs it: %v", route.ParkedAnnotation, doc.ParkedError)
	}
	for _, v := range d.Verdicts {
		switch why := d.Plan.Misfits[v.Mirror.ID]; {
		case why != "" && v.Mirror.Parked:
			add(v.Mirror.Path, WouldNotFit, "stays parked: %s", why)
		case why != "":
			add(v.Mirror.Path, WouldNotFit, "stays active: %s", why)
		case managed == "" && v.Park && v.Reason != VariantUnknown && v.Reason != UnsupportedTarget:
			add(v.Mirror.Path, v.Reason, "mirror to %s is parked: %s", TargetName(v.Mirror), v.Detail)
			out[len(out)-1].Parked = true
		case v.Reason == VariantUnknown:
			add(v.Mirror.Path, v.Reason, "mirror to %s stays as it is: its state is not known", TargetName(v.Mirror))
		}
	}
	for i := range doc.Rules {
		out = append(out, ruleNotices(doc, &doc.Rules[i], snap)...)
	}
	return out
}

func ruleNotices(doc *route.Route, rule *route.Rule, snap Snapshot) []Notice {
	var out []Notice
	add := func(path string, reason Reason, format string, args ...any) {
		out = append(out, Notice{Field: path, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	sum, under := 0.0, map[int]float64{}
	for i := range rule.Mirrors {
		m := &rule.Mirrors[i]
		if b := m.Backend(); b >= 0 {
			under[b] += m.Percentage.Percent()
		} else {
			sum += m.Percentage.Percent()
		}
		if m.ShortHost && !snap.Variants[m.Target.WithoutPort()].External {
			rest := ".svc and the cluster's domain"
			if strings.HasSuffix(m.Host, ".svc") {
				rest = "the cluster's domain"
			}
			add(m.TargetPath, ShortHost, "Istio does not expand %q; append %s", m.Host, rest)
		}
		for _, f := range m.Percentage.Fields {
			switch {
			case f.Name == "mirrorPercent", f.Name == "mirror_percent":
				add(f.Path, DeprecatedField, "use mirrorPercentage")
			case doc.Kind == route.VirtualService && f.Percent > 0 && f.Percent < 0.0001:
				add(f.Path, TruncatesToZero, "below Istio's resolution of 0.0001 %%; it mirrors nothing")
			}
		}
	}
	most := 0.0 // a request goes to one backend
	for _, s := range under {
		most = max(most, s)
	}
	if sum += most; len(rule.Mirrors) > 1 && sum > 100 {
		add(rule.Path, SumExceeds100, "its %d mirrors copy %.4g %% of the traffic in sum", len(rule.Mirrors), sum)
	}
	for _, method := range []string{"POST", "PATCH"} {
		if len(rule.Mirrors) > 0 && slices.Contains(rule.Methods, method) {
			add(rule.Path, NonIdempotent, "%s is not idempotent; the variant repeats every write", method)
		}
	}
	for _, id := range rule.Orphans {
		if doc.ParkedError == nil && doc.EntryError(id) == nil {
			add(rule.Path, OrphanedMark, "nothing is parked behind %s%s; remove it", route.PlaceholderPrefix, shorten(id, 16))
		}
	}
	return out
}
