// Package documents serves Iter8's documents: it keeps the routes that subjects, routing
// policies and routemaps ask for, each with those of its mirrors whose variant is there.
//
// Their intent is in a ConfigMap, so nothing is parked: a route is applied with a mirror or
// without. It is applied, and never forced: what somebody else owns stays his, and he is told
// of by an Event of the ConfigMap.
package iter8

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// Index is what is known of the variants of the cluster.
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
	// Workers look at namespaces at the same time; 0 means 4.
	Workers int
	// Recorder tells the authors of the documents.
	Recorder events.EventRecorder
	// Metrics may be nil.
	Metrics *Metrics
	Log     logr.Logger
}

// Retries of what may go right the next time start at firstRetry and double up to
// lastRetry; what somebody has to mend first waits slowRetry, or until an object that it
// concerns changes. recheck is how often a mirror that is left out is decided on again, for
// what comes without an event, as ReferenceGrants do.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 30 * time.Second
	slowRetry  = 30 * time.Second
	recheck    = 10 * time.Second
)

// Controller applies the routes of all documents of a cluster. It may run once at a time.
type Controller struct {
	index     Index
	clientset kubernetes.Interface
	objects   dynamic.Interface
	routes    routes
	opts      Options
	term      atomic.Pointer[term] // nil while it does not run
}

// New returns a Controller for an API server.
func New(config *rest.Config, index Index, opts Options) (*Controller, error) {
	if opts.Workers == 0 {
		opts.Workers = 4
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	config = rest.CopyConfig(config)
	config.WarningHandler = rest.NoWarnings{} // meant for people
	config.QPS = -1                           // priority and fairness of the API server bound us
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	routes, err := newRoutes(config)
	if err != nil {
		return nil, err
	}
	c := &Controller{index: index, clientset: clientset, objects: objects, routes: routes, opts: opts}
	// A mirror that is in the spec is in the index, and heard of by its route; one that is not,
	// by its Service.
	index.Subscribe(func(keys []route.Key) {
		if t := c.term.Load(); t != nil {
			for _, key := range keys {
				t.look(key.Namespace)
			}
		}
	})
	index.SubscribeServices(func(names []types.NamespacedName) {
		if t := c.term.Load(); t != nil {
			for _, name := range names {
				t.look(name.Namespace)
			}
		}
	})
	return c, nil
}

// Manages tells whether a route follows a document, so that nobody else has to decide on it.
// Until all documents were looked at, it may.
func (c *Controller) Manages(doc *route.Route) bool {
	if !doc.FromConfigMap() {
		return false
	}
	t := c.term.Load() // nil while it starts
	return t == nil || !t.looked.Load() || t.manages(doc.Key, types.UID(doc.UID))
}

// term is one run of the controller, and all that is known in it.
type term struct {
	*Controller
	ctx        context.Context
	configmaps []cache.SharedIndexInformer
	queue      workqueue.TypedRateLimitingInterface[string] // namespaces
	kinds      *kinds
	// looked is set when every document was looked at once.
	looked atomic.Bool

	mu      sync.Mutex
	spaces  map[string]*space
	managed map[route.Key]types.UID
}

// Start serves the documents until ctx ends, and leaves nothing running.
func (c *Controller) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &term{
		Controller: c, ctx: ctx,
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)),
		kinds: newKinds(memory.NewMemCacheClient(c.clientset.Discovery())), spaces: map[string]*space{}, managed: map[route.Key]types.UID{},
	}
	var running sync.WaitGroup
	var heard []cache.InformerSynced
	for _, selector := range []string{documents.ManagedByLabel + "=" + documents.ManagedBy, documents.KindLabel + "=" + documents.KindRoutemap} {
		informer, handled, err := t.watchConfigMaps(selector)
		if err != nil {
			return err
		}
		t.configmaps, heard = append(t.configmaps, informer), append(heard, handled.HasSynced)
	}
	for _, informer := range t.configmaps {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	c.term.Store(t)
	if cache.WaitForCacheSync(ctx.Done(), heard...) {
		t.looked.Store(t.queue.Len() == 0)
		for range c.opts.Workers {
			running.Go(t.work)
		}
	}
	<-ctx.Done()
	c.term.Store(nil)
	t.queue.ShutDown()
	running.Wait()
	for _, s := range t.spaces {
		s.watches.end()
	}
	c.opts.Metrics.forget()
	return nil
}

// watchConfigMaps follows the ConfigMaps with a label, and keeps of them what is read.
func (t *term) watchConfigMaps(selector string) (cache.SharedIndexInformer, cache.ResourceEventHandlerRegistration, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(t.clientset, 0, informers.WithTweakListOptions(
		func(options *metav1.ListOptions) { options.LabelSelector = selector },
	))
	informer := factory.Core().V1().ConfigMaps().Informer()
	if err := informer.SetTransform(func(object any) (any, error) {
		if cm, ok := object.(*corev1.ConfigMap); ok {
			cm.ManagedFields, cm.Annotations, cm.BinaryData = nil, nil, nil
		}
		return object, nil
	}); err != nil {
		return nil, nil, err
	}
	handled, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { t.open(object) },
		UpdateFunc: func(_, object any) { t.open(object) },
		DeleteFunc: func(object any) { t.open(object) },
	})
	return informer, handled, err
}

// open looks at the namespace of a document.
func (t *term) open(object any) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		return
	}
	namespace, _, _ := cache.SplitMetaNamespaceKey(key)
	t.space(namespace)
	t.queue.Add(namespace)
}

// look looks at a namespace if there are documents in it.
func (t *term) look(namespace string) {
	t.mu.Lock()
	_, ok := t.spaces[namespace]
	t.mu.Unlock()
	if ok {
		t.queue.Add(namespace)
	}
}

func (t *term) space(namespace string) *space {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.spaces[namespace]
	if s == nil {
		s = newSpace(t, namespace)
		t.spaces[namespace] = s
	}
	return s
}

func (t *term) work() {
	for {
		namespace, shutdown := t.queue.Get()
		if shutdown {
			return
		}
		t.reconcile(namespace)
		t.queue.Done(namespace)
		if !t.looked.Load() && t.queue.Len() == 0 {
			t.looked.Store(true)
		}
	}
}

// reconcile looks at one namespace.
func (t *term) reconcile(namespace string) {
	defer func() {
		if p := recover(); p != nil { // one document must not end what serves all others
			t.opts.Log.Error(fmt.Errorf("panic: %v", p), "documents of a namespace are not served", "namespace", namespace)
			t.opts.Metrics.applies.WithLabelValues("error").Inc()
			t.queue.AddAfter(namespace, slowRetry)
		}
	}()
	s := t.space(namespace)
	configmaps := t.documentsOf(namespace)
	if len(configmaps) == 0 {
		s.watches.end()
		t.mu.Lock()
		delete(t.spaces, namespace)
		t.mu.Unlock()
		s.forget()
		return
	}
	if again := s.reconcile(t.ctx, configmaps); again > 0 {
		t.queue.AddAfter(namespace, again)
	}
}

// documentsOf returns the documents of a namespace, the oldest first.
func (t *term) documentsOf(namespace string) []*corev1.ConfigMap {
	found := map[types.UID]*corev1.ConfigMap{}
	for _, informer := range t.configmaps {
		_ = cache.ListAllByNamespace(informer.GetIndexer(), namespace, labels.Everything(), func(object any) {
			cm := object.(*corev1.ConfigMap)
			found[cm.UID] = cm
		})
	}
	return oldestFirst(found)
}

func (t *term) manages(key route.Key, uid types.UID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, ok := t.managed[key]
	return ok && have == uid
}

// manage notes whether the route of some uid follows a document.
func (t *term) manage(key route.Key, uid types.UID, does bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if does {
		t.managed[key] = uid
	} else {
		delete(t.managed, key)
	}
}
