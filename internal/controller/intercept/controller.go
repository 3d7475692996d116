// Package intercept puts proxies in front of Services, and removes them again. For each Service that asks for
// proxies and has a route it keeps a Deployment of proxies with the objects that belong to it, and it makes
// the Service lead to them, or past them while none can serve.
//
// It is level-triggered, and another leader can find out everything it knows: a Service's original selector
// is kept in the Service, and mirrorgate's own objects have labels.
package intercept

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	k8sevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Name is the name of a Service with its namespace.
type Name = dataplane.Name

// State is the controller's view of the cluster.
type State interface {
	View(*corev1.Service) (interception.View, error)
	Parent(Name) dataplane.Parent
	// Pods returns the number of a Service's proxy pods, whatever their state.
	Pods(Name) int
	// Names returns the Services that concern the controller.
	Parents() []Name
}

// Options configure a Controller.
type Options struct {
	// Config returns the settings of proxies whose Service does not override them. It is called at the start
	// of each run, which ends if it fails.
	Config func(context.Context) (objects.Config, error)
	// Registered reports whether the API server knows the webhook of Services. Where it does not, mirrorgate
	// is being removed, and every Service gets its own selector back.
	Registered func(context.Context) (bool, error)
	// Report returns where proxies report to, once Registered has answered; nil means nowhere.
	Report func() wellknown.ReportTarget
	// HasSynced reports whether the State is complete; nil means that it always is.
	HasSynced func() bool
	// Workers is the number of Services that are reconciled at the same time; 0 means 8.
	Workers int
	// Resync is the time after which every Service is reconciled again; 0 means 10 minutes.
	Resync time.Duration
	// Linger is the time for which proxies keep running after their Service has stopped leading to them; 0
	// means 10 seconds, in which every kube-proxy has received the change.
	Linger time.Duration
	// Metrics may be nil.
	Metrics *Metrics
	Log     logr.Logger
}

// Controller keeps the proxies of all Services.
type Controller struct {
	loop     *loop.Loop[Name]
	state    State
	services Services
	objects  Objects
	events   events.Reporter
	opts     Options

	// config is that of the current run.
	config       objects.Config
	registration registration
	// warned are the problems of Services that were reported.
	warned events.News[Name]
	// idle are the times at which Services stopped leading to their proxies for good, by Name.
	idle sync.Map
	// granting is held while rights are given and taken, so that an older decision cannot undo a newer one.
	granting sync.Mutex
	// granted are the namespaces that the proxies of a namespace may read, as they were written last.
	granted events.News[string]
}

// New returns a controller.
func New(state State, services Services, objects Objects, recorder k8sevents.EventRecorder, opts Options) *Controller {
	if opts.Linger == 0 {
		opts.Linger = 10 * time.Second
	}
	if opts.Report == nil {
		opts.Report = func() wellknown.ReportTarget { return wellknown.ReportTarget{} }
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	c := &Controller{
		state: state, services: services, objects: objects, events: events.NewReporter(recorder, "Proxy"), opts: opts,
		registration: registration{registered: opts.Registered, report: opts.Report, log: opts.Log},
	}
	c.loop = loop.New("mirrorgate-proxies", c, loop.Options[Name]{
		Keys: c.keys, HasSynced: opts.HasSynced, Workers: opts.Workers, Resync: opts.Resync, Log: opts.Log, LogKey: "service",
	})
	return c
}

// Start runs the controller until ctx ends; it may be started again then.
func (c *Controller) Start(ctx context.Context) (err error) {
	if c.config, err = c.opts.Config(ctx); err != nil {
		return err
	}
	c.registration.forget()
	c.granted.Clear()
	c.warned.Clear()
	c.idle.Clear()
	c.opts.Metrics.forget()
	go c.registration.watch(ctx, c.loop.AddAll)
	return c.loop.Start(ctx)
}

// Add queues Services that an event concerns. While the controller does not run it does nothing.
func (c *Controller) Add(names ...Name) { c.loop.Add(names...) }

// keys returns every Service for a resync, which also repairs grants that somebody deleted.
func (c *Controller) keys() iter.Seq[Name] {
	c.granted.Clear()
	return slices.Values(c.state.Parents())
}

func (c *Controller) forget(name Name) {
	c.warned.Forget(name)
	c.opts.Metrics.setMode(name, "")
	c.idle.Delete(name)
}

// decide returns the decision about a Service. The answer about the webhook's registration may be as old as
// maxAge.
func (c *Controller) decide(ctx context.Context, o *corev1.Service, maxAge time.Duration) (interception.Decision, error) {
	view, err := c.state.View(o)
	if err != nil {
		return interception.Decision{}, err
	}
	webhookRegistered, err := c.registration.check(ctx, maxAge)
	if err != nil {
		return interception.Decision{}, err
	}
	view.Wanted = view.Wanted && webhookRegistered
	s := objects.Read(o)
	return interception.Decide(s, s, &view), nil
}

// Reconcile makes a Service lead where it should, and keeps or removes its proxies.
func (c *Controller) Reconcile(ctx context.Context, name Name) (reconcile.Result, error) {
	o, err := c.services.Get(ctx, name)
	if apierrors.IsNotFound(err) || err == nil && o.DeletionTimestamp != nil {
		c.forget(name)
		return reconcile.Result{}, c.grant(ctx, name.Namespace) // its other objects have owners
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	d, err := c.decide(ctx, o, registeredPoll)
	if err != nil {
		return reconcile.Result{}, err
	}
	if d.Lost {
		c.warn(o, "SelectorLost", "%s; apply its manifest again", d.Why)
		return reconcile.Result{RequeueAfter: loop.SlowRetry}, nil
	}
	var steerErr error
	if !agrees(o, &d) || ownsSelector(o) {
		steerErr = c.steer(ctx, o, &d)
	}
	var result reconcile.Result
	if d.Mode == interception.Own {
		c.warnIfRefused(o)
		result, err = c.release(ctx, o, steerErr == nil)
	} else {
		err = c.ensure(ctx, o, d.Original)
	}
	c.opts.Metrics.setMode(name, d.Mode)
	if steerErr != nil && !loop.Refused(steerErr) {
		return reconcile.Result{}, errors.Join(steerErr, err) // retried soon, since clients wait for it
	}
	return c.finish(o, result, errors.Join(steerErr, err, c.grant(ctx, name.Namespace)))
}

// finish reports an error that only a person can mend, and retries after SlowRetry; it returns any other one.
func (c *Controller) finish(o *corev1.Service, result reconcile.Result, err error) (reconcile.Result, error) {
	var foreign *foreignError
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &foreign):
		c.warn(o, "NameTaken", "%v", foreign)
	case loop.Refused(err):
		c.opts.Log.Error(err, "The API server refuses a write for a Service", "service", nameOf(o).String(), "retry", loop.SlowRetry.String())
		c.warn(o, "ProxyFailed", "the API server refuses: %v", err)
	default:
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: loop.SlowRetry}, nil
}

func nameOf(o *corev1.Service) Name { return Name{Namespace: o.Namespace, Name: o.Name} }
