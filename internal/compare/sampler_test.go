package compare

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSamplerKeepsItsCap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := NewSampler(1, DefaultControls, time.Minute, r.Float64, start)
	drawn := map[Draw]int{}
	for n := range 100_000 { // 1,000 requests a second, all of endpoints that were seen rarely
		drawn[s.Draw(start.Add(time.Duration(n)*time.Millisecond), func() bool { return true })]++
	}
	assert.InDelta(t, 400, drawn[Uniform], 10)
	assert.InDelta(t, 100, drawn[Boosted], 10)
}

func TestSamplerDrawsAShare(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := NewSampler(.25, 0, time.Minute, r.Float64, start)
	drawn := 0
	for n := range 10_000 {
		if s.Draw(start.Add(time.Duration(n)*time.Millisecond), func() bool { t.Fatal("without a cap there is no boost"); return false }) != NotDrawn {
			drawn++
		}
	}
	assert.InDelta(t, 2500, drawn, 200)
}

// An endpoint that was compared often is not boosted.
func TestSamplerBoostsRareEndpoints(t *testing.T) {
	s := NewSampler(.001, 5, time.Minute, func() float64 { return .5 }, start)
	boosted := map[bool]int{}
	for n := range 10_000 {
		rare := n%100 == 0
		if s.Draw(start.Add(time.Duration(n)*time.Millisecond), func() bool { return rare }) == Boosted {
			boosted[rare]++
		}
	}
	assert.Positive(t, boosted[true])
	assert.Zero(t, boosted[false])
}

func TestSamplerDrawsNoRequestTwice(t *testing.T) {
	s := NewSampler(1, 0, time.Minute, func() float64 { return 0 }, start)
	assert.True(t, s.Fresh(7, start))
	assert.False(t, s.Fresh(7, start.Add(time.Second)))
	assert.True(t, s.Fresh(8, start.Add(time.Second)))
	assert.False(t, s.Fresh(7, start.Add(59*time.Second)))
	assert.True(t, s.Fresh(7, start.Add(76*time.Second)))
}

func TestCollectorDropsPastItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newComparer(t, Options{Control: true})
		k := NewCollector(c)
		assert.True(t, k.Reserve(bodyBudget))
		assert.False(t, k.Reserve(1))
		k.Release(bodyBudget)
		assert.Zero(t, k.Held())
		var done atomic.Int64
		gate := make(chan struct{})
		for n := range workers { // both workers wait in done
			k.Submit(sampleOf(n, `{}`, `{}`, `{}`), func() { <-gate })
		}
		synctest.Wait()
		for n := range queueSize + 10 {
			k.Submit(sampleOf(n, `{}`, `{}`, `{}`), func() { done.Add(1) })
			if n >= queueSize {
				assert.Equal(t, int64(n-queueSize+1), done.Load(), "a sample without room ends at once")
			}
		}
		close(gate)
		k.Close()
		report := c.Report(start)
		assert.Equal(t, uint64(queueSize+workers), report.Triples)
		assert.Equal(t, uint64(10), report.Skipped[SkippedQueue])
		k.Submit(sampleOf(0, `{}`, `{}`, `{}`), func() {})
		assert.Equal(t, uint64(queueSize+workers), c.Report(start).Triples, "after Close nothing is compared")
	})
}
