package compare

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// start is the simulated beginning of all tests.
var start = time.Unix(1_700_000_000, 0)

func timeOf(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(time.Second))) }

func newComparer(t testing.TB, o Options) *Comparer {
	t.Helper()
	c, err := New(&o, start)
	require.NoError(t, err)
	return c
}

// answer returns an answer with a body of JSON.
func answer(body string) Answer {
	return Answer{Status: 200, Fields: []Field{{"Content-Type", "application/json"}}, Body: []byte(body), Length: int64(len(body))}
}

// sampleOf returns the n-th triple, ten a second.
func sampleOf(n int, primary, variant, control string) *Sample {
	c := answer(control)
	return &Sample{
		Request: Request{Method: "GET", Path: "/cart", Hash: RequestHash("GET", "host", fmt.Sprint("/cart?n=", n), nil)},
		At:      start.Add(time.Duration(n) * time.Second / 10), Uniform: true, Primary: answer(primary), Variant: answer(variant), Control: &c,
	}
}

// fieldsOf compares three bodies and returns the fields that differ with their outcomes.
func fieldsOf(t testing.TB, ignore []string, three ...Answer) map[string]string {
	t.Helper()
	c := comparison{}
	for _, text := range ignore {
		i, err := ParseIgnore(text)
		require.NoError(t, err)
		c.ignore = append(c.ignore, i)
	}
	s := &Sample{Primary: three[0], Variant: three[1]}
	if len(three) > 2 {
		s.Control = &three[2]
	}
	names := map[string]string{}
	words := []string{"agree", "variant", "control", "equal", "unequal"}
	for _, f := range c.compare(s).fields {
		if f.value != allEqual || f.shape != allEqual {
			names[c.paths.name(f.path)] = words[f.value.outcome()] + "/" + words[f.shape.outcome()]
		}
	}
	return names
}
