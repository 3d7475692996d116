package iter8

// One run of the controller, while this replica leads: the ConfigMaps, the state of each namespace with
// documents, and the routes that follow one.

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

type run struct {
	*Controller
	// ctx ends with the run; watches last as long.
	ctx        context.Context
	configmaps []cache.SharedIndexInformer
	synced     []cache.InformerSynced
	kinds      *kinds
	// complete is set once every document was served.
	complete atomic.Bool

	mu sync.Mutex
	// unserved are the namespaces of the start that were not served yet.
	unserved map[string]bool
	states   map[string]*namespaceState
	managed  map[route.Key]types.UID
}

// startRun starts to watch the ConfigMaps. The caller must call end, which waits for all watches to end.
func startRun(ctx context.Context, c *Controller) (r *run, end func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	r = &run{
		Controller: c, ctx: ctx, kinds: newKinds(memory.NewMemCacheClient(c.clientset.Discovery())),
		states: map[string]*namespaceState{}, managed: map[route.Key]types.UID{},
	}
	for _, selector := range []string{documents.ManagedByLabel + "=" + documents.ManagedBy, documents.KindLabel + "=" + documents.KindRoutemap} {
		if err := r.watchConfigMaps(selector); err != nil {
			cancel()
			return nil, nil, err
		}
	}
	var running sync.WaitGroup
	for _, informer := range r.configmaps {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	return r, func() {
		cancel()
		running.Wait()
		for _, s := range r.states {
			s.watches.end()
		}
		c.opts.Metrics.forget()
	}, nil
}

// watchConfigMaps watches the ConfigMaps with a label, and keeps those parts of them that are read.
func (r *run) watchConfigMaps(selector string) error {
	factory := informers.NewSharedInformerFactoryWithOptions(r.clientset, 0, informers.WithTweakListOptions(
		func(options *metav1.ListOptions) { options.LabelSelector = selector },
	))
	informer := factory.Core().V1().ConfigMaps().Informer()
	if err := informer.SetTransform(func(object any) (any, error) {
		if cm, ok := object.(*corev1.ConfigMap); ok {
			cm.ManagedFields, cm.Annotations, cm.BinaryData = nil, nil, nil
		}
		return object, nil
	}); err != nil {
		return err
	}
	handle, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    r.changed,
		UpdateFunc: func(_, object any) { r.changed(object) },
		DeleteFunc: r.changed,
	})
	if err != nil {
		return err
	}
	r.configmaps, r.synced = append(r.configmaps, informer), append(r.synced, handle.HasSynced)
	return nil
}

// changed queues the namespace of a document.
func (r *run) changed(object any) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		return
	}
	namespace, _, _ := cache.SplitMetaNamespaceKey(key)
	r.namespace(namespace)
	r.loop.Add(namespace)
}

// waitForDocuments waits until all documents are known; it returns false when the run ends first.
func (r *run) waitForDocuments() bool {
	if !cache.WaitForCacheSync(r.ctx.Done(), r.synced...) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unserved = map[string]bool{}
	for namespace := range r.states {
		r.unserved[namespace] = true
	}
	r.complete.Store(len(r.unserved) == 0)
	return true
}

// served notes that the documents of a namespace were served.
func (r *run) served(namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unserved, namespace)
	r.complete.Store(len(r.unserved) == 0)
}

// names returns the namespaces with documents.
func (r *run) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.states))
}

// has reports whether there are documents in a namespace.
func (r *run) has(namespace string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[namespace] != nil
}

// namespace returns the state of a namespace, a new one if there was none.
func (r *run) namespace(name string) *namespaceState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.states[name]
	if s == nil {
		s = newNamespaceState(r, name)
		r.states[name] = s
	}
	return s
}

// drop removes the state of a namespace that has no document any more.
func (r *run) drop(s *namespaceState) {
	s.watches.end()
	r.mu.Lock()
	delete(r.states, s.namespace)
	r.mu.Unlock()
	s.forget()
}

// documents returns the ConfigMaps of a namespace, the oldest first.
func (r *run) documents(namespace string) []*corev1.ConfigMap {
	found := map[types.UID]*corev1.ConfigMap{}
	for _, informer := range r.configmaps {
		_ = cache.ListAllByNamespace(informer.GetIndexer(), namespace, labels.Everything(), func(object any) {
			cm := object.(*corev1.ConfigMap)
			found[cm.UID] = cm
		})
	}
	return oldestFirst(found)
}

// oldestFirst sorts ConfigMaps by age, and those of the same second by name.
func oldestFirst(found map[types.UID]*corev1.ConfigMap) []*corev1.ConfigMap {
	return slices.SortedFunc(maps.Values(found), func(a, b *corev1.ConfigMap) int {
		if age := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); age != 0 {
			return age
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// manages reports whether the route with a uid follows a document.
func (r *run) manages(key route.Key, uid types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	have, ok := r.managed[key]
	return ok && have == uid
}

// manage notes that the route with a uid follows a document.
func (r *run) manage(key route.Key, uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.managed[key] = uid
}

// unmanage notes that a route follows no document.
func (r *run) unmanage(key route.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.managed, key)
}
