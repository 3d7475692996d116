package iter8

// One run of the controller, while this replica leads: the ConfigMaps, the state of each namespace with
// documents, and the routes that follow one.

import (
	"cmp"
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

	"github.com/mirrorgate/mirrorgate/internal/route"
)

type run struct {
	*Controller
	// ctx ends with the run; watches last as long.
	ctx        context.Context
	configmaps []cache.SharedIndexInformer
	kinds      *kinds
	// complete is set once every document was served.
	complete atomic.Bool

	// managed are the uids of the routes that follow a document, by route.Key.
	managed sync.Map

	// states are the *namespaceState of the namespaces with documents, by name. Only the worker that
	// reconciles a namespace reads and replaces its state.
	states sync.Map

	mu sync.Mutex
	// unserved are the namespaces of the start that were not served yet.
	unserved map[string]bool
}

// newRun returns a run that watches no ConfigMaps yet.
func newRun(ctx context.Context, c *Controller) *run {
	return &run{Controller: c, ctx: ctx, kinds: newKinds(memory.NewMemCacheClient(c.clientset.Discovery()))}
}

// watchConfigMaps watches the ConfigMaps with a label, and keeps those parts of them that are read.
func (r *run) watchConfigMaps(selector string) error {
	factory := informers.NewSharedInformerFactoryWithOptions(r.clientset, 0, informers.WithTweakListOptions(
		func(options *metav1.ListOptions) { options.LabelSelector = selector },
	), informers.WithTransform(func(object any) (any, error) {
		if cm, ok := object.(*corev1.ConfigMap); ok {
			cm.ManagedFields, cm.Annotations, cm.BinaryData = nil, nil, nil
		}
		return object, nil
	}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	r.configmaps = append(r.configmaps, informer)
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    r.changed,
		UpdateFunc: func(_, object any) { r.changed(object) },
		DeleteFunc: r.changed,
	})
	return err
}

// changed queues the namespace of a document.
func (r *run) changed(object any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
		namespace, _, _ := cache.SplitMetaNamespaceKey(key)
		r.loop.Add(namespace)
	}
}

// waitForDocuments waits until all documents are known; it returns false when the run ends first.
func (r *run) waitForDocuments() bool {
	for _, informer := range r.configmaps {
		if !cache.WaitForCacheSync(r.ctx.Done(), informer.HasSynced) {
			return false
		}
	}
	r.unserved = map[string]bool{}
	for _, namespace := range r.names() {
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
	var names []string
	for _, informer := range r.configmaps {
		names = append(names, informer.GetIndexer().ListIndexFuncValues(cache.NamespaceIndex)...)
	}
	return names
}

// state returns the state of a namespace, a new one if there was none.
func (r *run) state(namespace string) *namespaceState {
	s, _ := r.states.LoadOrStore(namespace, newNamespaceState(r, namespace))
	return s.(*namespaceState)
}

// drop removes the state of a namespace that has no document any more.
func (r *run) drop(namespace string) {
	if s, ok := r.states.LoadAndDelete(namespace); ok {
		s.(*namespaceState).end()
	}
}

// documents returns the ConfigMaps of a namespace: the oldest first, and those of the same second by name.
func (r *run) documents(namespace string) []*corev1.ConfigMap {
	found := map[types.UID]*corev1.ConfigMap{}
	for _, informer := range r.configmaps {
		_ = cache.ListAllByNamespace(informer.GetIndexer(), namespace, labels.Everything(), func(object any) {
			cm := object.(*corev1.ConfigMap)
			found[cm.UID] = cm
		})
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *corev1.ConfigMap) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
}

// manages reports whether the route with a uid follows a document.
func (r *run) manages(key route.Key, uid types.UID) bool {
	have, ok := r.managed.Load(key)
	return ok && have == uid
}
