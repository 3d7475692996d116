package routing

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPickStatus(t *testing.T) {
	for _, test := range []struct {
		refs   string
		name   string
		status int
	}{
		{``, "", 500},
		{`{"name": "v1", "port": 80, "weight": 0}`, "", 500},
		{`{"name": "missing", "port": 80}`, "missing:80", 500},
		{`{"name": "v1", "port": 81}`, "v1:81", 500},
		{`{"name": "v3", "port": 80}`, "v3:80", 0},
		{`{"name": "v2", "port": 81}`, "v2:81", 0},
		{`{"name": "v1", "port": 80}`, "v1:80", 0},
		{`{"name": "v3", "port": 80, "weight": 0}, {"name": "v1", "port": 80}`, "v1:80", 0},
	} {
		_, r := rule(t, `"backendRefs": [`+test.refs+`]`)
		b, status := r.Pick()
		assert.Equal(t, test.status, status, test.refs)
		if test.name == "" {
			assert.Nil(t, b, test.refs)
		} else {
			assert.Equal(t, test.name, b.Name, test.refs)
		}
	}
}

func TestPickByWeight(t *testing.T) {
	for _, test := range []struct {
		refs string
		want map[string]int // picks in one round
	}{
		{`{"name": "v1", "port": 80}, {"name": "v2", "port": 80}`, map[string]int{"v1:80": 1, "v2:80": 1}},
		{`{"name": "v1", "port": 80, "weight": 90}, {"name": "v2", "port": 80, "weight": 10}`, map[string]int{"v1:80": 90, "v2:80": 10}},
		{`{"name": "v1", "port": 80, "weight": 8}, {"name": "gone", "port": 80, "weight": 1}, {"name": "v3", "port": 80, "weight": 3}`, map[string]int{"v1:80": 8, "gone:80": 1, "v3:80": 3}},
		{`{"name": "v1", "port": 80, "weight": 999999}, {"name": "v2", "port": 80, "weight": 1}`, map[string]int{"v1:80": 999999, "v2:80": 1}},
	} {
		_, r := rule(t, `"backendRefs": [`+test.refs+`]`)
		for range 7 { // a round may begin at any request
			r.Pick()
		}
		got := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 2 { // concurrent callers share a round
			wg.Go(func() {
				own := map[string]int{}
				for range r.total / 2 {
					b, _ := r.Pick()
					own[b.Name]++
				}
				mu.Lock()
				defer mu.Unlock()
				for name, n := range own {
					got[name] += n
				}
			})
		}
		wg.Wait()
		for range r.total % 2 {
			b, _ := r.Pick()
			got[b.Name]++
		}
		assert.Equal(t, test.want, got)
	}
}

// TestPickSpreads checks every ten consecutive picks with weights of 90 and 10: the picks of the second
// backend must not be adjacent.
func TestPickSpreads(t *testing.T) {
	_, r := rule(t, `"backendRefs": [{"name": "v1", "port": 80, "weight": 90}, {"name": "v2", "port": 80, "weight": 10}]`)
	var picks []bool
	for range 200 {
		b, _ := r.Pick()
		picks = append(picks, b.Name == "v2:80")
	}
	for i := range 190 {
		n := 0
		for _, is := range picks[i : i+10] {
			if is {
				n++
			}
		}
		assert.LessOrEqual(t, n, 2, "picks from %d on", i)
	}
}

func TestTimeouts(t *testing.T) {
	_, r := rule(t, `"timeouts": {"request": "1m30s", "backendRequest": "500ms"}, "backendRefs": [{"name": "v1", "port": 80}]`)
	assert.Equal(t, Timeouts{Request: 90 * time.Second, BackendRequest: 500 * time.Millisecond}, r.Timeouts)
	_, r = rule(t, `"timeouts": {"request": "0s", "backendRequest": "5s"}, "backendRefs": [{"name": "v1", "port": 80}]`)
	assert.Equal(t, Timeouts{BackendRequest: 5 * time.Second}, r.Timeouts)
}

func TestInherit(t *testing.T) {
	const rules = `
	  "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "percent": 1}}],
	  "backendRefs": [{"name": "v1", "port": 80, "weight": 99}, {"name": "v3", "port": 80}]`
	table, r := rule(t, rules)
	req := request("GET h /")
	var picks, samples int
	for i := range 1000 {
		if i%7 == 0 { // reloads that are shorter than a round
			next, nr := rule(t, rules)
			next.Inherit(table)
			table, r = next, nr
		}
		if b, _ := r.Pick(); b.Name == "v3:80" {
			picks++
		}
		if r.Mirrors[0].Sample(req) {
			samples++
		}
	}
	assert.Equal(t, 10, picks)
	assert.Equal(t, 10, samples)
	table.Inherit(nil)
}
