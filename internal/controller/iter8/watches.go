package iter8

// The watches of a namespace: one for each kind that its documents name.

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// watches are the kinds that are watched in one namespace.
type watches struct {
	client    dynamic.Interface
	namespace string
	// changed is called after every change of an object, and of the state of a watch.
	changed func()
	running map[schema.GroupVersionResource]*watch
}

// keep watches these kinds and no others, until ctx ends.
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

// listed reports whether the objects of a kind are listed; if not, the error is the reason, nil while it is
// not known.
func (w *watches) listed(gvr schema.GroupVersionResource) (bool, error) {
	running := w.running[gvr]
	if running == nil {
		return false, nil
	}
	running.mu.Lock()
	defer running.mu.Unlock()
	return running.informer.HasSynced(), running.listErr
}

// get returns an object, nil when there is none.
func (w *watches) get(gvr schema.GroupVersionResource, name string) *watched {
	running := w.running[gvr]
	if running == nil {
		return nil
	}
	object, _, _ := running.informer.GetStore().GetByKey(w.namespace + "/" + name)
	o, _ := object.(*watched)
	return o
}

func (w *watches) start(ctx context.Context, gvr schema.GroupVersionResource) *watch {
	informer := dynamicinformer.NewFilteredDynamicInformer(w.client, gvr, w.namespace, 0, cache.Indexers{}, nil).Informer()
	ctx, cancel := context.WithCancel(ctx)
	started := &watch{informer: informer, cancel: cancel}
	// None of these can fail before the informer runs.
	_ = informer.SetTransform(reduce)
	_ = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if started.fail(err) {
			w.changed()
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
	handle, _ := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { w.changed() },
		UpdateFunc: func(any, any) { w.changed() },
		DeleteFunc: func(any) { w.changed() },
	})
	started.done.Go(func() { informer.RunWithContext(ctx) })
	started.done.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), handle.HasSynced) {
			started.fail(nil)
			w.changed()
		}
	})
	return started
}

// watch is that of one kind.
type watch struct {
	informer cache.SharedIndexInformer
	cancel   context.CancelFunc
	done     sync.WaitGroup

	mu      sync.Mutex
	listErr error
}

// fail notes why a kind cannot be listed, nil when it is; it reports whether that is a new failure.
func (w *watch) fail(err error) bool {
	if err != nil && w.informer.HasSynced() {
		return false // the objects are known, and the informer resumes by itself
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	isNew := err != nil && (w.listErr == nil || w.listErr.Error() != err.Error())
	w.listErr = err
	return isNew
}

func (w *watch) end() {
	w.cancel()
	w.done.Wait()
}
