// Comparing whole answers: who gets which request, and when; the bounds; and nothing where it is off.

package proxy_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// comparison is a site that compares answers.
type comparison struct {
	*site
	*compare.Comparer
	collector *compare.Collector
	ended     atomic.Int64
}

// comparing starts a proxy that compares the answers of variant0 with those of the primary and, if there is a
// variant1, of that as the control. controls is the most controls a second, 0 for no bound.
func comparing(t *testing.T, table *spec.Table, controls float64) *comparison {
	t.Helper()
	comparer, err := compare.New(&compare.Options{Control: true}, time.Now())
	require.NoError(t, err)
	c := &comparison{Comparer: comparer, collector: compare.NewCollector(comparer)}
	t.Cleanup(c.collector.Close)
	compared := &shadow.Compared{
		Comparer: comparer, Collector: c.collector, Ended: func() { c.ended.Add(1) },
		Pairs: compare.NewSampler(1, 0, time.Minute, rand.Float64, time.Now()),
	}
	if len(table.Listeners[0].Rules[0].Filters) > 1 {
		compared.Triples = compare.NewSampler(1, controls, time.Minute, rand.Float64, time.Now())
		inFlight, queue := 4, 0
		control := &table.Listeners[0].Rules[0].Filters[1].RequestMirror.Mirrorgate
		*control = spec.Mirror{MaxInFlight: &inFlight, Queue: &queue, Timeout: cmp.Or(control.Timeout, "1s")}
	}
	c.site = start(t, table, &proxy.Options{Compare: func(m *routing.Mirror) *shadow.Compared {
		if m.Control = strings.HasPrefix(m.Target.Name, "variant1"); m.Control {
			return nil
		}
		return compared
	}})
	return c
}

// after returns the report once so many requests have been compared or skipped, and nothing is held any more.
func (c *comparison) after(t *testing.T, requests uint64) *compare.Report {
	t.Helper()
	var r *compare.Report
	eventually(t, func() bool {
		r = c.Report(time.Now())
		n := r.Triples + r.Pairs
		for _, skipped := range r.Skipped {
			n += skipped
		}
		return n >= requests && c.collector.Held() == 0
	}, "%d requests are compared or counted", requests)
	return r
}

// fields returns the fields of a report's endpoints that differ.
func fields(r *compare.Report) (names []string) {
	for i := range r.Endpoints {
		for _, f := range r.Endpoints[i].Fields {
			names = append(names, f.Field)
		}
	}
	return names
}

func TestTriples(t *testing.T) {
	for _, protocol := range []string{"http", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			var mu sync.Mutex
			got := map[string][]string{}
			backend := func(name, price string) string {
				return serve(t, func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					mu.Lock()
					defer mu.Unlock()
					got[name] = append(got[name], r.Method+" "+r.URL.Path+" "+string(body))
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprintf(w, `{"price":%s,"path":%q}`, price, r.URL.Path)
				})
			}
			table := one(backend("primary", "1"), backend("variant", "2"), backend("control", "1"))
			for name, service := range table.Services {
				port := service[80]
				port.Protocol = protocol
				table.Services[name] = spec.Service{80: port}
			}
			c := comparing(t, table, 0)
			for n := range 20 {
				status, answer := ask(t, client(t), "GET", fmt.Sprintf("http://%s/cart/%d", c.addr, n), "")
				assert.Equal(t, 200, status)
				assert.JSONEq(t, fmt.Sprintf(`{"price":1,"path":"/cart/%d"}`, n), answer)
				c.after(t, uint64(n+1)) // a control under way would make the next one wait
			}
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				ask(t, client(t), method, "http://"+c.addr+"/cart/1", "body of "+method)
			}
			ask(t, client(t), "GET", "http://"+c.addr+"/cart/7", "") // again
			report := c.after(t, 25)
			assert.Equal(t, uint64(20), report.Triples)
			assert.Equal(t, uint64(4), report.Pairs)
			assert.Equal(t, uint64(1), report.Skipped[compare.SkippedRepeated])
			assert.Equal(t, []string{"body.price"}, fields(report)[:1])
			eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(got["variant"]) == 25
			}, "every request is copied, also the one that is not compared again")
			mu.Lock()
			defer mu.Unlock()
			assert.Len(t, got["primary"], 25)
			assert.Len(t, got["control"], 20, "writes and repeated requests are sent to the primary's replicas once")
			for _, request := range got["control"] {
				assert.True(t, strings.HasPrefix(request, "GET "), request)
			}
			assert.Contains(t, got["variant"], "POST /cart/1 body of POST")
		})
	}
}

// The copies leave once the primary has answered, in either order.
func TestCopiesOfTriplesWaitForThePrimary(t *testing.T) {
	release := make(chan struct{})
	primary := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
	})
	var copies atomic.Int64
	variant := serve(t, func(http.ResponseWriter, *http.Request) { copies.Add(1) })
	control := serve(t, func(http.ResponseWriter, *http.Request) { copies.Add(1) })
	c := comparing(t, one(primary, variant, control), 0)
	conn := dial(t, c.addr)
	_, err := io.WriteString(conn, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	ask(t, client(t), "GET", "http://"+c.addr+"/quick", "")
	eventually(t, func() bool { return copies.Load() == 2 }, "the copies of another request are sent")
	close(release)
	eventually(t, func() bool { return copies.Load() == 4 }, "the copies are sent once the primary has answered")
	c.after(t, 2)
}

// A control goes to another endpoint than the one that served the client.
func TestControlAvoidsTheEndpointOfThePrimary(t *testing.T) {
	var mu sync.Mutex
	served := map[string][]int{}
	var addresses []string
	for n := range 3 {
		addresses = append(addresses, serve(t, func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			served[r.URL.Path] = append(served[r.URL.Path], n)
		}))
	}
	table := one(addresses[0], record(t, "").addr, addresses[0])
	table.Services["primary"], table.Services["variant1"] = spec.Service{80: endpoints(addresses...)}, spec.Service{80: endpoints(addresses...)}
	c := comparing(t, table, 0)
	for n := range 60 {
		ask(t, client(t), "GET", fmt.Sprintf("http://%s/%d", c.addr, n), "")
		c.after(t, uint64(n+1))
	}
	mu.Lock()
	defer mu.Unlock()
	for path, by := range served {
		if assert.Len(t, by, 2, path) {
			assert.NotEqual(t, by[0], by[1], path)
		}
	}
}

// Bodies reach the client unchanged whether they are collected, too long to be, or of unknown length.
func TestBodiesOfTriples(t *testing.T) {
	sizes := []int{0, 10, 40 << 10, compare.MaxBody, compare.MaxBody + 1, 300 << 10}
	for _, chunks := range []bool{false, true} {
		handler := func(w http.ResponseWriter, r *http.Request) {
			var size int
			_, _ = fmt.Sscanf(r.URL.Path, "/%d", &size)
			if !chunks {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			_, _ = io.WriteString(w, strings.Repeat("x", size))
		}
		c := comparing(t, one(serve(t, handler), serve(t, handler), serve(t, handler)), 0)
		for n, size := range sizes {
			_, answer := ask(t, client(t), "GET", fmt.Sprintf("http://%s/%d", c.addr, size), "")
			assert.Equal(t, strings.Repeat("x", size), answer)
			c.after(t, uint64(n+1))
		}
		report := c.after(t, uint64(len(sizes)))
		assert.Equal(t, uint64(len(sizes)), report.Triples, "chunks %v: %v", chunks, report.Skipped)
		long := uint64(0)
		for i := range report.Endpoints {
			long += report.Endpoints[i].Long
			assert.Empty(t, report.Endpoints[i].Fields)
		}
		assert.Equal(t, uint64(2), long)
	}
}

// Whatever variant or control does, the client gets its answer, every request that was drawn is counted, and nothing
// is held afterwards.
func TestTriplesWithFaults(t *testing.T) {
	primary := variantWith(t, faulty.None)
	for name := range faulty.Faults {
		for _, who := range []string{"variant", "control"} {
			t.Run(name+" "+who, func(t *testing.T) {
				variant, control := variantWith(t, name), variantWith(t, faulty.None)
				if who == "control" {
					variant, control = control, variant
				}
				table := one(primary, variant, control)
				table.Listeners[0].Rules[0].Filters[0] = mirror("variant0", spec.Mirror{Timeout: "1s"})
				c := comparing(t, table, 0)
				const n = 160
				failed, _ := load(t, c.addr, 16*n)
				assert.Zero(t, failed)
				report := c.after(t, 16*n)
				eventually(t, func() bool {
					return uint64(c.ended.Load()) == 16*n-report.Skipped[compare.SkippedRepeated]-report.Skipped[compare.SkippedCopy]
				}, "every collection ends once")
				t.Log(report.Triples, report.Skipped)
			})
		}
	}
}

// A control has at most four requests at once and no queue.
func TestControlIsShedFirst(t *testing.T) {
	var now, most atomic.Int64
	release := make(chan struct{})
	control := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			continue
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		now.Add(-1)
	})
	table := one(record(t, "").addr, record(t, "").addr, control)
	// Until they are released: the server hears of a request that timed out only after the next one has come.
	table.Listeners[0].Rules[0].Filters[1] = mirror("variant1", spec.Mirror{Timeout: "10m"})
	c := comparing(t, table, 0)
	failed, _ := load(t, c.addr, 1600)
	assert.Zero(t, failed)
	close(release)
	report := c.after(t, 1600)
	assert.LessOrEqual(t, most.Load(), int64(4))
	assert.Positive(t, report.Skipped[compare.SkippedControl]+report.Skipped["copy_queue_full"])
	eventually(t, func() bool {
		return c.counter(t, "shadows_sent_total", "mirror", "variant0:80")+c.counter(t, "shadows_dropped_total", "mirror", "variant0:80") == 1600
	}, "the variant has its copies")
}

// The rate of controls has a bound.
func TestControlsASecond(t *testing.T) {
	control := record(t, "")
	c := comparing(t, one(record(t, "").addr, record(t, "").addr, control.addr), 5)
	begin := time.Now()
	for n := range 200 {
		ask(t, client(t), "GET", fmt.Sprintf("http://%s/%d", c.addr, n), "")
	}
	took := time.Since(begin).Seconds()
	assert.LessOrEqual(t, float64(len(control.got())), 5*took+2)
	assert.NotEmpty(t, control.got())
}

// A client that leaves before the end of its answer leaves nothing behind.
func TestTripleWhoseClientLeaves(t *testing.T) {
	primary := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c := comparing(t, one(primary, record(t, "").addr, record(t, "").addr), 0)
	conn := dial(t, c.addr)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	_, err = bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	report := c.after(t, 1)
	assert.Equal(t, uint64(1), report.Skipped[compare.SkippedPrimary])
}

// A variant that times out or resets differs; a primary that cannot be reached says nothing.
func TestFailuresOfTriples(t *testing.T) {
	table := one(record(t, "").addr, variantWith(t, "a hangs after accept"), record(t, "").addr)
	table.Listeners[0].Rules[0].Filters[0] = mirror("variant0", spec.Mirror{Timeout: "50ms"})
	c := comparing(t, table, 0)
	ask(t, client(t), "GET", "http://"+c.addr+"/", "")
	assert.ElementsMatch(t, []string{"error", "status"}, fields(c.after(t, 1)))

	c = comparing(t, one(refused(t), record(t, "").addr, record(t, "").addr), 0)
	status, _ := ask(t, client(t), "GET", "http://"+c.addr+"/", "")
	assert.Equal(t, 503, status/100*100+3)
	assert.Equal(t, uint64(1), c.after(t, 1).Skipped[compare.SkippedPrimary])
}
