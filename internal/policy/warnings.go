package policy

// Warnings about changes that mirrorgate made to a route, and about mirrors that look doubtful, in lines of
// the length that the API server passes on.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// The API server passes on 4 KiB of warnings in all, and cuts each to longWarning once there are more. The
// admission API recommends shortWarning (k8s.io/api admission/v1).
const (
	shortWarning = 120
	longWarning  = 256
	// fewWarnings of the mutating and as many of the validating webhook fit when they are long.
	fewWarnings = 7
	// maxWarnings fit when they are short.
	maxWarnings = 32
)

// maxOrphans bounds the notices about the placeholders of one rule.
const maxOrphans = 100

// Warning formats a warning and cuts it to the length that the API server passes on. Control characters become
// spaces, because the API server drops a warning that has one.
func Warning(format string, args ...any) string {
	return warning(fmt.Sprintf(format, args...), longWarning)
}

func warning(text string, most int) string {
	return printing.Plain(strings.ToValidUTF8(printing.Shorten(text, most), ""))
}

// KnownNotices returns notices about findings that the route had before the write.
func KnownNotices(findings []Finding) []Notice {
	notices := make([]Notice, len(findings))
	for i, f := range findings {
		notices[i] = Notice{Reason: f.Reason, Field: f.Field, Message: f.parks + f.Message}
	}
	return notices
}

// Notice tells the author of a route about a change that mirrorgate made, or about a mirror that is doubtful
// but not wrong.
type Notice struct {
	Reason Reason
	// Field is the field path, "" for the route as a whole.
	Field   string
	Message string
	// Parked is set in a notice about a mirror that belongs parked.
	Parked bool
}

// Text returns the notice as a warning of any length: the reason first and the field last, because a cut warning
// without its field still helps its reader.
func (n Notice) Text() string {
	text := fmt.Sprintf("%s: %s", n.Reason, n.Message)
	if n.Field != "" {
		text += " (" + n.Field + ")"
	}
	return text
}

// Warnings returns the notices as warnings for the author of a write: at most maxWarnings, and cut further where
// there are many.
func Warnings(notices []Notice) []string {
	most := longWarning
	if len(notices) > fewWarnings {
		most = shortWarning
	}
	var out []string
	for _, n := range notices {
		if more := len(notices) - len(out); len(out) == maxWarnings-1 && more > 1 {
			return append(out, Warning("and %d more warnings", more))
		}
		out = append(out, warning(n.Text(), most))
	}
	return out
}

type noticeList []Notice

func (l *noticeList) add(field string, reason Reason, format string, args ...any) {
	*l = append(*l, Notice{Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// explainParked returns the mirrors that are parked for the reason of a finding, so that one message is enough, and
// notes in the findings that they park them.
func (d *Decision) explainParked() map[*route.Mirror]bool {
	if len(d.Findings) == 0 {
		return nil
	}
	findings := map[identity][]int{}
	for i, f := range d.Findings {
		key := identity{reason: f.identity.reason, target: f.identity.target}
		findings[key] = append(findings[key], i)
	}
	explained := map[*route.Mirror]bool{}
	for _, v := range d.Verdicts {
		if !v.Park {
			continue
		}
		key := identity{reason: v.Reason, target: v.Mirror.Target}
		about, found := findings[key]
		for _, i := range about {
			d.Findings[i].parks = fmt.Sprintf("mirror to %s is parked: ", TargetName(v.Mirror))
		}
		explained[v.Mirror] = found
		findings[key] = nil // the other mirrors to this target are named alike
		if !found {
			delete(findings, key)
		}
	}
	return explained
}

// addVerdict adds the notice about one mirror: why it cannot move (misfit), or why it is parked, if it is to be told.
func (l *noticeList) addVerdict(v Verdict, misfit string, tell bool) {
	m := v.Mirror
	switch {
	case (misfit != "" || v.Reason == VariantUnknown) && m.Fault() != "":
		l.add(m.Path, MirrorInvalid, "stays where it is, since the API refuses it: %s", m.Fault())
	case misfit != "" && m.Parked:
		l.add(m.Path, WouldNotFit, "stays parked: %s", misfit)
	case misfit != "":
		l.add(m.Path, WouldNotFit, "stays active: %s", misfit)
	case tell && v.Park && v.Reason != VariantUnknown && v.Reason != UnsupportedTarget:
		l.add(m.Path, v.Reason, "mirror to %s is parked: %s", TargetName(m), v.Detail)
		(*l)[len(*l)-1].Parked = true
	case v.Share > 0:
		l.add(v.Mirror.Path, v.Reason, "%s", v.limited())
	case v.Reason == ExternalTarget && v.Detail != "":
		l.add(m.TargetPath, v.Reason, "%s", v.Detail)
	case v.Reason == VariantUnknown:
		l.add(m.Path, v.Reason, "mirror to %s stays as it is: the state of its variant is not known", TargetName(m))
	}
}

// notices returns the notices about a whole route.
func notices(rt *route.Route, d *Decision, snap Snapshot, cfg Config) []Notice {
	var out noticeList
	managed := snap.ManagedBy
	if managed != "" && len(d.Verdicts) > 0 {
		out.add("", ManagedRoute, "mirrors of %s are left alone: %s manages the route", rt.Name, managed)
	}
	if rt.ParkedError != nil && len(d.Plan.Operations) > 0 {
		out.add("", ParkedInvalid, "%s is replaced because no placeholder needs it: %v", route.ParkedAnnotation, rt.ParkedError)
	}
	explained := d.explainParked()
	for _, v := range d.Verdicts {
		out.addVerdict(v, d.Plan.Misfits[v.Mirror.ID], managed == "" && !explained[v.Mirror])
	}
	for i := range rt.Rules {
		out.addRule(rt, &rt.Rules[i], snap)
		out.addDoubts(newJudge(rt, &rt.Rules[i], snap, cfg))
	}
	return out
}

// addDoubts adds the notices about a rule's mirrors that copy nothing, or something else than they say, or
// come back and are told apart.
func (l *noticeList) addDoubts(j *judge) {
	if f := j.rule.LoosePercent; f != nil && !j.rule.Delegates {
		l.add(f.Path, MirrorConflict, "a percentage without a mirror copies nothing")
	}
	for i := range j.rule.Mirrors {
		m := &j.rule.Mirrors[i]
		v := j.snap.Variant(m.Target)
		if j.rule.Answers != "" {
			l.add(m.Path, MirrorConflict, "the rule answers with a %s, so there is no request to copy", j.rule.Answers)
		}
		switch {
		case j.itself(m, v) && j.distinguishes(v):
			l.add(m.TargetPath, MirrorsItself, "the rule already sends requests to this target, which must tell copies apart")
		case v.Loop != "" && j.rt.TellsCopies:
			l.add(m.TargetPath, Loop, "copies come back to this route's own %s, which must tell them apart", v.Loop)
		}
		if reason, why := support(j.rt, m, j.snap); reason != "" && !j.cfg.Strict {
			l.add(m.Path, reason, "%s", why)
		}
	}
}

// addRule adds the notices about one rule.
func (l *noticeList) addRule(rt *route.Route, rule *route.Rule, snap Snapshot) {
	sum, under := 0.0, map[int]float64{}
	for i := range rule.Mirrors {
		m := &rule.Mirrors[i]
		if b := m.Backend(); b >= 0 {
			under[b] += m.Percentage.Percent()
		} else {
			sum += m.Percentage.Percent()
		}
		l.addMirror(rt.Kind, m, snap)
	}
	most := 0.0 // each request goes to one backend
	for _, s := range under {
		most = max(most, s)
	}
	if sum += most; len(rule.Mirrors) > 1 && sum > 100 {
		l.add(rule.Path, SumExceeds100, "its %d mirrors together copy %.4g %% of the traffic", len(rule.Mirrors), sum)
	}
	for _, method := range []string{"POST", "PATCH"} {
		if len(rule.Mirrors) > 0 && slices.Contains(rule.Methods, method) {
			l.add(rule.Path, NonIdempotent, "%s is not idempotent; the variant repeats every write", method)
		}
	}
	for i := range rule.Replaced {
		l.add(rule.Path, MirrorReplaced, "%s", replacedBy(&rule.Replaced[i]))
	}
	for n, id := range rule.Orphans {
		if n == maxOrphans {
			l.add(rule.Path, OrphanedPlaceholder, "no mirror is parked behind any of %d more placeholders", len(rule.Orphans)-n)
			break
		}
		if rt.ParkedError == nil && rt.EntryError(id) == nil {
			l.add(rule.Path, OrphanedPlaceholder, "no mirror is parked behind %s%s; remove it", route.PlaceholderPrefix, printing.Shorten(id, 16))
		}
	}
}

// addMirror adds the notices about the spelling of one mirror.
func (l *noticeList) addMirror(kind route.Kind, m *route.Mirror, snap Snapshot) {
	if v := snap.Variant(m.Target); m.ShortHost && !v.External && v.Reason != ShortHost {
		rest := ".svc and the cluster's domain"
		if strings.HasSuffix(m.Host, ".svc") {
			rest = "the cluster's domain"
		}
		l.add(m.TargetPath, ShortHost, "Istio does not expand %q; if it is a Service, append %s", m.Host, rest)
	}
	for _, f := range m.Percentage.Fields {
		switch {
		case f.Name == "mirrorPercent", f.Name == "mirror_percent":
			l.add(f.Path, DeprecatedField, "use mirrorPercentage")
		case kind == route.VirtualService && f.Percent > 0 && f.Percent < 0.0001:
			l.add(f.Path, TruncatesToZero, "below Istio's resolution of 0.0001 %%; it mirrors nothing")
		}
	}
}
