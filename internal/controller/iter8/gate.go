package iter8

// The mirrors that a route is applied without, since policy would park or deny them.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// leftOut are the paths of mirrors that a route is applied without, and the reason for the first of them.
type leftOut struct {
	paths map[string]bool
	why   string
}

func (l *leftOut) add(m *route.Mirror, why string) {
	l.paths[m.Path] = true
	if l.why == "" {
		l.why = why
	}
}

// gate decides which mirrors of a route are left out. Before are those of the last application.
func (s *namespaceState) gate(d *desired, before map[string]bool) leftOut {
	out := leftOut{paths: map[string]bool{}}
	rt, err := route.Decode(encode(d.object), route.Options{ClusterDomain: s.run.opts.ClusterDomain, Namespace: s.namespace})
	if err != nil {
		out.why = err.Error() // the API server refuses the route with a better message
		return out
	}
	if d.noMirrors != "" {
		for _, m := range rt.Every {
			out.add(m, d.noMirrors)
		}
		return out
	}
	snap := s.run.index.Snapshot(rt)
	for _, m := range rt.Every {
		if before[m.Path] { // a grace brings no mirror back
			if snap.WasParked == nil {
				snap.WasParked = map[string]bool{}
			}
			snap.WasParked[m.ID] = true
		}
	}
	config := s.run.opts.Policy
	config.Strict = false // strict mode denies a mirror instead of parking it, and nothing is parked here
	decision, err := policy.Decide(rt, snap, config)
	if err != nil {
		out.why = err.Error()
		return out
	}
	if snap.Recheck > 0 {
		s.recheckIn(snap.Recheck)
	}
	for _, v := range decision.Verdicts {
		if v.Park {
			out.add(v.Mirror, fmt.Sprintf("%s: %s", v.Reason, v.Detail))
			s.recheckIn(recheck)
		}
	}
	s.refuse(d, rt, decision.Findings, &out)
	return out
}

// refuse leaves out the mirrors that admission would deny, and reports why.
func (s *namespaceState) refuse(d *desired, rt *route.Route, findings []policy.Finding, out *leftOut) {
	var texts []string
	for _, f := range findings {
		texts = append(texts, f.Error())
		for rule, m := range rt.Every {
			// A finding is about one mirror, or about a whole rule.
			if strings.HasPrefix(f.Field, m.Path) || !strings.Contains(f.Field, "irror") && strings.HasPrefix(f.Field, rule.Path) {
				out.add(m, f.Error())
			}
		}
	}
	s.warnAll(d.document, "MirrorRefused", slices.Compact(texts))
}
