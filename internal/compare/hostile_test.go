package compare

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// hostile are bodies that broke earlier tools, or would cost much.
func hostile() map[string]string {
	var many, words, pairs []string
	for n := range 10_000 {
		many = append(many, fmt.Sprintf(`"f%d":1`, n))
		pairs = append(pairs, fmt.Sprintf(`{"a":%d}`, n%10))
	}
	for n := range 4000 {
		words = append(words, fmt.Sprintf(`"%s":1`, word(n)))
	}
	wide := `{"a":1}`
	for n := range 12 {
		wide = fmt.Sprintf(`{"%s":%s,"%s":%s}`, word(n), wide, word(n+100), wide)
	}
	return map[string]string{
		"many fields": "{" + strings.Join(many, ",") + "}", "many words": "{" + strings.Join(words, ",") + "}",
		"array":        "[" + strings.TrimSuffix(strings.Repeat("1,", 32_000), ",") + "]",
		"pairs":        "[" + strings.Join(pairs[:6000], ",") + "]",
		"nested":       strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"very nested":  strings.Repeat(`{"a":`, 12_000) + "1" + strings.Repeat("}", 12_000),
		"wide":         wide,
		"number":       "[" + strings.Repeat("9", 60_000) + "]",
		"exponent":     `[1e999999999999999999999,-1E-999999999999999999999]`,
		"text":         `"` + strings.Repeat("a", 60_000) + `"`,
		"escapes":      `"` + strings.Repeat(`\u0061`, 10_000) + `"`,
		"empty arrays": "[" + strings.TrimSuffix(strings.Repeat("[],", 20_000), ",") + "]",
		"e-mail":       `{"ann@example.org":{"bob@example.org":1}}`,
		"spaces":       strings.Repeat(" ", 60_000) + "{}",
		"zeros":        strings.Repeat("\x00", 60_000),
	}
}

// Hostile bodies cost bounded time and memory, and never panic. A control in the same test measures the machine.
func TestHostileBodies(t *testing.T) {
	c := newComparer(t, Options{Control: true})
	w := c.Worker()
	measure := func(body string) time.Duration {
		s := sampleOf(0, body, strings.Replace(body, "1", "2", 1)+" ", body)
		begin := time.Now()
		w.Add(s)
		return time.Since(begin)
	}
	plain := "[" + strings.TrimSuffix(strings.Repeat(`{"a":1,"b":"text"},`, 3400), ",") + "]"
	control := max(measure(plain), measure(plain))
	for name, body := range hostile() {
		took := min(measure(body), measure(body))
		assert.Less(t, took, 20*control+100*time.Millisecond, name)
		assert.LessOrEqual(t, len(w.comparison.paths.list), 2*maxPaths, name)
	}
}

// The totals stay within their bound whatever clients and variants invent, and the estimate of their size is honest.
func TestMemory(t *testing.T) {
	c := newComparer(t, Options{Control: true})
	before := heap()
	w := c.Worker()
	r := rand.New(rand.NewPCG(9, 10))
	for n := range 4_000 {
		var fields []string
		for range 60 {
			fields = append(fields, fmt.Sprintf(`"%s":"%d"`, word(r.IntN(30_000)), r.IntN(3)))
		}
		v := "{" + strings.Join(fields, ",") + "}"
		s := sampleOf(n, `{}`, v, `{}`)
		s.Path = "/" + word(r.IntN(55)) + "/" + word(r.IntN(19))
		s.At = start.Add(time.Duration(n) * 10 * time.Second)
		w.Add(s)
	}
	grown := heap() - before
	t.Logf("%d KiB, counted as %d KiB, %d endpoints", grown>>10, c.used>>10, len(c.totals.Endpoints))
	assert.Greater(t, c.used, maxState*3/4, "the test reaches the bound")
	assert.Less(t, c.used, maxState+maxState/8)
	assert.Less(t, grown, int64(16<<20)-bodyBudget, "with the bodies that wait it must stay within 16 MiB")
	runtime.KeepAlive(c)
	runtime.KeepAlive(w)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func FuzzCompare(f *testing.F) {
	for _, body := range hostile() {
		if len(body) < 1000 {
			f.Add([]byte(body), []byte("{}"), uint8(0))
		}
	}
	f.Add([]byte(`{"a":[1,{"b":2}],"a":null}`), []byte(`{"a":[{"b":2.0},1e0]}`), uint8(1))
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"), []byte("\x00\x00\x00\x00\x02\x08\x02"), uint8(2))
	f.Add([]byte("\xef\xbb\xbf[NaN]"), []byte{0x1f, 0x8b, 8, 0}, uint8(4))
	f.Fuzz(func(t *testing.T, one, other []byte, kind uint8) {
		c := comparison{}
		fields := [][]Field{{{"Content-Type", "application/json"}}, {{"Content-Type", "text/plain"}}, {{"Content-Type", "application/grpc"}}, {{"Content-Encoding", "gzip"}}}[kind%4]
		a := Answer{Status: 200, Fields: fields, Body: bytes.Clone(one)}
		b := Answer{Status: 200, Fields: fields, Body: bytes.Clone(other)}
		outcomes := func(p, v, q Answer) (all [5]int) {
			for _, r := range c.compare(&Sample{Primary: p, Variant: v, Control: &q}).fields {
				all[r.value.outcome()]++
			}
			return all
		}
		same := outcomes(a, a, a)
		assert.Zero(t, same[1]+same[2]+same[3]+same[4])
		odd, control := outcomes(a, b, a), outcomes(a, a, b)
		odd[onlyVariant], odd[onlyControl] = odd[onlyControl], odd[onlyVariant]
		assert.Equal(t, odd, control, "variant and control are treated alike")
	})
}
