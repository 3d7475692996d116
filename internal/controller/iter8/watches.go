package iter8

// The objects that variants consist of, and the routes: kinds by discovery, watched in the
// namespaces that name them, and kept as little more than their names.

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
)

var errScope = errors.New("it is in no namespace")

// kinds finds resources by the names that people give them.
type kinds struct {
	mapper meta.RESTMapper
	reset  func()

	mu    sync.Mutex
	asked time.Time
	// found are the names that were looked up since; a lookup reads through all that the cluster has.
	found map[string]schema.GroupVersionResource
}

func newKinds(client discovery.CachedDiscoveryInterface) *kinds {
	deferred := restmapper.NewDeferredDiscoveryRESTMapper(client)
	return &kinds{mapper: restmapper.NewShortcutExpander(deferred, client, nil), reset: deferred.Reset, found: map[string]schema.GroupVersionResource{}}
}

// find returns the resource of a name like svc, deployments or inferenceservices.serving.kserve.io.
// What is not there is asked for again, but not all the time.
func (k *kinds) find(name string) (schema.GroupVersionResource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found, ok := k.found[name]; ok {
		return found, nil
	}
	found, err := k.lookup(name)
	if meta.IsNoMatchError(err) && time.Since(k.asked) > slowRetry/2 {
		k.asked = time.Now()
		k.reset()
		clear(k.found)
		found, err = k.lookup(name)
	}
	if err == nil {
		k.found[name] = found
	}
	return found, err
}

func (k *kinds) lookup(name string) (schema.GroupVersionResource, error) {
	versioned, grouped := schema.ParseResourceArg(name)
	if versioned != nil {
		if found, err := k.namespaced(*versioned); err == nil {
			return found, nil
		}
	}
	return k.namespaced(grouped.WithVersion(""))
}

func (k *kinds) namespaced(resource schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	found, err := k.mapper.ResourceFor(resource)
	if err != nil {
		return found, err
	}
	kind, err := k.mapper.KindFor(found)
	if err != nil {
		return found, err
	}
	mapping, err := k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return found, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return found, errScope
	}
	return found, nil
}

// thing is what is kept of an object.
type watched struct {
	metav1.ObjectMeta
	// scales is set for what has replicas; idle when it is to have none.
	scales, idle bool
	ready        int64
	conditions   []condition
}

type condition struct {
	kind string
	is   bool
}

// shrink makes a thing of an object.
func shrink(object any) (any, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	t := &watched{ObjectMeta: metav1.ObjectMeta{
		Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
		Generation: u.GetGeneration(), DeletionTimestamp: u.GetDeletionTimestamp(), OwnerReferences: u.GetOwnerReferences(),
	}}
	if weight, ok := u.GetAnnotations()[documents.WeightAnnotation]; ok {
		t.Annotations = map[string]string{documents.WeightAnnotation: weight}
	}
	replicas, found, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	t.scales, t.idle = found, found && replicas == 0
	t.ready, _, _ = unstructured.NestedInt64(u.Object, "status", "readyReplicas")
	if desired, found, _ := unstructured.NestedInt64(u.Object, "status", "desiredNumberScheduled"); found { // a DaemonSet
		t.scales, t.idle = true, desired == 0
		t.ready, _, _ = unstructured.NestedInt64(u.Object, "status", "numberReady")
	}
	observed, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range list {
		fields, _ := item.(map[string]any)
		kind, _ := fields["type"].(string)
		if kind != "Ready" && kind != "Available" {
			continue
		}
		seen, found, _ := unstructured.NestedInt64(fields, "observedGeneration")
		if !found {
			seen = observed
		}
		// A condition of an older generation says nothing of this one.
		t.conditions = append(t.conditions, condition{kind, fields["status"] == "True" && (seen == 0 || seen >= u.GetGeneration())})
	}
	return t, nil
}

// watches are the kinds that are watched in one namespace.
type watches struct {
	client    dynamic.Interface
	namespace string
	changed   func()
	running   map[schema.GroupVersionResource]*watch
}

type watch struct {
	informer cache.SharedIndexInformer
	cancel   context.CancelFunc
	done     sync.WaitGroup
	mu       sync.Mutex
	err      error
}

// keep watches these kinds, and no others, until ctx ends.
func (w *watches) keep(ctx context.Context, needed map[schema.GroupVersionResource]bool) {
	for gvr, running := range w.running {
		if !needed[gvr] {
			running.end()
			delete(w.running, gvr)
		}
	}
	for gvr := range needed {
		if w.running[gvr] == nil {
			w.running[gvr] = w.start(ctx, gvr)
		}
	}
}

func (w *watches) start(ctx context.Context, gvr schema.GroupVersionResource) *watch {
	informer := dynamicinformer.NewFilteredDynamicInformer(w.client, gvr, w.namespace, 0, cache.Indexers{}, nil).Informer()
	ctx, cancel := context.WithCancel(ctx)
	one := &watch{informer: informer, cancel: cancel}
	// None of these fails before the informer runs.
	_ = informer.SetTransform(shrink)
	_ = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if one.fail(err) {
			w.changed()
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
	handle, _ := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { w.changed() },
		UpdateFunc: func(any, any) { w.changed() },
		DeleteFunc: func(any) { w.changed() },
	})
	one.done.Go(func() { informer.RunWithContext(ctx) })
	one.done.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), handle.HasSynced) {
			one.fail(nil)
			w.changed()
		}
	})
	return one
}

// fail notes why a kind cannot be listed, and tells whether that is news.
func (w *watch) fail(err error) bool {
	if err != nil && w.informer.HasSynced() {
		return false // it knows, and catches up by itself
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	news := err != nil && (w.err == nil || w.err.Error() != err.Error())
	w.err = err
	return news
}

func (w *watch) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *watch) end() {
	w.cancel()
	w.done.Wait()
}

// end stops all.
func (w *watches) end() {
	for _, running := range w.running {
		running.end()
	}
	clear(w.running)
}

// synced tells whether a kind is known, and why it will not be.
func (w *watches) synced(gvr schema.GroupVersionResource) (bool, error) {
	one := w.running[gvr]
	if one == nil {
		return false, nil
	}
	return one.informer.HasSynced(), one.failure()
}

// get returns an object, nil when there is none.
func (w *watches) get(gvr schema.GroupVersionResource, name string) *watched {
	one := w.running[gvr]
	if one == nil {
		return nil
	}
	object, _, _ := one.informer.GetStore().GetByKey(w.namespace + "/" + name)
	t, _ := object.(*watched)
	return t
}
