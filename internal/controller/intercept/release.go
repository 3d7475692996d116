package intercept

// The objects in front of a Service that has its own selector again: deleted once no client needs them.

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// release deletes the proxies of a Service after Linger, and the objects that they need once they have
// ended. It does nothing while the Service does not have its selector back.
func (c *Controller) release(ctx context.Context, o *corev1.Service, restored bool) (reconcile.Result, error) {
	name := nameOf(o)
	if c.state.Parent(name).Origin == nil && c.state.Pods(name) == 0 || !restored {
		c.notIdle(name)
		return reconcile.Result{}, nil
	}
	if left := c.opts.Linger - time.Since(c.idleSince(name)); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	if err := c.remove(ctx, deployments, Name{Namespace: name.Namespace, Name: wellknown.ProxyName(name.Name)}, name.Name); err != nil {
		return reconcile.Result{}, err
	}
	if c.state.Pods(name) > 0 {
		return reconcile.Result{RequeueAfter: time.Second}, nil // normally an event of the pods comes first
	}
	return reconcile.Result{}, c.remove(ctx, services, Name{Namespace: name.Namespace, Name: wellknown.OriginName(name.Name)}, name.Name)
}

// idleSince returns the time of the first call since the Service last led to its proxies.
func (c *Controller) idleSince(name Name) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, ok := c.idle[name]
	if !ok {
		since = time.Now()
		c.idle[name] = since
	}
	return since
}

func (c *Controller) notIdle(name Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.idle, name)
}

// remove deletes an object that mirrorgate made for a Service; one of somebody else stays.
func (c *Controller) remove(ctx context.Context, resource schema.GroupVersionResource, name Name, parent string) error {
	have, err := c.objects.Get(ctx, resource, name)
	if err != nil || have == nil {
		return err
	}
	want := &unstructured.Unstructured{}
	want.SetLabels(map[string]string{wellknown.ParentLabel: wellknown.ParentValue(parent)})
	if !ours(have, want) {
		return nil
	}
	if err := c.objects.Delete(ctx, resource, have); err != nil {
		return fmt.Errorf("delete %s %s: %w", resource.Resource, name, err)
	}
	return nil
}
