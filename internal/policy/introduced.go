package policy

// Which findings a write introduced. A write is denied only for a mirror that is new, or copies more than
// before, or is wrong in another way than before.

import (
	"cmp"
	"slices"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Introduced returns the findings that a write introduced, and those that the route had before it. A finding
// that was known before never denies the write of another change; nor does turning a mirror down or off,
// whatever else is wrong with it.
func Introduced(now, before Decision) (introduced, known []Finding) {
	left := make(map[identity][]float64, len(before.Findings))
	for _, f := range before.Findings {
		left[f.identity] = append(left[f.identity], f.percent)
	}
	for _, percents := range left {
		slices.Sort(percents)
	}
	wasKnown := make([]bool, len(now.Findings))
	matchEqual(now.Findings, left, wasKnown)
	matchLower(now.Findings, left, wasKnown)
	lowered := loweredTargets(now.Verdicts, before.Verdicts)
	for i, f := range now.Findings {
		// A percentage that cannot be read lowers nothing, nor does a mirror whose parked twin is lost.
		lower := lowered[f.identity.target] && f.Reason != PercentOutOfRange && f.Reason != MirrorReplaced
		if wasKnown[i] || lower {
			known = append(known, f)
		} else {
			introduced = append(introduced, f)
		}
	}
	return introduced, known
}

// matchEqual marks the findings that were there before with the same share, and takes those out of left.
func matchEqual(findings []Finding, left map[identity][]float64, wasKnown []bool) {
	type exact struct {
		identity
		percent float64
	}
	if len(left) == 0 {
		return
	}
	matched := make(map[exact]int, len(left))
	for id, percents := range left {
		for _, p := range percents {
			matched[exact{id, p}]++
		}
	}
	taken := make(map[exact]int, len(left))
	for i, f := range findings {
		if key := (exact{f.identity, f.percent}); taken[key] < matched[key] {
			taken[key]++
			wasKnown[i] = true
		}
	}
	for id, percents := range left {
		left[id] = slices.DeleteFunc(percents, func(p float64) bool {
			key := exact{id, p}
			taken[key]--
			return taken[key] >= 0
		})
	}
}

// matchLower marks the findings that were there before with a larger share: the smallest first, each with the
// smallest earlier share that is at least as large, so that the fewest are left.
func matchLower(findings []Finding, left map[identity][]float64, wasKnown []bool) {
	order := make([]int, len(findings))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(findings[a].percent, findings[b].percent) })
	for _, i := range order {
		if wasKnown[i] {
			continue
		}
		percents := left[findings[i].identity]
		for len(percents) > 0 && percents[0] < findings[i].percent {
			percents = percents[1:]
		}
		if len(percents) > 0 {
			wasKnown[i], percents = true, percents[1:]
		}
		left[findings[i].identity] = percents
	}
}

// loweredTargets returns the targets to which a write copies less than before: in sum, and with no mirror that
// copies more than the largest before.
func loweredTargets(now, before []Verdict) map[route.Target]bool {
	type copied struct {
		sum, most float64
		mirrors   int
	}
	count := func(verdicts []Verdict) map[route.Target]copied {
		out := make(map[route.Target]copied, len(verdicts))
		for _, v := range verdicts {
			p, c := v.Mirror.Percentage.Percent(), out[v.Mirror.Target]
			out[v.Mirror.Target] = copied{c.sum + p, max(c.most, p), c.mirrors + 1}
		}
		return out
	}
	earlier := count(before)
	lowered := map[route.Target]bool{}
	for target, n := range count(now) {
		b, there := earlier[target]
		lowered[target] = there && n.sum < b.sum && n.most <= b.most && n.mirrors <= b.mirrors
	}
	return lowered
}
