package iter8

// Events about routes: which mirrors came and went, and why.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// mirror is a mirror of an applied route, as Events name it.
type mirror struct {
	target  string
	percent float64
}

func mirrorOf(m *route.Mirror) mirror { return mirror{policy.TargetName(m), m.Percentage.Percent()} }

func (m mirror) String() string {
	if m.percent >= 100 {
		return m.target
	}
	return fmt.Sprintf("%s (%.4g %%)", m.target, m.percent)
}

// mirrorsOf returns the mirrors of a route, never nil: each target and percentage once.
func (s *namespaceState) mirrorsOf(object map[string]any) []mirror {
	mirrors := []mirror{}
	rt, err := s.decode(object)
	if err != nil {
		return mirrors
	}
	for _, m := range rt.Every {
		mirrors = append(mirrors, mirrorOf(m))
	}
	slices.SortFunc(mirrors, func(a, b mirror) int {
		return cmp.Or(strings.Compare(a.target, b.target), cmp.Compare(a.percent, b.percent))
	})
	return slices.Compact(mirrors)
}

// announce reports a route that is new, and mirrors that came or went. It says nothing after a start that changes
// nothing, because another replica applied the route before.
func (s *namespaceState) announce(d *desired, a *applied, at *attempt) {
	known := a.mirrors != nil
	changed := !slices.Equal(a.mirrors, at.mirrors)
	sameOut := slices.Equal(slices.Sorted(maps.Keys(a.out)), slices.Sorted(maps.Keys(at.out.why)))
	before := a.mirrors
	a.out, a.mirrors = at.out.why, at.mirrors
	if known && !changed && sameOut || !known && !a.wrote {
		return
	}
	reason, state := "RouteApplied", "is applied"
	switch {
	case a.created:
		state = "is created"
	case !a.wrote && !changed:
		reason, state = "MirrorLeftOut", "stays as it is"
	}
	if text := s.mirrorText(d, at, before); text != "" {
		state += ": " + text
	} else if !a.created {
		return // a mirror that was left out is not declared any more
	}
	s.report(d.document, at.reference(), corev1.EventTypeNormal, reason, fmt.Sprintf("%s %s", at.key, state))
	s.run.opts.Log.Info("Route applied", "route", at.key.String(), "document", d.cm.Name, "state", state)
}

// mirrorText says which mirrors a route has, and which it does not have, with the reason.
func (s *namespaceState) mirrorText(d *desired, at *attempt, before []mirror) string {
	var texts, now []string
	reported := map[string]bool{}
	for _, m := range at.mirrors {
		now = append(now, m.String())
		reported[m.target] = true
	}
	if len(now) > 0 {
		texts = append(texts, "it mirrors to "+strings.Join(now, ", "))
	}
	without := func(target, why string) {
		if !reported[target] {
			reported[target] = true
			texts = append(texts, fmt.Sprintf("no mirror to %s: %s", target, why))
		}
	}
	for _, m := range at.out.mirrors {
		without(policy.TargetName(m), at.out.why[m.ID])
	}
	for _, m := range before {
		without(m.target, cmp.Or(d.away, "the document has none"))
	}
	return strings.Join(texts, "; ")
}
