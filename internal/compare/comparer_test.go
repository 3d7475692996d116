package compare

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// run adds n triples, ten a second, and returns the report.
func run(t testing.TB, c *Comparer, n int, of func(n int) *Sample) *Report {
	t.Helper()
	w := c.Worker()
	var last time.Time
	for i := range n {
		s := of(i)
		last = s.At
		w.Add(s)
	}
	return c.Report(last)
}

func TestVerdicts(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	id := func() string { return fmt.Sprintf(`{"id":"%016x","at":%d,"price":1}`, r.Uint64(), r.Uint64N(1e9)) }
	for _, tt := range []struct {
		name    string
		n       int
		of      func(n int) *Sample
		verdict Verdict
		summary string
	}{
		{"equal", 400, func(n int) *Sample { return sampleOf(n, `{"a":1}`, `{"a":1}`, `{"a":1}`) }, Same, "same: fewer than 0.91% of answers differ"},
		{"too few", 100, func(n int) *Sample { return sampleOf(n, `{"a":1}`, `{"a":1}`, `{"a":1}`) }, Undecided, "undecided: about 263 more requests"},
		{"noise alone", 600, func(n int) *Sample { return sampleOf(n, id(), id(), id()) }, Same, "same: fewer than"},
		{"so far", 60, func(n int) *Sample { return sampleOf(n, `{"price":1}`, `{"price":2}`, `{"price":1}`) }, Undecided, "undecided: body.price differs so far, in 100%; sure in about 14 minutes"},
		{"always", 20 * 600, func(n int) *Sample { return sampleOf(n, `{"price":1}`, `{"price":"1"}`, `{"price":1}`) }, Different, "different: GET /cart body.price"},
		{"in noise", 20 * 600, func(n int) *Sample {
			return sampleOf(n, id(), strings.Replace(id(), `"price":1`, `"price":2`, 1), id())
		}, Different, "different: GET /cart body.price"},
		{"copies", 600, func(n int) *Sample { return sampleOf(n, `{"host":"a"}`, `{"host":"a-shadow"}`, `{"host":"a-shadow"}`) }, Same, "same: fewer than"},
		{"other replicas", 20 * 600, func(n int) *Sample {
			three := [3]string{`{"a":1}`, `{"a":1}`, `{"a":2}`}
			from := r.IntN(3)
			return sampleOf(n, three[from], `{"a":1}`, three[(from+1+r.IntN(2))%3])
		}, Undecided, "undecided: replicas of the primary differ in body.a"},
		{"one request", 1000, func(n int) *Sample {
			s := sampleOf(n, `{"a":1}`, `{"a":1}`, `{"a":1}`)
			if n%2 == 0 {
				s.Hash = 1
			}
			return s
		}, Undecided, "undecided: one request makes 5"},
		{"few requests", 1000, func(n int) *Sample { return sampleOf(n%7, `{"a":1}`, `{"a":1}`, `{"a":1}`) }, Same, "same on the 7 requests seen: fewer than 0.37%"},
		{"pairs alike", 400, func(n int) *Sample {
			s := sampleOf(n, `{"a":1}`, `{"a":1}`, ``)
			s.Method, s.Control = "POST", nil
			return s
		}, Same, "same: fewer than 0.91%"},
		{"pairs apart", 20 * 600, func(n int) *Sample {
			s := sampleOf(n, `{"a":1}`, fmt.Sprintf(`{"a":%d}`, 1+n%2), ``)
			s.Method, s.Control = "POST", nil
			return s
		}, Undecided, "undecided: body.a differs in 50% (at least 48%), cause not separated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report := run(t, newComparer(t, Options{Control: true}), tt.n, tt.of)
			assert.Equal(t, tt.verdict, report.Verdict, report.Summary)
			assert.True(t, strings.HasPrefix(report.Summary, tt.summary), "%s, want %s", report.Summary, tt.summary)
			for _, e := range report.Endpoints {
				t.Logf("%s %s %v", e.Key, e.Summary, e.Whole)
				for _, f := range e.Fields {
					t.Logf("  %+v", f)
				}
			}
		})
	}
}

// A variant whose own state drifts after the first write is not accused.
func TestDifferencesThatBeginWithAWrite(t *testing.T) {
	for _, before := range []int{0, 100} {
		c := newComparer(t, Options{Control: true})
		report := run(t, c, 25*600, func(n int) *Sample {
			if n == before {
				c.Wrote()
			}
			count := min(1, max(0, n-before))
			return sampleOf(n, fmt.Sprintf(`{"orders":%d}`, count), `{"orders":0}`, fmt.Sprintf(`{"orders":%d}`, count))
		})
		if before == 0 {
			assert.Equal(t, Different, report.Verdict, "nothing is known of the time before the write")
			continue
		}
		assert.Equal(t, Undecided, report.Verdict)
		assert.Equal(t, "undecided: body.orders differs since a write, and not before: the variant's own state may have drifted", report.Summary)
	}
}

func TestEpochsBeginAnew(t *testing.T) {
	c := newComparer(t, Options{Control: true})
	run(t, c, 400, func(n int) *Sample { return sampleOf(n, `{"a":1}`, `{"a":1}`, `{"a":1}`) })
	c.Begin("", start.Add(time.Hour))
	require.Equal(t, uint64(400), c.Report(start.Add(time.Hour)).Triples, "the same epoch goes on")
	c.Begin("variant 2", start.Add(time.Hour))
	report := c.Report(start.Add(2 * time.Hour))
	assert.Equal(t, Undecided, report.Verdict)
	assert.Zero(t, report.Triples)
	require.Len(t, report.Epochs, 1)
	assert.Equal(t, Same, report.Epochs[0].Verdict)
	for n := range 10 {
		c.Begin(fmt.Sprint("variant ", n), start.Add(time.Hour))
		run(t, c, 1, func(n int) *Sample { return sampleOf(n, `{"a":1}`, `{"a":1}`, `{"a":1}`) })
	}
	assert.Len(t, c.Report(start.Add(2*time.Hour)).Epochs, maxEpochs)
}

func TestWholeObjectsAreNamedOnce(t *testing.T) {
	p := `{"a":{"b":1,"c":{"d":[1,2]}},"e":1}`
	report := run(t, newComparer(t, Options{Control: true}), 40*600, func(n int) *Sample { return sampleOf(n, p, `{"e":1}`, p) })
	require.Equal(t, Different, report.Verdict)
	require.Len(t, report.Endpoints[0].Fields, 1)
	assert.Equal(t, "body.a", report.Endpoints[0].Fields[0].Field)
	assert.Equal(t, "missing", report.Endpoints[0].Fields[0].Kind)
	assert.Equal(t, "object → absent", report.Endpoints[0].Fields[0].Example)
}

// A slower variant is named from one and a half times on, and decides nothing.
func TestSlowerVariant(t *testing.T) {
	for factor, slower := range map[float64]bool{1: false, 1.2: false, 2.2: true} {
		r := rand.New(rand.NewPCG(7, 8))
		took := func(f float64) time.Duration {
			return time.Duration(f * (20 + 10*r.Float64()) * float64(time.Millisecond))
		}
		report := run(t, newComparer(t, Options{Control: true}), 40*600, func(n int) *Sample {
			s := sampleOf(n, `{}`, `{}`, `{}`)
			s.Variant.Latency, s.Control.Latency = took(factor), took(1)
			return s
		})
		assert.Equal(t, Same, report.Verdict)
		assert.Equal(t, slower, report.Endpoints[0].Slower >= 1.5, "%v: %v", factor, report.Endpoints[0].Slower)
	}
}
