// Package pagetest has a report with everything that a page shows, for tests of text and for browsers.
package pagetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/compare"
)

// article is one kind of request: of every few, with the answers of primary, variant and control.
type article struct {
	path    string
	every   int
	answers func(r *rand.Rand) (primary, variant, control string)
}

func shop() []article {
	id := func(r *rand.Rand) string { return fmt.Sprintf("%016x", r.Uint64()) }
	alike := func(of func(r *rand.Rand) string) func(r *rand.Rand) (string, string, string) {
		return func(r *rand.Rand) (string, string, string) { return of(r), of(r), of(r) }
	}
	return []article{
		{"/cart/%d", 1, func(r *rand.Rand) (string, string, string) {
			of := func(price string) string { return fmt.Sprintf(`{"id":"%s","price":%s,"items":[1,2]}`, id(r), price) }
			return of("17"), of(`"17"`), of("17")
		}},
		{"/articles/%d/reviews/newest", 1, alike(func(r *rand.Rand) string { return fmt.Sprintf(`{"stars":%d}`, 5+r.IntN(400)/399) })},
		{"/health", 40, alike(func(*rand.Rand) string { return `{"up":true}` })},
		{"/recommendations/for-a-customer/with-a-long-path/%d", 1, func(r *rand.Rand) (string, string, string) {
			return `{"list":[1]}`, `{"list":[1]}`, fmt.Sprintf(`{"list":[%d]}`, 1+r.IntN(4)/3)
		}},
		{"/stock/%d", 3, func(r *rand.Rand) (string, string, string) {
			return `{"left":3}`, fmt.Sprintf(`{"left":%d}`, 3+r.IntN(60)/59), `{"left":3}`
		}},
	}
}

// Report returns the report of forty minutes, after an epoch of twenty.
func Report() *compare.Report {
	r, begin := rand.New(rand.NewPCG(1, 2)), time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC) //nolint:gosec // reproducible
	c, err := compare.New(&compare.Options{Control: true}, begin)
	if err != nil {
		panic(err)
	}
	c.Begin("web-v1 to web-v2 (7c9d)", begin)
	w, shop := c.Worker(), shop()
	for n := range 60 * 60 {
		now := begin.Add(time.Duration(n) * time.Second)
		if n == 20*60 {
			c.Begin("web-v1 to web-v2 (b41f)", now)
		}
		for i, a := range shop {
			if n%a.every != 0 {
				continue
			}
			p, v, k := a.answers(r)
			path := a.path
			if i != 2 {
				path = fmt.Sprintf(a.path, n)
			}
			of := func(body string) compare.Answer {
				return compare.Answer{Status: 200, Body: []byte(body), Length: int64(len(body)), Fields: []compare.Field{{Name: "Content-Type", Value: "application/json"}}}
			}
			control := of(k)
			w.Add(&compare.Sample{
				Request: compare.Request{Method: "GET", Path: path, Hash: compare.RequestHash("GET", "shop", path, nil)}, At: now, Uniform: true,
				Primary: of(p), Variant: of(v), Control: &control,
			})
			if n%9 == 0 {
				c.Skip(compare.SkippedRepeated)
			}
		}
		for range 20 {
			c.Skip(compare.SkippedNotDrawn)
		}
		if n%600 == 0 {
			c.Skip(compare.SkippedControl)
			c.Skip("copy_paused")
		}
	}
	return c.Report(begin.Add(time.Hour))
}
