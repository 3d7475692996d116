package variant

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Admission reads while feeds write, for the race detector.
func TestConcurrentUse(t *testing.T) {
	i := NewIndex(Options{Grace: time.Nanosecond})
	i.Subscribe(func(keys []route.Key) {
		for _, key := range keys {
			i.Route(key) // a subscriber is called without a lock
		}
	})
	resolver := NewResolver(i, &fakeReader{index: NewIndex(Options{})}, func() bool { return true })
	rt := httpRoute("n1/x", "n1/a", "n1/b", "n2/c")
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		c := &cluster{Index: i, t: t}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 2))
			for range 200 {
				o := newRandomObject(r)
				c.apply(o.obj)
				o = newRandomObject(r)
				i.Delete(o.kind, o.name.Namespace, o.name.Name)
			}
		})
		wg.Go(func() {
			for range 200 {
				if _, err := resolver.Resolve(t.Context(), rt); err != nil {
					t.Error(err)
				}
				i.Counts()
			}
		})
	}
	wg.Wait()
}
