package compare

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// randomTotals returns totals as a replica could have them, of few endpoints and fields so that they overlap.
func randomTotals(r *rand.Rand) *Totals {
	t := NewTotals()
	t.Wrote = r.IntN(4) == 0
	t.Skipped[fmt.Sprint("reason", r.IntN(2))] = r.Uint64N(5)
	for range 1 + r.IntN(3) {
		e := &EndpointTotals{Triples: Group{Fields: map[uint64]*FieldTotals{}}}
		g := &e.Triples
		for range r.IntN(4) {
			hash := r.Uint64N(3)
			f := &FieldTotals{Name: fmt.Sprint("field", hash), Primary: Shape(r.Uint32N(64)), Variant: Shape(r.Uint32N(64)), Earlier: r.Uint64N(20)}
			for range r.IntN(200) {
				f.Value.add(equality(r.UintN(8)), r.Int64N(500))
				f.example(StatusPair{200 + r.IntN(3), 400 + r.IntN(5)})
			}
			g.Fields[hash] = f
		}
		for range r.IntN(300) {
			g.Whole.add(equality(r.UintN(8)), r.Int64N(1<<uint(r.IntN(20))))
			e.Requests.add(r.Uint64N(60))
			e.Latency.add(1+timeOf(r), 1+timeOf(r), r.Int64N(100))
		}
		t.Endpoints[Key{Method: "GET", Path: fmt.Sprint("/", r.IntN(3))}] = e
	}
	return t
}

func sum(parts ...*Totals) *Totals {
	t := NewTotals()
	for _, p := range parts {
		t.Merge(p)
	}
	return t
}

// Sums over replicas do not depend on the order in which they are added, nor on who adds first.
func TestMergingIsAssociativeAndCommutative(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b, c := randomTotals(r), randomTotals(r), randomTotals(r)
		one := sum(a, b, c)
		for name, other := range map[string]*Totals{"commutative": sum(c, b, a), "associative": sum(a, sum(b, c)), "left": sum(sum(c, a), b)} {
			if !assert.Equal(t, one, other, "%s, seed %d", name, seed) {
				return
			}
		}
	}
}

// Samples that are spread over replicas have the sum that one replica would have that saw all of them.
func TestSumsOfReplicasAreThoseOfOne(t *testing.T) {
	whole := newComparer(t, Options{Control: true})
	parts := []*Comparer{newComparer(t, Options{Control: true}), newComparer(t, Options{Control: true}), newComparer(t, Options{Control: true})}
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 3000 {
		odd := r.IntN(20) // no noise: replicas would know of it at different times
		s := sampleOf(n, `{"price":0}`, fmt.Sprintf(`{"price":%d}`, odd/18), fmt.Sprintf(`{"price":%d}`, 2*(1-min(odd, 1))))
		whole.Worker().Add(s)
		parts[r.IntN(len(parts))].Worker().Add(s)
	}
	merged := sum(parts[0].Totals(), parts[1].Totals(), parts[2].Totals())
	want := whole.Totals()
	for _, totals := range []*Totals{merged, want} {
		for _, e := range totals.Endpoints {
			for _, f := range e.Triples.Fields {
				f.Value.Agree, f.Shape.Agree, f.Earlier = 0, 0, 0 // counted from a field's first difference on, in each replica
			}
		}
	}
	assert.Equal(t, want, merged)
}
