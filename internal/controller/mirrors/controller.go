// Package controller makes mirrors follow their variants when nobody writes the
// route: it touches every route whose stored state differs from what policy
// says, and admission rewrites the spec inside that same request.
//
// It never patches spec. rules, filters and http are atomic lists: whoever
// patches one takes it from the tool that applies the route.
package mirrors

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	runtimecontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Index is what the controller needs to know of the cluster.
type Index interface {
	// Route returns a route that carries mirrors or our annotations, or nil.
	Route(route.Key) *route.Route
	Keys() iter.Seq[route.Key]
	Snapshot(*route.Route) policy.Snapshot
}

// Toucher asks admission to decide on a route again.
type Toucher interface {
	// Touch writes the variants annotation and returns the stored object.
	Touch(ctx context.Context, doc *route.Route, variants string) ([]byte, error)
}

// Options configure a Controller.
type Options struct {
	Policy        policy.Config
	ClusterDomain string
	// Workers touch routes at the same time; 0 means 8.
	Workers int
	// Resync is how often every route is looked at again; 0 means 10 minutes.
	Resync time.Duration
	// Elsewhere tells of a route that somebody else of ours decides on, and applies as decided;
	// nil means there is none.
	Elsewhere func(*route.Route) bool
	// Metrics may be nil.
	Metrics *Metrics
	Log     logr.Logger
}

// Retries of a touch that admission did not answer start at firstRetry and
// double up to lastRetry; a write that the API server refuses waits slowRetry.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 30 * time.Second
	slowRetry  = time.Minute
	// elsewhere is how long a route is left to who decides on it.
	elsewhere = 10 * time.Second
)

// Controller touches routes. It is level-triggered: whatever it missed, the
// next look at the route mends.
type Controller struct {
	index      Index
	toucher    Toucher
	namespaces Namespaces
	recorder   events.EventRecorder
	opts       Options

	mu      sync.Mutex
	pending map[route.Key]*pending
}

// pending is a route that may have to be flipped.
type pending struct {
	// since is when it was noticed, or will be: when a grace ends.
	since    time.Time
	attempts int
}

// New returns a controller over an index.
func New(index Index, toucher Toucher, namespaces Namespaces, recorder events.EventRecorder, opts Options) *Controller {
	if opts.Workers == 0 {
		opts.Workers = 8
	}
	if opts.Resync == 0 {
		opts.Resync = 10 * time.Minute
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	return &Controller{
		index: index, toucher: toucher, namespaces: namespaces, recorder: recorder,
		opts: opts, pending: map[route.Key]*pending{},
	}
}

// Queue is where routes wait for a look.
type Queue = workqueue.TypedRateLimitingInterface[route.Key]

// Start runs the controller until ctx ends; it may be started again then. feed
// is called once and adds the routes that events concern to the queue, until its
// context ends.
func (c *Controller) Start(ctx context.Context, feed func(context.Context, Queue) error) error {
	c.mu.Lock()
	clear(c.pending) // what was noticed in an earlier term is old news
	c.mu.Unlock()
	unnamed := true
	rc, err := runtimecontroller.NewTypedUnmanaged("mirrorgate", runtimecontroller.TypedOptions[route.Key]{
		Reconciler:              c,
		MaxConcurrentReconciles: c.opts.Workers,
		SkipNameValidation:      &unnamed,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[route.Key](firstRetry, lastRetry),
		LogConstructor: func(key *route.Key) logr.Logger {
			if key == nil {
				return c.opts.Log
			}
			return c.opts.Log.WithValues("route", key.String())
		},
	})
	if err != nil {
		return err
	}
	if err := rc.Watch(source.TypedFunc[route.Key](func(ctx context.Context, q Queue) error {
		err := feed(ctx, q)
		go c.resync(ctx, q) // after it, so that no event falls in between
		return err
	})); err != nil {
		return err
	}
	return rc.Start(ctx)
}

// resync looks at every route now and then, whatever events said.
func (c *Controller) resync(ctx context.Context, q Queue) {
	tick := time.NewTicker(c.opts.Resync)
	defer tick.Stop()
	for {
		for key := range c.index.Keys() {
			q.Add(key)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Noticed tells that an event may concern a route: from here the time until its
// flip is stored is measured.
func (c *Controller) Noticed(key route.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.pending[key] == nil || c.pending[key].since.After(now) {
		c.pending[key] = &pending{since: now}
	}
}

// awaits tells that a route may have to be flipped after a grace: what moves a mirror
// then is that it ends.
func (c *Controller) awaits(key route.Key, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[key] = &pending{since: time.Now().Add(grace)}
}

// Reconcile touches a route if its stored state is not what policy says.
func (c *Controller) Reconcile(ctx context.Context, key route.Key) (reconcile.Result, error) {
	doc := c.index.Route(key)
	if doc == nil {
		c.settled(key)
		return reconcile.Result{}, nil
	}
	snap := c.index.Snapshot(doc)
	decision, err := policy.Decide(doc, snap, c.opts.Policy)
	if err != nil {
		return reconcile.Result{}, err
	}
	again := reconcile.Result{RequeueAfter: snap.Recheck}
	if len(decision.Plan.Operations) == 0 || c.optedOut(ctx, doc) {
		c.settled(key)
		if snap.Recheck > 0 {
			c.awaits(key, snap.Recheck)
		}
		return again, nil
	}
	if c.opts.Elsewhere != nil && c.opts.Elsewhere(doc) {
		c.settled(key)
		return reconcile.Result{RequeueAfter: elsewhere}, nil
	}
	raw, err := c.toucher.Touch(ctx, doc, policy.VariantsValue(doc, snap))
	if err != nil {
		return c.untouched(doc, err)
	}
	carried, err := c.carried(doc, raw)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !carried {
		return c.uncarried(doc, decision), nil
	}
	c.flipped(doc, decision)
	return again, nil
}

// untouched tells what to do about a touch that the API server did not store.
func (c *Controller) untouched(doc *route.Route, err error) (reconcile.Result, error) {
	result := "error"
	switch {
	case gone(err):
		c.settled(doc.Key)
		c.opts.Metrics.touches.WithLabelValues("gone").Inc()
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err):
		result = "conflict"
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
		c.opts.Metrics.touches.WithLabelValues("refused").Inc()
		c.opts.Log.Error(err, "the API server refuses to flip a route", "route", doc.String(), "retry", slowRetry.String())
		c.event(doc, warning, "FlipRefused", "mirrors cannot be moved: %v", err)
		return reconcile.Result{RequeueAfter: slowRetry}, nil
	}
	c.opts.Metrics.touches.WithLabelValues(result).Inc()
	return reconcile.Result{}, fmt.Errorf("touch %s: %w", doc.Key, err)
}

// carried tells whether the object that a touch returned is as decided. It is not
// when the webhook is away, or answered from a cache that lags behind ours.
func (c *Controller) carried(doc *route.Route, raw []byte) (bool, error) {
	after, err := route.Decode(raw, route.Options{ClusterDomain: c.opts.ClusterDomain})
	if err != nil {
		return false, fmt.Errorf("touch %s: %w", doc.Key, err)
	}
	again, err := policy.Decide(after, c.index.Snapshot(after), c.opts.Policy)
	if err != nil {
		return false, fmt.Errorf("touch %s: %w", doc.Key, err)
	}
	return len(again.Plan.Operations) == 0, nil
}

// delayed is how many touches in vain are told, after a second and a half or so. Before
// that it is next to nothing: a replica's cache may be a moment behind.
const delayed = 5

// uncarried tells when to touch again what a touch did not move.
func (c *Controller) uncarried(doc *route.Route, decision policy.Decision) reconcile.Result {
	c.opts.Metrics.touches.WithLabelValues("not_carried").Inc()
	attempts := c.failed(doc.Key)
	// Doubled so often it is longer than lastRetry.
	again := min(firstRetry<<min(attempts-1, 10), lastRetry)
	level := 1
	if attempts >= delayed {
		level = 0
	}
	c.opts.Log.V(level).Info("a touch was stored, but admission did not move the mirrors", "route", doc.String(),
		"reason", decision.Reason, "attempts", attempts, "retry", again.String())
	if attempts == delayed {
		c.event(doc, warning, "FlipDelayed", "mirrors wait to be moved (%s): is the mutating webhook reachable?", decision.Reason)
	}
	return reconcile.Result{RequeueAfter: again}
}

// flipped tells of mirrors that moved.
func (c *Controller) flipped(doc *route.Route, decision policy.Decision) {
	c.opts.Metrics.touches.WithLabelValues("flipped").Inc()
	c.announce(doc, decision)
	if p := c.settled(doc.Key); p != nil {
		took := max(0, time.Since(p.since))
		c.opts.Metrics.latency.WithLabelValues(string(doc.Kind), string(decision.Action)).Observe(took.Seconds())
	}
}

func (c *Controller) settled(key route.Key) *pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[key]
	delete(c.pending, key)
	return p
}

// failed counts an attempt and returns how many there were.
func (c *Controller) failed(key route.Key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pending[key]
	if p == nil {
		p = &pending{since: time.Now()}
		c.pending[key] = p
	}
	p.attempts++
	return p.attempts
}
