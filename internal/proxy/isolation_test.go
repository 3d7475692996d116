// Copies and the primary: no fault of a variant reaches the primary's clients.

package proxy_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

var soak = flag.Int("soak", 4000, "requests for every fault of a variant")

// load sends so many requests over 16 connections and returns how many failed, and the 99th percentile of
// latency.
func load(t *testing.T, addr string, requests int) (failed int64, p99 time.Duration) {
	t.Helper()
	const conns = 16
	var bad atomic.Int64
	took := make([][]time.Duration, conns)
	var wg sync.WaitGroup
	for i := range conns {
		conn := dial(t, addr)
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Minute)))
		wg.Go(func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for n := range requests / conns {
				begin := time.Now()
				_, err := fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", n)
				if err == nil {
					err = faulty.ReadAnswer(in, 2)
				}
				if err != nil {
					bad.Add(1)
					return
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	wg.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	if len(all) == 0 {
		return bad.Load(), 0
	}
	return bad.Load(), all[len(all)*99/100]
}

// faultsH2C are the faults of a variant that speaks HTTP/2, where a fault concerns a stream, not a
// connection.
var faultsH2C = map[string]http.HandlerFunc{
	"a hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"c resets in the middle": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	},
	"d drips": func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
	},
	"e sends an endless body": func(w http.ResponseWriter, _ *http.Request) {
		for piece := make([]byte, 16<<10); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	},
	"f answers 500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	"g closes at random": func(w http.ResponseWriter, _ *http.Request) {
		if rand.IntN(3) == 0 {
			w.Header().Set("Connection", "close") // becomes a GOAWAY
		}
	},
}

// This is the product: whatever the variant does, no request of the primary fails, nothing piles up, and
// nothing is left afterwards (no goroutine either: TestMain checks for leaks). The benchmarks compare the p99
// on a quiet machine; here it must only be of the same order.
func TestIsolation(t *testing.T) {
	primary := variantWith(t, faulty.None)
	_, alone := load(t, start(t, one(primary), nil).addr, *soak)
	for name, f := range faulty.Faults {
		t.Run(name, func(t *testing.T) {
			s := isolated(t, one(primary, variantWith(t, name)), alone)
			if f == nil || strings.HasPrefix(name, "a ") || strings.HasPrefix(name, "c ") || strings.HasPrefix(name, "d ") {
				s.leftAlone(t)
			}
			if name == "f answers 500" {
				assert.InDelta(t, s.counter(t, "shadows_sent_total"), s.counter(t, "shadows_sent_total", "code", "500"), 0)
			}
		})
	}
	for name, f := range faultsH2C {
		t.Run("h2c/"+name, func(t *testing.T) {
			s := isolated(t, overH2C(one(primary, serve(t, f)), "variant0"), alone)
			if strings.HasPrefix(name, "a ") || strings.HasPrefix(name, "c ") {
				s.leftAlone(t)
			}
		})
	}
	for _, name := range []string{"a hangs after accept", "b never accepts", faulty.Gone} {
		t.Run("h2c/"+name, func(t *testing.T) {
			isolated(t, overH2C(one(primary, variantWith(t, name)), "variant0"), alone).leftAlone(t)
		})
	}
}

// isolated puts load on a table with a faulty variant. alone is the p99 without a mirror.
func isolated(t *testing.T, table *spec.Table, alone time.Duration) *site {
	t.Helper()
	table.Listeners[0].Rules[0].Filters[0] = mirror("variant0", spec.Mirror{Timeout: "1s"})
	s := start(t, table, nil)
	failed, p99 := load(t, s.addr, *soak)
	assert.Zero(t, failed)
	assert.Less(t, p99, 10*alone+time.Second)
	sent, dropped := s.counter(t, "shadows_sent_total"), s.counter(t, "shadows_dropped_total")
	eventually(t, func() bool {
		sent, dropped = s.counter(t, "shadows_sent_total"), s.counter(t, "shadows_dropped_total")
		return sent+dropped == float64(*soak) && s.counter(t, "shadows_held_bytes") == 0
	}, "every copy is counted, and none holds memory: %v sent, %v dropped", sent, dropped)
	t.Logf("p99 %v (%v without mirror), %v sent, %v dropped", p99, alone, sent, dropped)
	eventually(t, func() bool { return s.counter(t, "shadows_in_flight") == 0 }, "no copy is under way")
	return s
}

// leftAlone requires that no copy was answered, and that some were dropped without an attempt.
func (s *site) leftAlone(t *testing.T) {
	t.Helper()
	assert.Zero(t, s.counter(t, "shadows_sent_total"))
	assert.Positive(t, s.counter(t, "shadows_dropped_total", "reason", "penalty"), "the breaker drops copies")
}

// A variant that needs a new connection for every copy gets a bounded number of them, and does not count as
// one that fails.
func TestVariantThatEndsItsConnections(t *testing.T) {
	for protocol, table := range map[string]*spec.Table{
		"http": one(record(t, "").addr, record(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").addr),
		"h2c": overH2C(one(record(t, "").addr, serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
		})), "variant0"),
	} {
		t.Run(protocol, func(t *testing.T) {
			const connects, requests = 10, 200
			s := start(t, table, &proxy.Options{VariantConnects: connects})
			begin := time.Now()
			for range requests {
				assert.Equal(t, []int{200}, statuses(t, talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "GET"))
			}
			var sent, dropped float64
			eventually(t, func() bool {
				sent, dropped = s.counter(t, "shadows_sent_total"), s.counter(t, "shadows_dropped_total", "reason", "churn")
				return sent+dropped == requests
			}, "every copy is counted")
			assert.Positive(t, sent)
			if protocol == "http" { // over HTTP/2 some copies share a connection before its end is known
				assert.Positive(t, dropped)
				assert.GreaterOrEqual(t, sent, float64(connects))
				assert.LessOrEqual(t, sent, connects*(1+time.Since(begin).Seconds()))
			}
		})
	}
}

// A copy is sent even if the client leaves as soon as it has sent its request.
func TestClientLeaves(t *testing.T) {
	release := make(chan struct{})
	primary := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	variant := record(t, "")
	s := start(t, one(primary, variant.addr), nil)
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "the request is in flight")
	require.NoError(t, conn.Close())
	eventually(t, func() bool { return len(variant.got()) == 1 }, "the variant gets the copy")
	assert.Contains(t, variant.got()[0], "abc")
}

// The bytes of a copy: it has the marker header, -shadow before the port, and the mirror's edits; all other
// bytes are as they were sent. A copy is never copied again.
func TestCopy(t *testing.T) {
	primary, variant := record(t, ""), record(t, "")
	table := one(primary.addr, variant.addr)
	table.Listeners[0].Rules[0].Filters[0] = mirror("variant0", spec.Mirror{Headers: &spec.HeaderModifier{
		Remove: []string{"authorization", "cookie"}, Set: []spec.Header{{Name: "X-Copy", Value: "yes"}},
	}})
	s := start(t, table, nil)
	head := "GET /a?b=%2F HTTP/1.1\r\nhost: cluster-1:8000\r\nAuthorization: secret\r\nX-ODD: Value \xff\r\nConnection: X-Hop\r\nX-Hop: 1\r\nExpect: 100-continue\r\n\r\n"
	assert.Equal(t, []int{200}, statuses(t, talk(t, s.addr, head), "GET"))
	eventually(t, func() bool { return len(variant.got()) == 1 }, "the variant gets the copy")
	assert.Equal(t, "GET /a?b=%2F HTTP/1.1\r\nhost: cluster-1:8000\r\nAuthorization: secret\r\nX-ODD: Value \xff\r\nExpect: 100-continue\r\n\r\n", primary.got()[0])
	assert.Equal(t, "GET /a?b=%2F HTTP/1.1\r\nhost: cluster-1-shadow:8000\r\nX-ODD: Value \xff\r\nX-Copy: yes\r\nx-mirrorgate-shadow: 1\r\n\r\n", variant.got()[0])

	talk(t, s.addr, variant.got()[0])
	assert.Len(t, primary.got(), 2)
	assert.InDelta(t, 1, s.counter(t, "shadows_dropped_total", "reason", "loop"), 0)
	assert.Len(t, variant.got(), 1)
}

// A copy beyond a bound is dropped and counted under its reason.
func TestBounds(t *testing.T) {
	primary := record(t, "")
	one1, none := 1, 0
	for _, tt := range []struct {
		reason   string
		settings spec.Mirror
		body     int
	}{
		{"too_large", spec.Mirror{MaxBody: "10"}, 11},
		{"budget", spec.Mirror{Budget: "2Ki", MaxBody: "1Ki"}, 1},
		{"queue_full", spec.Mirror{MaxInFlight: &one1, Queue: &none, Timeout: "2s"}, 1},
	} {
		for _, chunks := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.reason, chunks), func(t *testing.T) {
				variant := variantWith(t, "a hangs after accept")
				table := one(primary.addr, variant)
				table.Listeners[0].Rules[0].Filters[0] = mirror("variant0", tt.settings)
				s := start(t, table, nil)
				body := strings.Repeat("x", tt.body)
				raw := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				if chunks {
					raw = chunked(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body))
				}
				for range 2 {
					assert.Equal(t, []int{200}, statuses(t, talk(t, s.addr, raw), "POST"))
				}
				eventually(t, func() bool { return s.counter(t, "shadows_dropped_total", "reason", tt.reason) > 0 }, "a copy is dropped for the reason")
			})
		}
	}
}

// A comparison counts whether the classes of the statuses agree.
func TestComparison(t *testing.T) {
	yes := true
	primary := record(t, "")
	variant := record(t, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
	table := one(primary.addr, variant.addr)
	table.Listeners[0].Rules[0].Filters[0] = mirror("variant0", spec.Mirror{Compare: &yes})
	s := start(t, table, nil)
	for range 5 {
		talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	eventually(t, func() bool { return s.counter(t, "comparisons_total", "agree", "false") == 5 }, "all answers are compared")
	assert.Zero(t, s.counter(t, "comparisons_total", "agree", "true"))
}

// A copy has the timeout of its own mirror, even on a connection that was used with a longer one before.
func TestCopyTimeoutOnUsedConnection(t *testing.T) {
	variant := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/short" {
			<-r.Context().Done()
		}
	})
	table := one(record(t, "").addr)
	table.Services["v"] = spec.Service{80: endpoints(variant)}
	rule := func(path, timeout string) spec.Rule {
		return spec.Rule{
			Matches:     []spec.Match{{Path: &spec.PathMatch{Value: &path}}},
			Filters:     []spec.Filter{mirror("v", spec.Mirror{Timeout: timeout})},
			BackendRefs: []spec.BackendRef{{Name: "primary", Port: 80}},
		}
	}
	table.Listeners[0].Rules = []spec.Rule{rule("/long", "1m"), rule("/short", "50ms")}
	s := start(t, table, nil)
	talk(t, s.addr, "GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, func() bool { return s.counter(t, "shadows_sent_total") == 1 && s.counter(t, "shadows_in_flight") == 0 }, "the first copy is answered")
	talk(t, s.addr, "GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, func() bool { return s.counter(t, "shadows_dropped_total", "reason", "timeout") == 1 }, "the second copy runs into its timeout")
}

// A variant that works again gets copies, even if a client never finishes sending the first request whose
// copy could have been the probe.
func TestSlowUploadHoldsNoProbe(t *testing.T) {
	variant := variantWith(t, faulty.Gone)
	s := start(t, one(record(t, "").addr, variant), nil)
	get := func() { talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
	eventually(t, func() bool { get(); return s.counter(t, "shadows_dropped_total", "reason", "penalty") > 0 }, "the breaker drops copies")
	// Begin uploads that do not end, until the copy of one of them is admitted.
	eventually(t, func() bool {
		_, err := io.WriteString(dial(t, s.addr), "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
		return err == nil && s.counter(t, "shadows_held_bytes") > 0
	}, "the copy of a slow upload is admitted")
	l, err := net.Listen("tcp", variant)
	require.NoError(t, err)
	healed := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- healed.Serve(l) }()
	defer func() { _ = healed.Close(); assert.ErrorIs(t, <-done, http.ErrServerClosed) }()
	eventually(t, func() bool { get(); return s.counter(t, "shadows_sent_total") > 0 }, "a probe is answered")
}

// The latencies of equal backends are equal: they include neither the time that the client takes to send its
// request, nor the time of an answer's body.
func TestComparisonLatency(t *testing.T) {
	for _, protocol := range []string{"http", "h2c"} {
		for _, upload := range []bool{false, true} {
			t.Run(fmt.Sprint(protocol, " upload ", upload), func(t *testing.T) {
				// A busy machine can delay one of the two answers, but only a wrong measure is wrong at every
				// pace.
				ratio := 0.0
				for pace := 50 * time.Millisecond; pace < time.Second/2; pace *= 2 {
					if ratio = latencyRatio(t, protocol, upload, pace); math.Abs(ratio-1) <= 0.6 {
						return
					}
				}
				assert.InDelta(t, 1, ratio, 0.6)
			})
		}
	}
}

// latencyRatio returns the ratio for one request whose pieces are one pace apart. Both backends send the head
// of their answer one pace after the request's end, and the body eight paces later.
func latencyRatio(t *testing.T, protocol string, upload bool, pace time.Duration) float64 {
	t.Helper()
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-time.After(pace)
		_ = http.NewResponseController(w).Flush()
		<-time.After(8 * pace)
		_, _ = io.WriteString(w, "late")
	}
	yes := true
	table := one(serve(t, handler), serve(t, handler))
	table.Listeners[0].Rules[0].Filters[0] = mirror("variant0", spec.Mirror{Compare: &yes})
	for name, service := range table.Services {
		port := service[80]
		port.Protocol = protocol
		table.Services[name] = spec.Service{80: port}
	}
	s := start(t, table, nil)
	conn := dial(t, s.addr)
	raw := []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n"}
	if upload {
		raw = []string{chunked(""), "1\r\na\r\n", "0\r\n\r\n"}
	}
	for i, piece := range raw {
		if i > 0 {
			<-time.After(pace)
		}
		_, err := io.WriteString(conn, piece)
		require.NoError(t, err)
	}
	eventually(t, func() bool { return s.counter(t, "comparisons_total") == 1 }, "the answers are compared")
	return s.ratio(t)
}

// ratio returns the mean of the latency ratios, or 0 if there are none.
func (s *site) ratio(t *testing.T) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "mirrorgate_proxy_comparison_latency_ratio" {
			h := family.GetMetric()[0].GetHistogram()
			return h.GetSampleSum() / max(1, float64(h.GetSampleCount()))
		}
	}
	return 0
}
