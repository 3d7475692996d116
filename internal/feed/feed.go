// Package feed keeps a model in step with an API server, without a store between: a reflector for each
// resource converts objects as they come in and hands the records over.
package feed

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// PageSize bounds how many whole objects are in memory during a list. With 50,000 objects, pages of
// 200 peaked 10 to 20 MB lower than pages of 500.
const PageSize = 200

// reconnect is how long a feed waits for an API server that was away. The default grows to a minute
// within a few outages; until then no mirror moves.
var reconnect = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 3 * time.Second}

// pagedListWatch lists in pages. A streamed list is as fast, but the size of its pieces is not ours to
// choose: it peaked 20 MB higher.
type pagedListWatch struct{ cache.ListWatch }

// IsWatchListSemanticsUnSupported tells the reflector not to stream lists.
func (*pagedListWatch) IsWatchListSemanticsUnSupported() bool { return true }

// Feed is one reflector.
type Feed struct {
	// Source is what it reads from.
	Source Source
	synced atomic.Bool
	stop   context.CancelFunc
	done   chan struct{}
}

// Sink receives what a feed reads, from one goroutine.
type Sink struct {
	Set     func(*Item)
	Remove  func(*Item)
	Replace func([]*Item)
}

// Start runs a reflector over the objects of a namespace, "" for all, until ctx ends or the feed is
// ended. name is the resource's, for the log.
func Start(ctx context.Context, log logr.Logger, name string, from Source, namespace string, to Sink) *Feed {
	ctx, stop := context.WithCancel(ctx)
	f := &Feed{Source: from, stop: stop, done: make(chan struct{})}
	lw := &pagedListWatch{cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			// Always the newest. With a limit, any version but "0" means exactly that
			// one: a restarted API server, which has forgotten its events, would
			// list what we know already, refuse to watch from there, and so on. And
			// "0" ignores the limit, and may be older than what we knew before.
			opts.ResourceVersion = ""
			return from.List(ctx, namespace, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			return from.Watch(ctx, namespace, opts)
		},
	}}
	reflector := cache.NewReflectorWithOptions(lw, nil, &store{feed: f, sink: to},
		cache.ReflectorOptions{Name: "feed", TypeDescription: name, Logger: &log, Backoff: &reconnect})
	reflector.WatchListPageSize = PageSize
	go func() {
		defer close(f.done)
		defer stop()
		reflector.RunWithContext(ctx)
	}()
	return f
}

// Synced says that everything that was there has been handed over once.
func (f *Feed) Synced() bool { return f.synced.Load() }

// End stops the feed; nothing is handed over any more when it returns.
func (f *Feed) End() {
	f.stop()
	<-f.done
}

// store is the reflector's store.
type store struct {
	feed *Feed
	sink Sink
}

// Add implements cache.ReflectorStore.
func (s *store) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s *store) Update(obj any) error {
	s.sink.Set(obj.(*Item))
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *store) Delete(obj any) error {
	s.sink.Remove(obj.(*Item))
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *store) Replace(objs []any, _ string) error {
	items := make([]*Item, len(objs))
	for n, obj := range objs {
		items[n] = obj.(*Item)
	}
	s.sink.Replace(items)
	s.feed.synced.Store(true)
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to send again.
func (s *store) Resync() error { return nil }
