package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// keepAsking sends requests from several clients until it is ended; ask gets one request's
// client. It returns how many requests there were.
func keepAsking(t *testing.T, ask func(*http.Client) error) (end func() int64) {
	var count atomic.Int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := ask(client); err != nil {
					t.Errorf("request %d: %v", count.Load(), err)
					return
				}
				count.Add(1)
			}
		})
	}
	return func() int64 {
		close(done)
		wg.Wait()
		return count.Load()
	}
}

// get returns the body of a 200.
func get(ctx context.Context, client *http.Client, addr string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	return string(body), err
}

// numbered starts a backend that answers with the number of the rule that led to it.
func numbered(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Generation"))
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// generation is a table that marks requests with a number.
func generation(n int, primary, variant string) *spec.Table {
	table := one(primary, variant)
	rule := &table.Listeners[0].Rules[0]
	rule.Filters = append(rule.Filters, spec.Filter{Type: "RequestHeaderModifier", RequestHeaderModifier: &spec.HeaderModifier{
		Set: []spec.Header{{Name: "X-Generation", Value: strconv.Itoa(n)}},
	}})
	table.Listeners[0].Name, table.Listeners[0].Address = "main", "127.0.0.1:0"
	return table
}

// TestReload swaps tables under load: no request fails, and none that is sent after Apply
// has returned follows an older table, not even on a connection that was open before.
func TestReload(t *testing.T) {
	backends, variant := [2]string{numbered(t), numbered(t)}, numbered(t)
	s := start(t, generation(0, backends[0], variant), nil)
	var applied atomic.Int64
	end := keepAsking(t, func(client *http.Client) error {
		least := applied.Load()
		body, err := get(t.Context(), client, s.addr)
		if err != nil {
			return err
		}
		if n, err := strconv.ParseInt(body, 10, 64); err != nil || n < least {
			return fmt.Errorf("generation %q after %d was applied", body, least)
		}
		return nil
	})
	for i := 1; i <= 100; i++ {
		require.NoError(t, s.Apply(setup(t, generation(i, backends[i%2], variant))))
		applied.Store(int64(i))
		before := s.counter(t, "requests_total")
		eventually(t, func() bool { return t.Failed() || s.counter(t, "requests_total") > before+8 }, "requests after reload %d", i)
	}
	assert.Greater(t, end(), int64(800))
}

// TestDrain takes one of two proxies out while clients send to both: nothing fails, if
// clients are led elsewhere as soon as it says that it is not ready.
func TestDrain(t *testing.T) {
	backend := numbered(t)
	stays := start(t, generation(1, backend, backend), nil)
	leaves := start(t, generation(2, backend, backend), nil)
	var turn atomic.Int64
	end := keepAsking(t, func(client *http.Client) error {
		to := stays
		if turn.Add(1)%2 == 0 && leaves.Ready() {
			to = leaves
		}
		_, err := get(t.Context(), client, to.addr)
		return err
	})
	eventually(t, func() bool { return leaves.counter(t, "requests_total") > 100 }, "requests")
	leaves.Drain()
	assert.False(t, leaves.Ready())
	// Whoever chose it before is answered, and told to go.
	eventually(t, func() bool { return leaves.counter(t, "requests_in_flight") == 0 }, "the last request")
	passed := stays.counter(t, "requests_total")
	eventually(t, func() bool { return stays.counter(t, "requests_total") > passed+100 }, "requests elsewhere")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, leaves.Shutdown(ctx))
	passed = stays.counter(t, "requests_total")
	eventually(t, func() bool { return stays.counter(t, "requests_total") > passed+100 }, "requests elsewhere")
	end()
}
