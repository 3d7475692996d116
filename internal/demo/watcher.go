package demo

// The watcher follows the namespace by watches, so that a flip is timed when it happens and not when the play
// polls.

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

var (
	slicesResource  = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	gatewayResource = schema.GroupVersionResource{Group: route.GatewayGroup, Version: "v1", Resource: route.HTTPRoute.Resource()}
	istioResource   = schema.GroupVersionResource{Group: route.IstioGroup, Version: "v1", Resource: route.VirtualService.Resource()}
	// watched are the resources whose objects a play waits for, or for whose end.
	watched = []schema.GroupVersionResource{
		gatewayResource, istioResource, slicesResource,
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Group: "apps", Version: "v1", Resource: "replicasets"},
		{Version: "v1", Resource: "pods"},
		{Version: "v1", Resource: "services"},
	}
)

// facts are the state of the namespace, as far as a play needs it.
type facts struct {
	// route is the stored route, nil when there is none.
	route *unstructured.Unstructured
	// mirrored reports whether it has a mirror, ready whether variant 2 has a ready endpoint; the times are
	// those of the last change.
	mirrored, ready     bool
	mirroredAt, readyAt time.Time
	// routeAt is when the route came or went.
	routeAt time.Time
	// objects is how many there are.
	objects int
}

// watcher keeps the namespace's objects and the facts about them.
type watcher struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, at every change
	stores  []cache.Store // of the objects
	service string        // the one whose readiness counts
	facts   facts
}

// watchNamespace returns when everything there has been seen, or ctx ends; it watches until watching ends.
func watchNamespace(ctx, watching context.Context, client dynamic.Interface, namespace string) (*watcher, error) {
	w := &watcher{changed: make(chan struct{})}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, namespace, nil)
	for _, resource := range watched {
		informer := factory.ForResource(resource).Informer()
		w.stores = append(w.stores, informer.GetStore())
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { w.notify() },
			UpdateFunc: func(any, any) { w.notify() },
			DeleteFunc: func(any) { w.notify() },
		})
		if err != nil {
			return nil, err
		}
	}
	factory.Start(watching.Done())
	for resource, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("could not watch %s: %w", resource.Resource, context.Cause(ctx))
		}
	}
	return w, nil
}

// focus sets the Service that the play's mirror points at.
func (w *watcher) focus(service string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.service = service
	w.update()
}

// notify is called after each change of the objects.
func (w *watcher) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.update()
	close(w.changed)
	w.changed = make(chan struct{})
}

// update brings the facts up to date.
func (w *watcher) update() {
	now, f := time.Now(), facts{}
	for _, store := range w.stores {
		for _, item := range store.List() {
			object := item.(*unstructured.Unstructured)
			if f.objects++; isRoute(object) {
				f.route = object
			}
			f.ready = f.ready || serves(object, w.service)
		}
	}
	f.mirrored = len(mirrorsOf(f.route)) > 0
	f.mirroredAt, f.readyAt, f.routeAt = w.facts.mirroredAt, w.facts.readyAt, w.facts.routeAt
	if (f.route == nil) != (w.facts.route == nil) {
		f.routeAt = now
	}
	if f.mirrored != w.facts.mirrored {
		f.mirroredAt = now
	}
	if f.ready != w.facts.ready {
		f.readyAt = now
	}
	w.facts = f
}

// know returns the facts, and a channel that is closed when they change.
func (w *watcher) know() (facts, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.facts, w.changed
}

// progressEvery is how often a play that waits shows that it still does.
const progressEvery = 3 * time.Second

// await returns the facts once they fulfil a condition. It calls waiting, unless that is nil, after each
// progressEvery.
func (w *watcher) await(ctx context.Context, should func(facts) bool, waiting func(facts, time.Duration)) (facts, error) {
	begin, tick := time.Now(), time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		f, changed := w.know()
		if should(f) {
			return f, nil
		}
		select {
		case <-ctx.Done():
			return f, ctx.Err()
		case <-changed:
		case <-tick.C:
			if waiting != nil {
				waiting(f, time.Since(begin).Round(time.Second))
			}
		}
	}
}
