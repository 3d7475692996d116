// Package feed keeps a model in step with an API server, without a store between: a reflector for each kind
// converts objects into records as they arrive, and passes the records to the model.
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

// PageSize bounds how many whole objects are in memory during a list. With 50,000 objects, pages of 200
// peaked 10 to 20 MB lower than pages of 500.
const PageSize = 200

// reconnect is the backoff of a feed while the API server is away. The default grows to a minute within a few
// outages; until then no mirror is parked or restored.
var reconnect = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 3 * time.Second}

// pagedListWatch lists in pages. A streamed list is as fast, but the size of its pieces cannot be chosen: it
// peaked 20 MB higher.
type pagedListWatch struct{ cache.ListWatch }

// IsWatchListSemanticsUnSupported tells the reflector not to stream lists.
func (*pagedListWatch) IsWatchListSemanticsUnSupported() bool { return true }

// Feed is one reflector.
type Feed struct {
	synced atomic.Bool
	stop   context.CancelFunc
	done   chan struct{}
}

// Start runs a reflector over the objects of a namespace, "" for all, until ctx ends or End is called. name
// is the resource's, for the log.
func Start(ctx context.Context, log logr.Logger, name string, from Source, namespace string, to Sink) *Feed {
	ctx, stop := context.WithCancel(ctx)
	f := &Feed{stop: stop, done: make(chan struct{})}
	lw := &pagedListWatch{cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			// Always list the newest version. With a limit, any version but "0" means exactly that one: a
			// restarted API server, which has forgotten its events, would list the objects that are known
			// already, refuse to watch from there, and so on. And "0" ignores the limit, and may be older
			// than the objects known before.
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

// HasSynced reports whether every object that there was at the start has reached the sink.
func (f *Feed) HasSynced() bool { return f.synced.Load() }

// End stops the feed. No record reaches the sink after it returns.
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

// Resync implements cache.ReflectorStore. It does nothing, since the store keeps no objects.
func (s *store) Resync() error { return nil }
