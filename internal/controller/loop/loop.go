// Package loop is the machinery that the controllers share: a queue of keys, the workers that reconcile them,
// retries, and a resync that adds every key now and then. A loop runs while this replica leads, and may run
// again after it has lost the lead.
package loop

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/mirrorgate/mirrorgate/internal/logging"
)

// syncPoll is how often a starting loop checks whether the caches are filled.
const syncPoll = 20 * time.Millisecond

// Options configure a Loop.
type Options[K comparable] struct {
	// Keys returns all keys. It is called at the start of a run and at every resync.
	Keys func() iter.Seq[K]
	// HasSynced reports whether the caches that Keys and the reconciler read are filled; a run begins once
	// they are. nil means that they always are.
	HasSynced func() bool
	// Workers is the number of keys that are reconciled at the same time; 0 means 8.
	Workers int
	// Resync is the time between two additions of all keys, which repair a missed event; 0 means 10 minutes.
	Resync time.Duration
	Log    logr.Logger
	// LogKey is the name under which a key is logged.
	LogKey string
}

// Loop reconciles keys during one run at a time.
type Loop[K comparable] struct {
	name       string
	reconciler reconcile.TypedReconciler[K]
	opts       Options[K]
	// queue is that of the current run, nil between runs.
	queue atomic.Pointer[queue[K]]
}

type queue[K comparable] = workqueue.TypedRateLimitingInterface[K]

// New returns a Loop. Metrics of controller-runtime carry its name.
func New[K comparable](name string, reconciler reconcile.TypedReconciler[K], opts Options[K]) *Loop[K] {
	if opts.Workers == 0 {
		opts.Workers = 8
	}
	if opts.Resync == 0 {
		opts.Resync = 10 * time.Minute
	}
	if opts.HasSynced == nil {
		opts.HasSynced = func() bool { return true }
	}
	return &Loop[K]{name: name, reconciler: reconciler, opts: opts}
}

// Running reports whether a run is under way, so that Add has an effect.
func (l *Loop[K]) Running() bool { return l.queue.Load() != nil }

// Add queues keys. Between runs it drops them: the next run begins with all keys.
func (l *Loop[K]) Add(keys ...K) {
	if q := l.queue.Load(); q != nil {
		for _, key := range keys {
			(*q).Add(key)
		}
	}
}

// AddAll queues every key.
func (l *Loop[K]) AddAll() {
	if l.Running() {
		for key := range l.opts.Keys() {
			l.Add(key)
		}
	}
}

// Start runs the loop until ctx ends, and returns once its workers have ended. It may be called again then.
func (l *Loop[K]) Start(ctx context.Context) error {
	synced := func(context.Context) (bool, error) { return l.opts.HasSynced(), nil }
	if wait.PollUntilContextCancel(ctx, syncPoll, true, synced) != nil {
		return nil // ctx ended first
	}
	// A controller of controller-runtime cannot be started twice, so each run has one of its own.
	run, err := controller.NewTypedUnmanaged(l.name, controller.TypedOptions[K]{
		Reconciler:              l.reconciler,
		MaxConcurrentReconciles: l.opts.Workers,
		SkipNameValidation:      new(true),
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[K](FirstRetry, LastRetry),
		LogConstructor: func(key *K) logr.Logger {
			if key == nil { // of the controller itself, which starts and stops
				return logging.OfLibrary(l.opts.Log)
			}
			return l.opts.Log.WithValues(l.opts.LogKey, fmt.Sprint(*key))
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var resync sync.WaitGroup
	defer func() {
		cancel()
		resync.Wait()
		l.queue.Store(nil)
	}()
	if err := run.Watch(source.TypedFunc[K](func(_ context.Context, q queue[K]) error {
		l.queue.Store(&q) // before all keys are added, so that no event is lost between the two
		resync.Go(func() { wait.UntilWithContext(ctx, func(context.Context) { l.AddAll() }, l.opts.Resync) })
		return nil
	})); err != nil {
		return err
	}
	return run.Start(ctx)
}
