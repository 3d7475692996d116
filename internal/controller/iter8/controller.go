// Package iter8 serves Iter8's documents: it keeps the routes that subjects, routing policies and routemaps
// ask for, each with those of its mirrors whose variant is ready.
//
// Their author writes a ConfigMap, so nothing is parked: a route is applied with a mirror or without it. It
// is applied and never forced: a field that somebody else owns stays theirs, and an Event of the ConfigMap
// reports the conflict.
package iter8

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	k8sevents "k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// Index is the controller's view of the variants of the cluster.
type Index interface {
	Snapshot(*route.Route) policy.Snapshot
	Subscribe(variant.Subscriber)
	SubscribeServices(func([]types.NamespacedName))
}

// Options configure a Controller.
type Options struct {
	Policy        policy.Config
	ClusterDomain string
	// Grace is how long a resource that was ready may be unready before it counts as away.
	Grace time.Duration
	// HasSynced reports whether the index is complete; nil means that it always is.
	HasSynced func() bool
	// Recorder receives the Events for the authors of the documents; nil means none.
	Recorder k8sevents.EventRecorder
	// Metrics may be nil.
	Metrics *Metrics
	Log     logr.Logger
}

const (
	// workers is the number of namespaces that are reconciled at the same time.
	workers = 4
	// slowRetry is the time after which an attempt is repeated that failed for a reason which somebody has to
	// mend first. A change of an object that it concerns comes earlier.
	slowRetry = 30 * time.Second
	// recheck is the time after which a mirror that is left out is decided on again, for changes without an
	// event, such as those of ReferenceGrants.
	recheck = 10 * time.Second
)

// Controller applies the routes of all documents of a cluster. It reconciles namespaces.
type Controller struct {
	loop      *loop.Loop[string]
	index     Index
	clientset kubernetes.Interface
	objects   dynamic.Interface
	routes    routes
	events    events.Reporter
	opts      Options
	run       atomic.Pointer[run] // nil while it does not run
}

// New returns a Controller for an API server.
func New(config *rest.Config, index Index, opts Options) (*Controller, error) {
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{} // they are meant for people
	config.QPS = -1                           // the API server's priority and fairness limits the rate
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		index: index, clientset: clientset, objects: objects, routes: routes{objects},
		events: events.NewReporter(opts.Recorder, "Route"), opts: opts,
	}
	c.loop = loop.New("mirrorgate-iter8", c, loop.Options[string]{
		Keys:      func() iter.Seq[string] { return slices.Values(c.run.Load().names()) },
		HasSynced: opts.HasSynced, Workers: workers, Log: opts.Log, LogKey: "namespace",
	})
	// An event about a mirror in the spec comes by its route, one about a mirror that is left out by its
	// Service.
	index.Subscribe(func(keys []route.Key) {
		for _, key := range keys {
			c.loop.Add(key.Namespace)
		}
	})
	index.SubscribeServices(func(names []types.NamespacedName) {
		for _, name := range names {
			c.loop.Add(name.Namespace)
		}
	})
	return c, nil
}

// Manages reports whether a route follows a document, so that no other controller has to decide on it. Until
// all documents were served once, every route of a ConfigMap counts as managed.
func (c *Controller) Manages(rt *route.Route) bool {
	if !rt.FromConfigMap() {
		return false
	}
	r := c.run.Load()
	return r == nil || !r.complete.Load() || r.manages(rt.Key, types.UID(rt.UID))
}

// Start serves the documents until ctx ends, and leaves nothing running. It may be called again then.
func (c *Controller) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	r := newRun(ctx, c)
	var informers sync.WaitGroup
	defer func() {
		c.run.Store(nil)
		cancel()
		informers.Wait()
		for namespace, s := range r.states.Range {
			s.(*namespaceState).watches.keep(ctx, nil)
			c.opts.Metrics.count(namespace.(string), nil)
		}
	}()
	for _, selector := range []string{documents.ManagedByLabel + "=" + documents.ManagedBy, documents.KindLabel + "=" + documents.KindRoutemap} {
		if err := r.watchConfigMaps(selector); err != nil {
			return err
		}
	}
	for _, informer := range r.configmaps {
		informers.Go(func() { informer.RunWithContext(ctx) })
	}
	if !r.waitForDocuments() {
		return nil
	}
	c.run.Store(r)
	return c.loop.Start(ctx)
}

// Reconcile serves the documents of one namespace.
func (c *Controller) Reconcile(ctx context.Context, namespace string) (reconcile.Result, error) {
	r := c.run.Load()
	defer r.served(namespace)
	configmaps := r.documents(namespace)
	if len(configmaps) == 0 {
		r.drop(namespace)
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: r.state(namespace).reconcile(ctx, configmaps)}, nil
}
