package iter8

// A template once more, as if the versions did not exist whose mirrors are left out.

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// maxTrials bounds the executions that look for the versions behind mirrors: each may take 0.2 s.
const maxTrials = 8

// reduced is the result of a template without some of its mirrors.
type reduced struct {
	// without identifies the mirrors.
	without string
	// object is nil where no version brings one of them.
	object map[string]any
}

// renderWithout executes the template of a route with weight 0 for the versions that bring a mirror which is left
// out. It returns nil where there is no such version. The caller may change the result.
func (s *namespaceState) renderWithout(d *desired, out *leftOut) map[string]any {
	r := d.rendered
	if r == nil || len(out.mirrors) == 0 {
		return nil
	}
	var ids []string
	for _, m := range out.mirrors {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	if without := fmt.Sprint(ids); r.reduced == nil || r.reduced.without != without {
		r.reduced = &reduced{without: without, object: s.reduce(d, out)}
	}
	if r.reduced.object == nil {
		return nil
	}
	return runtime.DeepCopyJSON(r.reduced.object)
}

func (s *namespaceState) reduce(d *desired, out *leftOut) map[string]any {
	r := d.rendered
	weights := slices.Clone(r.weights)
	all, trials := s.targets(r.object), 0
	for i, weight := range r.weights {
		if i == 0 || weight == 0 || trials == maxTrials { // without its primary there is no route
			continue
		}
		trials++
		less := slices.Clone(r.weights)
		less[i] = 0
		if have := s.targets(d.renderTo(less)); have != nil && slices.ContainsFunc(out.mirrors, func(m *route.Mirror) bool {
			return have[m.Target] < all[m.Target]
		}) {
			weights[i] = 0
		}
	}
	if slices.Equal(weights, r.weights) {
		return nil
	}
	return d.renderTo(weights)
}

// renderTo returns the template's result for weights; nil if that is not the same route.
func (d *desired) renderTo(weights []uint32) map[string]any {
	if !slices.ContainsFunc(weights, func(w uint32) bool { return w > 0 }) {
		weights[0] = 1
	}
	object, invalid := d.Routemap.Render(d.rendered.template, weights)
	if invalid != nil || object == nil || (&desired{object: object}).key() != d.key() {
		return nil
	}
	return object
}

// targets counts the mirrors of an object by their targets; it returns nil for one that cannot be read.
func (s *namespaceState) targets(object map[string]any) map[route.Target]int {
	if object == nil {
		return nil
	}
	rt, err := s.decode(object)
	if err != nil {
		return nil
	}
	count := map[route.Target]int{}
	for _, m := range rt.Every {
		count[m.Target]++
	}
	return count
}
