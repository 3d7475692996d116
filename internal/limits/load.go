package limits

// maxLoad: how many requests a ready pod of the variant gets, against one of the primary.

import (
	"fmt"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// load is the load of a variant by the mirrors of a rule.
type load struct {
	mirrors []int
	// percent is that of one ready pod against one of the primary, primary and variant are their ready pods.
	percent          float64
	primary, variant int
}

// relieve lowers the mirrors whose variant gets more than a limit allows, or notes the breach. It comes after everything
// else, so that a mirror that copies less anyway is not lowered again. The share is exact, so it is never below the last step
// of a ramp that fits.
func (r *ruleLimits) relieve(l *Limit) {
	share := r.share
	if l.Action != Lower {
		share = func(i int) float64 { return r.rule.Mirrors[i].Percentage.Percent() }
	}
	for _, v := range r.loads(share) {
		if v.percent <= *l.MaxLoad*(1+rounding) {
			continue
		}
		message := fmt.Sprintf("MirrorLimit %q allows a pod of the variant %v %% of the requests of one of the primary; with %d ready beside %d it would get %.4g %%",
			l.Name, *l.MaxLoad, v.variant, v.primary, v.percent)
		if l.Action != Lower {
			r.breaches = append(r.breaches, Breach{
				Limit: l.Name, Action: l.Action, Bound: MaxLoad, Mirror: v.mirrors[len(v.mirrors)-1], Percent: v.percent, Message: message,
			})
			continue
		}
		for _, i := range v.mirrors {
			r.lower(i, route.ShareOf(share(i)**l.MaxLoad/v.percent+rounding), OverLoad, message)
		}
	}
}

// loads returns the loads of the rule's variants, in the order of their first mirrors. A variant or a primary whose pods
// are not known, or of which none is ready, has none.
func (r *ruleLimits) loads(share func(int) float64) []*load {
	var found []*load
	by := map[route.Target]*load{}
	whole := r.primary(-1)
	for i := range r.rule.Mirrors {
		m := &r.rule.Mirrors[i]
		target := m.Target.WithoutPort()
		variant, primary := r.pods[target], whole
		if m.Backend() >= 0 {
			primary = r.primary(m.Backend())
		}
		if variant == 0 || primary == 0 {
			continue
		}
		v := by[target]
		if v == nil {
			v = &load{variant: variant, primary: primary}
			by[target], found = v, append(found, v)
		}
		v.mirrors = append(v.mirrors, i)
		v.percent += share(i) * float64(primary) / float64(variant)
	}
	return found
}

// primary returns the number of ready pods of one of the rule's backends, or, for a negative index, of all that get
// requests.
func (r *ruleLimits) primary(backend int) int {
	if backend >= 0 {
		if backend >= len(r.rule.Backends) {
			return 0
		}
		return r.pods[r.rule.Backends[backend].WithoutPort()]
	}
	sum, counted := 0, map[route.Target]bool{}
	for _, b := range r.rule.Backends {
		if t := b.WithoutPort(); b.Receives && !counted[t] {
			counted[t] = true
			sum += r.pods[t]
		}
	}
	return sum
}
