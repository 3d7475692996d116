package loop

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded is a reconciler that notes its keys.
type recorded struct {
	mu   sync.Mutex
	keys []string
	fail error
}

func (r *recorded) Reconcile(_ context.Context, key string) (reconcile.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append(r.keys, key)
	return reconcile.Result{}, r.fail
}

// take returns the keys so far in order of their names, and forgets them.
func (r *recorded) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := slices.Sorted(slices.Values(r.keys))
	r.keys = nil
	return keys
}

func keys() iter.Seq[string] { return slices.Values([]string{"a", "b"}) }

// start runs a loop until the returned function is called.
func start(t *testing.T, l *Loop[string]) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Start(ctx) }()
	return func() {
		stop()
		require.NoError(t, <-done)
	}
}

func TestRunBeginsWithAllKeysAndRepeatsThemAtEachResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorded{}
		l := New("mirrorgate-test", r, Options[string]{Keys: keys, Resync: time.Minute, Log: logr.Discard()})
		end := start(t, l)
		defer end()
		require.Equal(t, []string{"a", "b"}, r.take())
		l.Add("c", "d")
		require.Equal(t, []string{"c", "d"}, r.take())
		l.AddAll()
		require.Equal(t, []string{"a", "b"}, r.take())
		<-time.After(time.Minute + time.Second)
		require.Equal(t, []string{"a", "b"}, r.take())
	})
}

func TestKeysAreDroppedBetweenRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorded{}
		l := New("mirrorgate-test", r, Options[string]{Keys: keys, Log: logr.Discard()})
		l.Add("c")
		l.AddAll()
		for range 2 {
			require.False(t, l.Running())
			end := start(t, l)
			require.Equal(t, []string{"a", "b"}, r.take())
			require.True(t, l.Running())
			end()
			l.Add("c")
		}
		require.Empty(t, r.take())
	})
}

func TestRunWaitsForTheCaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var synced atomic.Bool
		r := &recorded{}
		l := New("mirrorgate-test", r, Options[string]{Keys: keys, HasSynced: synced.Load, Log: logr.Discard()})
		end := start(t, l)
		<-time.After(time.Second)
		l.Add("c")
		require.Empty(t, r.take())
		end()
		end = start(t, l)
		defer end()
		synced.Store(true)
		<-time.After(time.Second)
		require.Equal(t, []string{"a", "b"}, r.take())
	})
}

func TestFailuresAreRetriedEverLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorded{fail: errors.New("not yet")}
		one := func() iter.Seq[string] { return slices.Values([]string{"a"}) }
		l := New("mirrorgate-test", r, Options[string]{Keys: one, Resync: time.Hour, Log: logr.Discard()})
		end := start(t, l)
		defer end()
		<-time.After(360 * time.Millisecond) // retries after 50, 150 and 350 ms
		require.Len(t, r.take(), 4)
	})
	require.Equal(t, FirstRetry, Backoff(1))
	require.Equal(t, 2*FirstRetry, Backoff(2))
	require.Equal(t, LastRetry, Backoff(11))
	require.Equal(t, LastRetry, Backoff(1000))
}
