package certs

// Access to single objects of the API server: following one by its name, and the loops that wait for its
// changes.

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// resyncPeriod is after how long the state of a followed object is handled again: a certificate that could
// not be used may have been refused because the time was wrong.
const resyncPeriod = 10 * time.Second

// watcher is the part of a typed client that follow needs. L is the kind's list.
type watcher[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// follow calls changed with each state of the object with a name, again after resyncPeriod, and with nil when
// the object is deleted, until ctx ends. It needs the rights to list and watch this one name.
func follow[L runtime.Object](ctx context.Context, api watcher[L], kind runtime.Object, name string, changed func(any)) {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
				opts.FieldSelector = selector
				return api.List(ctx, opts)
			},
			WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
				opts.FieldSelector = selector
				return api.Watch(ctx, opts)
			},
		},
		ObjectType: kind, ResyncPeriod: resyncPeriod,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    changed,
			UpdateFunc: func(_, obj any) { changed(obj) },
			DeleteFunc: func(any) { changed(nil) },
		},
	})
	controller.RunWithContext(ctx)
}

// signal wakes a loop that waits on a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
