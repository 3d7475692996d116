package webhook

// Reviews of others while hostile ones come.

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// BenchmarkOthersBesideHostileReviews answers a small review 200 times a second, alone and then beside four
// connections that send hostile reviews one after the other: the cases of BenchmarkHostileReviews that take most. It
// reports the p99 of the small ones, the ratio, and the largest heap.
func BenchmarkOthersBesideHostileReviews(b *testing.B) {
	index, err := variant.FromYAML(variant.Options{AssumeReady: true, Namespace: "shop"}, []byte(fuzzCluster))
	require.NoError(b, err)
	server := httptest.NewServer(resolving(index))
	defer server.Close()
	small := reviewOf(gatewayObject("HTTPRoute")+`{"rules":[`+gatewayMirrorRule+`]}}`, "")
	var hostile [][]byte
	for _, name := range []string{"rules, each with a mirror of its own", "hosts of labels", "destinations of a delegate", "mirrors of half a kilobyte, each in vain"} {
		object := hostileObjects[name]
		hostile = append(hostile, asReview("update", cmp.Or(widest(object, hostileSize/2-400), object(hostileSize/2-400))))
	}
	for b.Loop() {
		alone := p99(b, server.URL, small)
		ctx, stop := context.WithCancel(b.Context())
		var attackers sync.WaitGroup
		var sent atomic.Int64
		for i := range 4 {
			attackers.Go(func() {
				client := from("127.0.0.2")
				defer client.CloseIdleConnections()
				for n := i; ctx.Err() == nil; n++ {
					if send(ctx, client, server.URL, hostile[n%len(hostile)]) == http.StatusOK {
						sent.Add(1)
					}
				}
			})
		}
		heap := largestHeap(ctx, &attackers)
		beside := p99(b, server.URL, small)
		stop()
		attackers.Wait()
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(alone.Microseconds())/1000, "alone-p99-ms")
		b.ReportMetric(float64(beside.Microseconds())/1000, "beside-p99-ms")
		b.ReportMetric(float64(beside)/float64(alone), "ratio")
		b.ReportMetric(float64(heap.Load())/(1<<20), "heap-MB")
		b.ReportMetric(float64(sent.Load()), "hostile")
	}
}

// largestHeap samples the heap, with what is not swept yet, until the context ends.
func largestHeap(ctx context.Context, in *sync.WaitGroup) *atomic.Uint64 {
	var largest atomic.Uint64
	in.Go(func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			largest.Store(max(largest.Load(), m.HeapInuse))
		}
	})
	return &largest
}

// from returns a client with a local address.
func from(address string) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
}

func send(ctx context.Context, client *http.Client, url string, body []byte) int {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+MutatePath, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// p99 sends a thousand reviews, one each 5 ms, and returns the time from when one was due to its answer that one of a
// hundred exceeds.
func p99(b *testing.B, url string, body []byte) time.Duration {
	b.Helper()
	client := from("127.0.0.3")
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var took []time.Duration
	var calls sync.WaitGroup
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		due := <-tick.C
		calls.Go(func() {
			if status := send(b.Context(), client, url, body); status != http.StatusOK {
				b.Errorf("status %d", status)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(due))
		})
	}
	calls.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}
