// Package comparetest has pairs of small servers, each with the verdict that a comparison of them must reach. They
// hold the statistics to the truth: in a simulation of hours, and through a real proxy.
package comparetest

import (
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/compare"
)

// World is what the servers of one run share: chance and time. It may be used by several goroutines.
type World struct {
	mu   sync.Mutex
	rand *rand.Rand
	// Now returns the time of the run.
	Now func() time.Time
}

// NewWorld returns a world with a seed.
func NewWorld(seed uint64, now func() time.Time) *World {
	return &World{rand: rand.New(rand.NewPCG(seed, 17)), Now: now} //nolint:gosec // reproducible
}

// Uint64 returns a random number.
func (w *World) Uint64() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Uint64()
}

// Float returns a random number from 0 to below 1.
func (w *World) Float() float64 { return float64(w.Uint64()>>11) / (1 << 53) }

// Under returns a random number below n.
func (w *World) Under(n uint64) uint64 { return w.Uint64() % n }

// Servers are the servers of a run: replicas of the primary, and the variant.
type Servers struct {
	Primaries []http.Handler
	Variant   http.Handler
}

// Pair is a primary and a variant.
type Pair struct {
	Name  string
	Serve func(w *World) Servers
	// Verdict must be reached. Before that, and where it is Undecided for ever, Different must not be; Same must not be
	// where MayBeSame is not set and Verdict is not Same.
	Verdict   compare.Verdict
	MayBeSame bool
	// Field is named by Different; Says is a part of the summary in the end.
	Field, Says string
	// Rate is how many answers of the variant differ.
	Rate float64
	// Slower is the variant's latency divided by the primary's: 1 if 0.
	Slower float64
	// Path returns the n-th request's path; different ones by default. Writes is the number of the request that is a POST.
	Path   func(w *World, n int) string
	Writes int
	// Long is set for a pair that needs many requests.
	Long bool
}

// body answers with a body of JSON that is made for each request.
func body(of func(r *http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, of(r))
	})
}

// alike returns two replicas and a variant that are made in the same way.
func alike(of func(w *World) http.Handler) func(w *World) Servers {
	return func(w *World) Servers { return Servers{[]http.Handler{of(w), of(w)}, of(w)} }
}

// against returns two replicas with one body and a variant with another, each below an id that is noise.
func against(primary, variant string, rate float64) func(w *World) Servers {
	return func(w *World) Servers {
		text := func(s string) string { return fmt.Sprintf(`{"id":"%016x",%s}`, w.Uint64(), s) }
		one := body(func(*http.Request) string { return text(primary) })
		return Servers{[]http.Handler{one, one}, body(func(*http.Request) string {
			if w.Float() < rate {
				return text(variant)
			}
			return text(primary)
		})}
	}
}

// Catalogue returns all pairs.
func Catalogue() []Pair {
	return append(same(), append(different(), undecided()...)...)
}

// same are pairs that differ in nothing that the variant is the cause of.
func same() []Pair {
	return []Pair{
		{Name: "identical", Verdict: compare.Same, Serve: alike(func(*World) http.Handler { return body(func(*http.Request) string { return `{"a":1,"b":[1,2]}` }) })},
		{Name: "random ids", Verdict: compare.Same, Serve: alike(func(w *World) http.Handler {
			return body(func(*http.Request) string { return fmt.Sprintf(`{"id":"%016x","a":1}`, w.Uint64()) })
		})},
		{Name: "times", Verdict: compare.Same, Serve: alike(func(w *World) http.Handler {
			return body(func(*http.Request) string {
				return fmt.Sprintf(`{"at":%q,"a":1}`, w.Now().Add(time.Duration(w.Float()*1e9)).Format(time.RFC3339Nano))
			})
		})},
		{Name: "map order", Verdict: compare.Same, Serve: alike(func(w *World) http.Handler {
			return body(func(*http.Request) string {
				return []string{`{"a":1,"b":2,"c":[{"x":1,"y":2}]}`, `{"c":[{"y":2,"x":1}],"b":2,"a":1}`}[w.Under(2)]
			})
		})},
		{Name: "floating noise", Verdict: compare.Same, Serve: alike(func(w *World) http.Handler {
			return body(func(*http.Request) string { return fmt.Sprintf(`{"sum":%.17g}`, 0.1+w.Float()*1e-15) })
		})},
		{Name: "rare noise", Verdict: compare.Same, Serve: alike(func(w *World) http.Handler {
			return body(func(*http.Request) string { return fmt.Sprintf(`{"retried":%v}`, w.Float() < .01) })
		})},
		{Name: "Set-Cookie and ETag", Verdict: compare.Same, Serve: alike(func(w *World) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Etag", fmt.Sprintf(`"%x"`, w.Uint64()))
				rw.Header().Set("Set-Cookie", fmt.Sprintf("s=%d", w.Uint64()))
				_, _ = fmt.Fprint(rw, "hello")
			})
		})},
		{Name: "echoed Host", Verdict: compare.Same, Serve: alike(func(*World) http.Handler {
			return body(func(r *http.Request) string { return fmt.Sprintf(`{"host":%q,"a":1}`, r.Host) })
		})},
		{Name: "slow by 20 percent", Verdict: compare.Same, Slower: 1.2, Serve: alike(func(*World) http.Handler { return body(func(*http.Request) string { return `{"a":1}` }) })},
		{Name: "cold cache", Verdict: compare.Same, Serve: coldCache},
		{Name: "one client in a loop", Verdict: compare.Same, Says: "same on the 1 request seen", Path: func(*World, int) string { return "/cart" }, Serve: alike(func(*World) http.Handler {
			return body(func(*http.Request) string { return `{"a":1}` })
		})},
	}
}

// coldCache has a variant that reads each article for the first time when the replicas have read all.
func coldCache(*World) Servers {
	cache := func(warm bool) http.Handler {
		var mu sync.Mutex
		seen := map[string]bool{}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			w.Header().Set("X-Cache", map[bool]string{true: "HIT", false: "MISS"}[warm || seen[r.URL.Path]])
			seen[r.URL.Path] = true
			_, _ = fmt.Fprint(w, "article")
		})
	}
	return Servers{[]http.Handler{cache(true), cache(true)}, cache(false)}
}

// different are pairs whose variant behaves otherwise.
func different() []Pair {
	return []Pair{
		{Name: "always wrong", Verdict: compare.Different, Field: "body.price", Rate: 1, Serve: against(`"price":1`, `"price":2`, 1)},
		{Name: "wrong in 1 percent", Verdict: compare.Different, Field: "body.price", Rate: .01, MayBeSame: true, Serve: against(`"price":1`, `"price":2`, .01)},
		{Name: "wrong in 0.1 percent", Verdict: compare.Different, Field: "body.price", Rate: .001, MayBeSame: true, Long: true, Serve: against(`"price":1`, `"price":2`, .001)},
		{Name: "type", Verdict: compare.Different, Field: "body.price", Rate: 1, Serve: against(`"price":1`, `"price":"1"`, 1)},
		{Name: "missing", Verdict: compare.Different, Field: "body.price", Rate: 1, Serve: against(`"price":{"net":1,"tax":2},"a":1`, `"a":1`, 1)},
		{Name: "added", Verdict: compare.Different, Field: "body.b", Rate: 1, Serve: against(`"a":1`, `"a":1,"b":2`, 1)},
		{Name: "reordered", Verdict: compare.Different, Field: "body.items[]:order", Rate: 1, Serve: against(`"items":[1,2,3]`, `"items":[3,2,1]`, 1)},
		{Name: "404 on one route", Verdict: compare.Different, Field: "status", Rate: .1, Path: func(w *World, n int) string {
			return fmt.Sprintf("/%s/%d", [...]string{"cart", "cart", "cart", "cart", "cart", "cart", "cart", "cart", "cart", "list"}[w.Under(10)], n)
		}, Serve: func(*World) Servers {
			one := body(func(*http.Request) string { return `{"a":1}` })
			return Servers{[]http.Handler{one, one}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if len(r.URL.Path) > 5 && r.URL.Path[:5] == "/list" {
					http.NotFound(w, r)
					return
				}
				one.ServeHTTP(w, r)
			})}
		}},
		{Name: "gzip on one side", Verdict: compare.Different, Field: "header content-encoding", Rate: 1, Serve: func(*World) Servers {
			one := body(func(*http.Request) string { return `{"a":1}` })
			return Servers{[]http.Handler{one, one}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				_, _ = fmt.Fprint(z, `{"a":1}`)
				_ = z.Close()
			})}
		}},
		{Name: "bursts", Verdict: compare.Different, Field: "body.price", Rate: .05, Path: func(_ *World, n int) string { return fmt.Sprint("/cart/", n/10) }, Serve: func(*World) Servers {
			one := body(func(*http.Request) string { return `{"price":1}` })
			return Servers{[]http.Handler{one, one}, body(func(r *http.Request) string {
				var n int
				_, _ = fmt.Sscanf(r.URL.Path, "/cart/%d", &n)
				if n%20 == 7 {
					return `{"price":2}`
				}
				return `{"price":1}`
			})}
		}},
	}
}

// undecided are pairs that deserve no verdict, and never Different.
func undecided() []Pair {
	return []Pair{
		{Name: "a stale value for a minute", Verdict: compare.Undecided, MayBeSame: true, Serve: alike(func(w *World) http.Handler {
			var mu sync.Mutex
			var minute int64
			value := uint64(0)
			return body(func(*http.Request) string {
				mu.Lock()
				defer mu.Unlock()
				if now := w.Now().Unix() / 60; now != minute {
					minute, value = now, w.Under(2)
				}
				return fmt.Sprintf(`{"rate":%d}`, value)
			})
		})},
		{Name: "one of three replicas", Verdict: compare.Undecided, Says: "replicas of the primary differ", Serve: func(*World) Servers {
			one := body(func(*http.Request) string { return `{"flag":true}` })
			return Servers{[]http.Handler{one, one, body(func(*http.Request) string { return `{"flag":false}` })}, one}
		}},
		{Name: "state that drifts", Verdict: compare.Undecided, MayBeSame: true, Writes: 200, Says: "since a write", Serve: func(*World) Servers {
			var mu sync.Mutex
			orders := 0
			shared := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Method == http.MethodPost {
					orders++
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprintf(w, `{"orders":%d}`, orders)
			})
			return Servers{[]http.Handler{shared, shared}, body(func(*http.Request) string { return `{"orders":0}` })}
		}},
	}
}
