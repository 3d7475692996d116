package routing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mirrorOf(t testing.TB, fields string) *Mirror {
	_, r := rule(t, mirrorRule(fields))
	return r.Mirrors[0]
}

// samples samples n requests in a row.
func samples(m *Mirror, n int) []bool {
	r := request("GET h /")
	out := make([]bool, n)
	for i := range out {
		out[i] = m.Sample(r)
	}
	return out
}

func count(samples []bool) (n int) {
	for _, is := range samples {
		if is {
			n++
		}
	}
	return n
}

// TestSampleExactly slides a window over the requests: every window must have exactly the expected number of
// copies.
func TestSampleExactly(t *testing.T) {
	for _, test := range []struct {
		fraction     string
		window, want int
	}{
		{``, 100, 100},
		{`"percent": 100`, 100, 100},
		{`"percent": 0`, 100, 0},
		{`"percent": 25`, 400, 100},
		{`"percent": 25`, 100, 25},
		{`"percent": 1`, 100, 1},
		{`"percent": 99`, 100, 99},
		{`"percent": 30`, 100, 30},
		{`"fraction": {"numerator": 1}`, 100, 1},
		{`"fraction": {"numerator": 2, "denominator": 7}`, 21, 6},
		{`"fraction": {"numerator": 5, "denominator": 1000}`, 1000, 5},
		{`"fraction": {"numerator": 1, "denominator": 10000}`, 20000, 2},
		{`"fraction": {"numerator": 2147483646, "denominator": 2147483647}`, 1000, 1000},
	} {
		t.Run(test.fraction, func(t *testing.T) {
			all := samples(mirrorOf(t, test.fraction), 2*test.window+1000)
			n := count(all[:test.window])
			for i := range len(all) - test.window {
				if n != test.want {
					t.Fatalf("%d copies in the window from request %d, want %d", n, i, test.want)
				}
				n += count(all[i+test.window:][:1]) - count(all[i:][:1])
			}
		})
	}
}

// TestSampleSpreads checks that the copies of any consecutive requests are within 2 of the percentage.
func TestSampleSpreads(t *testing.T) {
	for _, percent := range []int{1, 10, 25, 30, 33, 50, 75, 99} {
		all := samples(mirrorOf(t, fmt.Sprintf(`"percent": %d`, percent)), 400)
		for i := range all {
			n := 0
			for j := i; j < len(all); j++ {
				n += count(all[j : j+1])
				if want := float64((j-i+1)*percent) / 100; math.Abs(float64(n)-want) >= 2 {
					t.Fatalf("%d %%: %d copies of the requests %d to %d", percent, n, i, j)
				}
			}
		}
	}
}

// TestSampleIndependently checks that two mirrors of 50 % choose independently of each other, and that both
// requests of a client that alternates between two are copied.
func TestSampleIndependently(t *testing.T) {
	_, r := rule(t, `"filters": [
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "percent": 50}},
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 81}, "percent": 50}}],
	  "backendRefs": [{"name": "v1", "port": 80}]`)
	const n = 10000
	a, b := samples(r.Mirrors[0], n), samples(r.Mirrors[1], n)
	both, even := 0, 0
	for i := range n {
		if a[i] && b[i] {
			both++
		}
		if a[i] && i%2 == 0 {
			even++
		}
	}
	assert.Equal(t, n/2, count(a))
	assert.Equal(t, n/2, count(b))
	assert.InDelta(t, n/4, both, n/10)
	assert.InDelta(t, n/4, even, n/10)
}

func TestSampleConcurrently(t *testing.T) {
	m := mirrorOf(t, `"percent": 25`)
	var wg sync.WaitGroup
	var total atomic.Int64
	for range 16 {
		wg.Go(func() { total.Add(int64(count(samples(m, 1000)))) })
	}
	wg.Wait()
	assert.EqualValues(t, 4000, total.Load())
}

func TestSampleMethods(t *testing.T) {
	m := mirrorOf(t, `"percent": 50, "mirrorgate": {"methods": ["GET", "HEAD"]}`)
	n := 0
	for i := range 100 {
		r := request([]string{"GET h /", "POST h /", "HEAD h /", "get h /"}[i%4])
		if m.Sample(r) {
			assert.Contains(t, []string{"GET", "HEAD"}, r.Method)
			n++
		}
	}
	assert.Equal(t, 25, n, "half of the requests with these methods")
}

func TestSampleKeyed(t *testing.T) {
	const keys = 20000
	for _, test := range []struct {
		percent     int
		keyed, name string
	}{{1, `"header": "X-User"`, "x-user: %d"}, {25, `"header": "x-user"`, "X-USER: %d"}, {90, `"cookie": "sid"`, "Cookie: a=b; sid=%d;c"}} {
		fields := fmt.Sprintf(`"percent": %d, "mirrorgate": {"keyed": {%s}}`, test.percent, test.keyed)
		m, replica := mirrorOf(t, fields), mirrorOf(t, fields)
		n := 0
		for i := range keys {
			r := request("GET h /", fmt.Sprintf(test.name, i))
			verdict := m.Sample(r)
			if verdict {
				n++
			}
			if m.Sample(r) != verdict || replica.Sample(r) != verdict {
				t.Fatalf("key %d: the choice changed", i)
			}
		}
		p := float64(test.percent) / 100
		assert.InDelta(t, keys*p, n, 3*math.Sqrt(keys*p*(1-p)), test.keyed)
		assert.False(t, m.Sample(request("GET h /")), "a request without the key is not copied")
	}
}

// TestSampleKeyedStable fails if this version chooses other sessions than earlier versions.
func TestSampleKeyedStable(t *testing.T) {
	m := mirrorOf(t, `"percent": 50, "mirrorgate": {"keyed": {"header": "u"}}`)
	got := ""
	for c := 'a'; c <= 'z'; c++ {
		if m.Sample(request("GET h /", "u: "+string(c))) {
			got += string(c)
		}
	}
	assert.Equal(t, "bijklmnpqstuvwyz", got)
}

// TestSampleKeyedIndependently compares mirrors with the same key: mirrors to different targets choose
// independently, mirrors with equal seeds choose the same sessions.
func TestSampleKeyedIndependently(t *testing.T) {
	mirror := func(port int, seed string) string {
		return fmt.Sprintf(`{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": %d}, "percent": 50, "mirrorgate": {"keyed": {"header": "u", "seed": %q}}}}`, port, seed)
	}
	_, r := rule(t, `"filters": [`+mirror(80, "")+`,`+mirror(81, "")+`,`+mirror(80, "s")+`,`+mirror(81, "s")+`], "backendRefs": [{"name": "v1", "port": 80}]`)
	const n = 10000
	var both int
	for i := range n {
		req := request("GET h /", fmt.Sprint("u: ", i))
		if r.Mirrors[0].Sample(req) && r.Mirrors[1].Sample(req) {
			both++
		}
		if r.Mirrors[2].Sample(req) != r.Mirrors[3].Sample(req) {
			t.Fatalf("key %d: equal seeds gave different choices", i)
		}
	}
	assert.InDelta(t, n/4, both, 3*math.Sqrt(n*0.25*0.75))
}

func TestSampleDoesNotAllocate(t *testing.T) {
	counted := mirrorOf(t, `"percent": 25`)
	keyed := mirrorOf(t, `"percent": 25, "mirrorgate": {"keyed": {"cookie": "sid"}}`)
	r := request("GET h /")
	r.Header = oneField{"cookie", "theme=dark; sid=0123456789abcdef; x=y"}
	buf := make([]byte, 0, 64)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		counted.Sample(r)
		keyed.Sample(r)
		buf = counted.AppendHost(buf[:0], "cluster-1:8000")
	}))
}

func TestCookie(t *testing.T) {
	for cookie, want := range map[string]string{
		"sid=1": "1", "a=b; sid=1": "1", "sid=1; sid=2": "1", "sid=": "", "xsid=2;sid=1": "1", "sid=a=b": "a=b", "\tsid=1 ; b": "1",
	} {
		got, ok := key{cookie: "sid"}.of(request("GET h /", "cookie: "+cookie))
		assert.True(t, ok, cookie)
		assert.Equal(t, want, got, cookie)
	}
	for _, cookie := range []string{"", "sid", "SID=1", "a=sid=1", ";;; ;"} {
		_, ok := key{cookie: "sid"}.of(request("GET h /", "cookie: "+cookie))
		assert.False(t, ok, cookie)
	}
}

// TestSampleAnyFraction checks random fractions.
func TestSampleAnyFraction(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		den := 1 + random.IntN(500)
		num := random.IntN(den + 1)
		m := mirrorOf(t, fmt.Sprintf(`"fraction": {"numerator": %d, "denominator": %d}`, num, den))
		samples(m, random.IntN(den))
		for k := range 3 {
			require.Equal(t, num, count(samples(m, den)), "%d/%d, round %d", num, den, k)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	for _, fields := range []string{`"percent": 25`, `"percent": 25, "mirrorgate": {"keyed": {"header": "x-version"}}`} {
		b.Run(fields, func(b *testing.B) {
			m := mirrorOf(b, fields)
			r := request("GET h /")
			r.Header = oneField{"x-version", "7"}
			b.ReportAllocs()
			for b.Loop() {
				m.Sample(r)
			}
		})
	}
}
