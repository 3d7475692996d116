package variant

// A feed is one reflector that writes into the Index, without a store between.

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// pageSize bounds how many whole objects are in memory during a list. With
// 50,000 objects, pages of 200 peaked 10 to 20 MB lower than pages of 500.
const pageSize = 200

// reconnect is how long a feed waits for an API server that was away. The
// default grows to a minute within a few outages; until then no mirror moves.
var reconnect = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 3 * time.Second}

// pagedListWatch lists in pages. A streamed list is as fast, but the size of
// its pieces is not ours to choose: it peaked 20 MB higher.
type pagedListWatch struct{ cache.ListWatch }

// IsWatchListSemanticsUnSupported tells the reflector not to stream lists.
func (*pagedListWatch) IsWatchListSemanticsUnSupported() bool { return true }

type feed struct {
	source source
	// version is the API version that is read.
	version string
	synced  atomic.Bool
	stop    context.CancelFunc
	done    chan struct{}
}

// sink receives what a feed reads.
type sink struct {
	set     func(*item)
	remove  func(*item)
	replace func([]*item)
}

// startFeed runs a reflector until ctx ends or the feed is stopped.
func startFeed(ctx context.Context, log logr.Logger, name string, from source, version string, to sink) *feed {
	ctx, stop := context.WithCancel(ctx)
	f := &feed{source: from, version: version, stop: stop, done: make(chan struct{})}
	lw := &pagedListWatch{cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			// Always the newest. With a limit, any version but "0" means exactly that
			// one: a restarted API server, which has forgotten its events, would
			// list what we know already, refuse to watch from there, and so on. And
			// "0" ignores the limit, and may be older than what we knew before.
			opts.ResourceVersion = ""
			return f.source.list(ctx, "", opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			return f.source.watch(ctx, opts)
		},
	}}
	reflector := cache.NewReflectorWithOptions(lw, nil, &feedStore{feed: f, sink: to},
		cache.ReflectorOptions{Name: "variant", TypeDescription: name, Logger: &log, Backoff: &reconnect})
	reflector.WatchListPageSize = pageSize
	go func() {
		defer close(f.done)
		defer stop()
		reflector.RunWithContext(ctx)
	}()
	return f
}

// end stops the feed; nothing is written any more when it returns.
func (f *feed) end() {
	f.stop()
	<-f.done
}

// feedStore is the reflector's store.
type feedStore struct {
	feed *feed
	sink sink
}

// Add implements cache.ReflectorStore.
func (s *feedStore) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s *feedStore) Update(obj any) error {
	s.sink.set(obj.(*item))
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *feedStore) Delete(obj any) error {
	s.sink.remove(obj.(*item))
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *feedStore) Replace(objs []any, _ string) error {
	items := make([]*item, len(objs))
	for n, obj := range objs {
		items[n] = obj.(*item)
	}
	s.sink.replace(items)
	s.feed.synced.Store(true)
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to send again.
func (s *feedStore) Resync() error { return nil }

// sinkOf writes the objects of a kind into the Index.
func (i *Index) sinkOf(kind Kind) sink {
	remove := func(it *item) {
		i.update(func(t *touched) {
			i.remove(kind, types.NamespacedName{Namespace: it.Namespace, Name: it.Name}, t)
		})
	}
	return sink{
		remove: remove,
		set: func(it *item) {
			if it.record == nil {
				remove(it)
				return
			}
			i.update(func(t *touched) { i.put(it.record, t) })
		},
		replace: func(items []*item) {
			records := make([]record, 0, len(items))
			for _, it := range items {
				if it.record != nil {
					records = append(records, it.record)
				}
			}
			i.replace(kind, records)
		},
	}
}
