// Package mirrors makes mirrors follow their variants when nobody writes the route: it touches every route
// whose stored state differs from the decision of policy, and admission rewrites the spec inside that same
// request.
//
// It never patches spec: rules, filters and http are atomic lists, and a patch of one would take it from the
// tool that applies the route.
package mirrors

import (
	"context"
	"iter"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	k8sevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Index is the controller's view of the cluster.
type Index interface {
	// Route returns a route that carries mirrors or annotations of mirrorgate, or nil.
	Route(route.Key) *route.Route
	Keys() iter.Seq[route.Key]
	Snapshot(*route.Route) policy.Snapshot
}

// Options configure a Controller.
type Options struct {
	Policy        policy.Config
	ClusterDomain string
	// Workers is the number of routes that are touched at the same time; 0 means 8.
	Workers int
	// Resync is the time after which every route is checked again; 0 means 10 minutes.
	Resync time.Duration
	// HasSynced reports whether the index is complete; nil means that it always is.
	HasSynced func() bool
	// Managed reports whether another controller of mirrorgate decides on a route, and applies it as decided;
	// nil means that there is no such controller.
	Managed func(*route.Route) bool
	// Metrics may be nil.
	Metrics *Metrics
	Log     logr.Logger
}

// managedRecheck is the time after which a route that another controller manages is checked again.
const managedRecheck = 10 * time.Second

// Controller touches routes. It is level-triggered: the next check of a route repairs a missed event.
type Controller struct {
	loop       *loop.Loop[route.Key]
	index      Index
	toucher    Toucher
	namespaces Namespaces
	events     events.Reporter
	opts       Options
	pending    pendingFlips
	// parked holds the parked mirrors of each route that Events have reported.
	parked events.News[route.Key]
}

// New returns a controller over an index.
func New(index Index, toucher Toucher, namespaces Namespaces, recorder k8sevents.EventRecorder, opts Options) *Controller {
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	c := &Controller{
		index: index, toucher: toucher, namespaces: namespaces, events: events.NewReporter(recorder, "Mirror"), opts: opts,
	}
	c.loop = loop.New("mirrorgate", c, loop.Options[route.Key]{
		Keys: index.Keys, HasSynced: opts.HasSynced, Workers: opts.Workers, Resync: opts.Resync,
		Log: opts.Log, LogKey: "route",
	})
	return c
}

// Start runs the controller until ctx ends; it may be started again then.
func (c *Controller) Start(ctx context.Context) error {
	c.pending.clear() // the flips of an earlier run are of no interest
	c.parked.Clear()
	return c.loop.Start(ctx)
}

// Notify takes the routes that an event may concern: their time until the flip is stored is measured from
// here. While the controller does not run it does nothing.
func (c *Controller) Notify(keys []route.Key) {
	if !c.loop.Running() {
		return
	}
	for _, key := range keys {
		c.pending.notice(key)
	}
	c.loop.Add(keys...)
}

// Reconcile touches a route if its stored state differs from the decision of policy.
func (c *Controller) Reconcile(ctx context.Context, key route.Key) (reconcile.Result, error) {
	rt := c.index.Route(key)
	if rt == nil {
		c.pending.remove(key)
		c.parked.Forget(key)
		return reconcile.Result{}, nil
	}
	snap := c.index.Snapshot(rt)
	decision, err := policy.Decide(rt, snap, c.opts.Policy)
	if err != nil {
		return reconcile.Result{}, err
	}
	recheck := reconcile.Result{RequeueAfter: snap.Recheck}
	if len(decision.Plan.Operations) == 0 || c.optedOut(ctx, rt) {
		if c.pending.remove(key) != nil {
			c.announceStored(rt, decision)
		} else {
			c.noteParked(rt, decision) // a new leader says nothing of mirrors that were parked before it led
		}
		if snap.Recheck > 0 {
			c.pending.noticeAfter(key, snap.Recheck)
		}
		return recheck, nil
	}
	if c.opts.Managed != nil && c.opts.Managed(rt) {
		c.pending.remove(key)
		return reconcile.Result{RequeueAfter: managedRecheck}, nil
	}
	raw, err := c.toucher.Touch(ctx, rt, policy.VariantsValue(rt, snap, decision))
	if err != nil {
		return c.touchFailed(rt, err)
	}
	carried, err := c.carried(rt, raw)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !carried {
		return c.notCarried(rt, decision), nil
	}
	c.flipped(rt, decision)
	return recheck, nil
}

// delayed is the number of touches in vain after which an Event reports them, about 1.5 s after the first.
// Fewer mean little: the cache of a replica may lag behind.
const delayed = 5

// notCarried returns when to repeat a touch that did not move the mirrors.
func (c *Controller) notCarried(rt *route.Route, decision policy.Decision) reconcile.Result {
	c.opts.Metrics.touches.WithLabelValues("not_carried").Inc()
	attempts := c.pending.fail(rt.Key)
	retry := loop.Backoff(attempts)
	level := 1
	if attempts >= delayed {
		level = 0
	}
	c.opts.Log.V(level).Info("A touch was stored, but admission did not move the mirrors", "route", rt.String(),
		"reason", decision.Reason, "attempts", attempts, "retry", retry.String())
	if attempts == delayed {
		c.report(rt, corev1.EventTypeWarning, "FlipDelayed", "mirrors wait to be moved (%s): is the mutating webhook reachable?", decision.Reason)
	}
	return reconcile.Result{RequeueAfter: retry}
}

// flipped reports mirrors that moved.
func (c *Controller) flipped(rt *route.Route, decision policy.Decision) {
	c.opts.Metrics.touches.WithLabelValues("flipped").Inc()
	c.announce(rt, decision)
	if p := c.pending.remove(rt.Key); p != nil {
		took := max(0, time.Since(p.since))
		c.opts.Metrics.latency.WithLabelValues(string(rt.Kind), string(decision.Action)).Observe(took.Seconds())
	}
}
