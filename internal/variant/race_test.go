package variant

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"k8s.io/utils/clock"

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

// yielding is a clock that lets other goroutines run whenever it is read, and then calls read.
type yielding struct {
	clock.PassiveClock
	read func()
}

func (y *yielding) Now() time.Time {
	runtime.Gosched()
	y.read()
	return y.PassiveClock.Now()
}

// A decision on a route with thousands of mirrors does not keep events from the Index until it is made.
func TestEventsPassDuringALargeDecision(t *testing.T) {
	c := newCluster(t, serviceOf("shop/b", "app=b"), deployment("shop/b", "app=b", 1), podOf("shop/p", "app=b", replicaSet), sliceOf("shop/s", "b", "p"))
	c.apply(sliceOf("shop/s", "b", "!p")) // a loss, for which the clock is read with each mirror
	var rules []string
	for n := range 2_000 {
		rules = append(rules, fmt.Sprintf(`{"mirror": {"host": "b", "subset": "s%d"}}`, n))
	}
	var subsets []string
	for n := range rules {
		subsets = append(subsets, fmt.Sprintf(`{name: s%d, labels: {app: b}}`, n))
	}
	c.apply(`{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {namespace: shop, name: r}, spec: {host: b, subsets: [` + strings.Join(subsets, ", ") + `]}}`)
	rt := istioRoute("shop/v", `{"hosts": ["a"], "http": [`+strings.Join(rules, ",")+`]}`)
	var once sync.Once
	var events sync.WaitGroup
	var passed atomic.Bool
	during := false
	c.opts.Clock = &yielding{c.opts.Clock, func() {
		once.Do(func() {
			events.Go(func() {
				c.Delete(KindService, "shop", "other")
				passed.Store(true)
			})
		})
		during = during || passed.Load()
	}}
	c.Snapshot(rt)
	assert.True(t, during, "the event waited for the whole decision")
	events.Wait()
}
