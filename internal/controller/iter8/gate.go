package iter8

// The mirrors that a route is applied without, since policy would park or deny them.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// leftOut are the mirrors that a route is applied without.
type leftOut struct {
	// why holds the reason for each, by its id.
	why     map[string]string
	mirrors []*route.Mirror
	// refused are the findings of admission about them.
	refused []string
	// recheck is the time after which to decide again, 0 for none.
	recheck time.Duration
}

func (l *leftOut) add(m *route.Mirror, why string) {
	if _, ok := l.why[m.ID]; !ok {
		l.why[m.ID] = why
		l.mirrors = append(l.mirrors, m)
	}
}

func (l *leftOut) recheckIn(d time.Duration) {
	if l.recheck == 0 || d < l.recheck {
		l.recheck = d
	}
}

// gate takes the mirrors out of a route that policy would park or deny. It returns them, and those that are left.
// Before are the ids of the mirrors that the last application left out.
//
// A template is executed again without their versions, so that headers and weights which it writes beside a mirror
// leave with it. A mirror that no version brings is cut out of the result.
func (s *namespaceState) gate(d *desired, stored *watched, before map[string]string) (out leftOut, left []mirror) {
	out = s.judge(d, d.object, stored, before)
	if out.recheck > 0 {
		s.recheckIn(out.recheck)
	}
	s.warnAll(d.document, "MirrorRefused", slices.Compact(out.refused))
	rest := out
	if again := s.renderWithout(d, &out); again != nil {
		d.object = again
		rest = s.judge(d, again, stored, before)
	}
	paths := map[string]bool{}
	for _, m := range rest.mirrors {
		paths[m.Path] = true
	}
	documents.WithoutMirrors(d.object, func(path string) bool { return paths[path] })
	return out, s.mirrorsOf(d.object)
}

// decode reads a route as a template or a policy describes it.
func (s *namespaceState) decode(object map[string]any) (*route.Route, error) {
	return route.Decode(encode(object), route.Options{ClusterDomain: s.run.opts.ClusterDomain, Namespace: s.namespace})
}

// judge decides which mirrors of an object are left out.
func (s *namespaceState) judge(d *desired, object map[string]any, stored *watched, before map[string]string) leftOut {
	out := leftOut{why: map[string]string{}}
	rt, err := s.decode(attached(object, stored))
	if err != nil {
		return out // the API server refuses the route with a better message
	}
	if d.noMirrors != "" {
		for _, m := range rt.Every {
			out.add(m, d.noMirrors)
		}
		return out
	}
	snap := s.run.index.Snapshot(rt)
	for _, m := range rt.Every {
		if _, was := before[m.ID]; was { // a grace brings no mirror back
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
		return out
	}
	if snap.Recheck > 0 {
		out.recheckIn(snap.Recheck)
	}
	for _, v := range decision.Verdicts {
		if v.Park {
			out.add(v.Mirror, fmt.Sprintf("%s: %s", v.Reason, v.Detail))
			out.recheckIn(recheck)
		}
	}
	out.refuse(rt, decision.Findings)
	return out
}

// attached returns an object with the hosts, gateways and parents of the route that it is added to.
func attached(object map[string]any, stored *watched) map[string]any {
	if stored == nil || len(stored.attachment) == 0 {
		return object
	}
	object, spec := maps.Clone(object), maps.Clone(stored.attachment)
	own, _ := object["spec"].(map[string]any)
	maps.Copy(spec, own)
	object["spec"] = spec
	return object
}

// refuse leaves out the mirrors that admission would deny.
func (l *leftOut) refuse(rt *route.Route, findings []policy.Finding) {
	for _, f := range findings {
		l.refused = append(l.refused, f.Error())
		for rule, m := range rt.Every {
			// A finding is about one mirror, or about a whole rule.
			if strings.HasPrefix(f.Field, m.Path) || !strings.Contains(f.Field, "irror") && strings.HasPrefix(f.Field, rule.Path) {
				l.add(m, f.Error())
			}
		}
	}
}
