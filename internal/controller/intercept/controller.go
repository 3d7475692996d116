// Package proxies puts proxies in front of Services, and takes them away again. For each Service that
// asks for it and has a route it keeps a Deployment of proxies with what belongs to it, and it makes
// the Service lead to them, or past them while none can serve.
//
// It is level-triggered and keeps nothing that another leader could not find out: what a Service's
// author means is in the Service, and what is ours has labels.
package intercept

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	runtimecontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Name is the name of a Service with its namespace.
type Name = dataplane.Name

// State is what the controller needs to know of the cluster.
type State interface {
	View(*corev1.Service) (interception.View, error)
	Parent(Name) dataplane.Parent
	// Pods is how many pods of proxies a Service has, in whatever state.
	Pods(Name) int
	// Parents are the Services that there is something to say about.
	Parents() []Name
}

// Options configure a Controller.
type Options struct {
	// Config is what proxies are like where their Service does not say otherwise.
	Config objects.Config
	// Registered tells whether the API server knows our webhook of Services. Where it does not we are
	// being removed, and every Service gets its own selector back.
	Registered func(context.Context) (bool, error)
	// Workers look at Services at the same time; 0 means 8.
	Workers int
	// Resync is how often every Service is looked at again; 0 means 10 minutes.
	Resync time.Duration
	// Settle is how long proxies stay after the last Service has stopped leading to them, before they
	// are told to end; 0 means 10 seconds: until every kube-proxy has heard of it, and more.
	Settle time.Duration
	// Metrics may be nil.
	Metrics *Metrics
	Log     logr.Logger
}

// Retries of what went wrong start at firstRetry and double up to lastRetry; what the API server
// refuses waits slowRetry.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 30 * time.Second
	slowRetry  = time.Minute
)

// Controller keeps the proxies of all Services.
type Controller struct {
	state    State
	services Services
	objects  Objects
	recorder events.EventRecorder
	opts     Options

	mu sync.Mutex
	// idle is since when a Service does not lead to its proxies for good.
	idle map[Name]time.Time
	// said is the last Event about a Service that would be said at every look.
	said map[Name]string
	// granting is held while rights are given and taken, so that no older look undoes a newer one.
	granting sync.Mutex
	// granted are the foreign namespaces that a namespace's proxies may read, as they were written.
	granted map[string]map[string]bool
	// checked is when Registered was asked, and on what it said.
	checked time.Time
	on      bool
}

// New returns a controller.
func New(state State, services Services, objects Objects, recorder events.EventRecorder, opts Options) *Controller {
	if opts.Workers == 0 {
		opts.Workers = 8
	}
	if opts.Resync == 0 {
		opts.Resync = 10 * time.Minute
	}
	if opts.Settle == 0 {
		opts.Settle = 10 * time.Second
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	c := &Controller{state: state, services: services, objects: objects, recorder: recorder, opts: opts}
	c.forgetAll()
	return c
}

func (c *Controller) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.said, c.granted, c.checked = map[Name]time.Time{}, map[Name]string{}, map[string]map[string]bool{}, time.Time{}
	c.opts.Metrics.forget()
}

// Queue is where Services wait for a look.
type Queue = workqueue.TypedRateLimitingInterface[Name]

// Start runs the controller until ctx ends; it may be started again then. feed is called once and adds
// the Services that events concern to the queue, until its context ends.
func (c *Controller) Start(ctx context.Context, feed func(context.Context, Queue) error) error {
	c.forgetAll()
	rc, err := runtimecontroller.NewTypedUnmanaged("mirrorgate-proxies", runtimecontroller.TypedOptions[Name]{
		Reconciler:              c,
		MaxConcurrentReconciles: c.opts.Workers,
		SkipNameValidation:      new(true),
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[Name](firstRetry, lastRetry),
		LogConstructor: func(name *Name) logr.Logger {
			if name == nil {
				return c.opts.Log
			}
			return c.opts.Log.WithValues("service", name.String())
		},
	})
	if err != nil {
		return err
	}
	if err := rc.Watch(source.TypedFunc[Name](func(ctx context.Context, q Queue) error {
		err := feed(ctx, q)
		go c.resync(ctx, q) // after it, so that no event falls in between
		return err
	})); err != nil {
		return err
	}
	return rc.Start(ctx)
}

// asking is how often it is asked whether the webhook is registered.
const asking = 2 * time.Second

// resync looks at every Service now and then, whatever events said, and when the webhook comes or goes.
func (c *Controller) resync(ctx context.Context, q Queue) {
	all := func() {
		for _, name := range c.state.Parents() {
			q.Add(name)
		}
	}
	all()
	again, ask := time.NewTicker(c.opts.Resync), time.NewTicker(asking)
	defer again.Stop()
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			c.mu.Lock()
			clear(c.granted)
			c.mu.Unlock()
			all()
		case <-ask.C:
			c.mu.Lock()
			before := c.on
			c.mu.Unlock()
			if on, err := c.registered(ctx, 0); err == nil && on != before {
				all()
			}
		}
	}
}

// registered asks whether the API server knows our webhook, unless it did so just now. Without an
// answer the last one holds; that there never was one must not lead every Service elsewhere.
func (c *Controller) registered(ctx context.Context, fresh time.Duration) (bool, error) {
	c.mu.Lock()
	on, known := c.on, time.Since(c.checked) < fresh
	c.mu.Unlock()
	if known {
		return on, nil
	}
	answer, err := c.opts.Registered(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if c.checked.IsZero() {
			return false, fmt.Errorf("ask for the webhook of Services: %w", err)
		}
		return c.on, nil
	}
	if c.on != answer || c.checked.IsZero() {
		c.opts.Log.Info("webhook of Services", "registered", answer)
	}
	c.on, c.checked = answer, time.Now()
	return answer, nil
}

// decide is what a Service has to be by what is known now.
func (c *Controller) decide(ctx context.Context, o *corev1.Service, fresh time.Duration) (interception.Decision, error) {
	view, err := c.state.View(o)
	if err != nil {
		return interception.Decision{}, err
	}
	on, err := c.registered(ctx, fresh)
	if err != nil {
		return interception.Decision{}, err
	}
	view.Wanted = view.Wanted && on
	s := objects.Read(o)
	return interception.Decide(s, s, &view), nil
}

// Reconcile makes a Service, and what is in front of it, as it should be.
func (c *Controller) Reconcile(ctx context.Context, name Name) (reconcile.Result, error) {
	o, err := c.services.Get(ctx, name)
	if apierrors.IsNotFound(err) || err == nil && o.DeletionTimestamp != nil {
		c.forget(name)
		return reconcile.Result{}, c.grant(ctx, name.Namespace) // the rest has owners
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	d, err := c.decide(ctx, o, asking)
	if err != nil {
		return reconcile.Result{}, err
	}
	if d.Lost {
		c.warn(o, "SelectorLost", "%s; apply its manifest again", d.Why)
		return reconcile.Result{RequeueAfter: slowRetry}, nil
	}
	steered := error(nil)
	if !agrees(o, &d) || claims(o) {
		steered = c.steer(ctx, o, &d)
	}
	var result reconcile.Result
	if d.Mode == interception.Own {
		c.refused(o, name)
		result, err = c.release(ctx, o, steered == nil)
	} else {
		err = c.ensure(ctx, o, d.Original)
	}
	c.opts.Metrics.is(name, d.Mode)
	if steered != nil && !refuses(steered) {
		return reconcile.Result{}, errors.Join(steered, err) // soon: clients wait for it
	}
	return c.told(o, result, errors.Join(steered, err, c.grant(ctx, name.Namespace)))
}

// refuses says whether the API server would say the same again.
func refuses(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)
}

// told tells what the API server refuses, which is tried again in a while.
func (c *Controller) told(o *corev1.Service, result reconcile.Result, err error) (reconcile.Result, error) {
	var foreign *foreignError
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &foreign):
		c.warn(o, "NameTaken", "%v", foreign)
	case refuses(err):
		c.opts.Log.Error(err, "the API server refuses what a Service needs", "service", nameOf(o).String(), "retry", slowRetry.String())
		c.warn(o, "ProxyFailed", "the API server refuses: %v", err)
	default:
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: slowRetry}, nil
}

func (c *Controller) forget(name Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.idle, name)
	delete(c.said, name)
	c.opts.Metrics.is(name, "")
}

// refused tells why a Service that asks for proxies gets none.
func (c *Controller) refused(o *corev1.Service, name Name) {
	f := c.state.Parent(name)
	label := o.Labels[wellknown.Label]
	if asks := label == wellknown.Enabled || label == "" && f.Namespace; asks && f.Named && f.Refused != "" {
		c.warn(o, "ProxyRefused", "no proxy can stand in front of it: %s", f.Refused)
	}
}

func agrees(o *corev1.Service, d *interception.Decision) bool {
	return maps.Equal(o.Spec.Selector, d.Selector) && o.Annotations[wellknown.SelectorAnnotation] == d.Recorded
}

func nameOf(o *corev1.Service) Name { return Name{Namespace: o.Namespace, Name: o.Name} }
