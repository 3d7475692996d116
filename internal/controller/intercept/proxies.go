package intercept

// The proxies in front of a Service and the objects that belong to them: kept up to date while the Service
// needs them, and deleted once no client does.

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// ensure creates and updates the proxies of a Service and the objects that belong to them.
func (c *Controller) ensure(ctx context.Context, o *corev1.Service, original map[string]string) error {
	name := nameOf(o)
	c.idle.Delete(name)
	config, errs := c.config.For(o.Annotations)
	if len(errs) > 0 {
		c.warn(o, "ProxyConfigInvalid", "the default is used: %v", errs.ToAggregate())
	}
	p := &objects.Parent{Service: o, Original: original, Config: config, Report: c.opts.Report()}
	origin, err := c.apply(ctx, services, p.Origin(), manager)
	if err != nil {
		return err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: origin.GetName(), UID: origin.GetUID()}
	// The objects that the Services of a namespace share are owned by the origin of each, and applied for
	// each under a field manager of its own.
	shared := manager + "-" + name.Name
	if _, err := c.apply(ctx, accounts, p.Account(owner), shared); err != nil {
		return err
	}
	if _, err := c.apply(ctx, roleBindings, p.Binding(owner), shared); err != nil {
		return err
	}
	if err := c.deploy(ctx, p); err != nil {
		return err
	}
	if _, err := c.apply(ctx, budgets, p.Budget(owner), manager); err != nil {
		return err
	}
	if p.Scaled() {
		_, err = c.apply(ctx, scalers, p.Scaler(owner), manager)
		return err
	}
	return c.remove(ctx, scalers, Name{Namespace: name.Namespace, Name: wellknown.ProxyName(name.Name)}, p.Service.Name)
}

// deploy applies the Deployment. While an autoscaler sets the number of replicas, it is kept.
func (c *Controller) deploy(ctx context.Context, p *objects.Parent) error {
	d := p.Deployment()
	if p.Scaled() {
		have, err := c.objects.Get(ctx, deployments, Name{Namespace: d.Namespace, Name: d.Name})
		if err != nil {
			return err
		}
		if have != nil {
			n, found, err := unstructured.NestedInt64(have.Object, "spec", "replicas")
			if err == nil && found && n >= int64(p.Config.Replicas) && n <= int64(p.Config.MaxReplicas) {
				*d.Spec.Replicas = int32(n) //nolint:gosec // it is in bounds
			}
		}
	}
	_, err := c.apply(ctx, deployments, d, manager)
	return err
}

// release deletes the proxies of a Service after Linger, and the objects that they need once they have ended.
// It does nothing while the Service does not have its selector back.
func (c *Controller) release(ctx context.Context, o *corev1.Service, restored bool) (reconcile.Result, error) {
	name := nameOf(o)
	if c.state.Parent(name).Origin == nil && c.state.Pods(name) == 0 || !restored {
		c.idle.Delete(name)
		return reconcile.Result{}, nil
	}
	since, _ := c.idle.LoadOrStore(name, time.Now())
	if left := c.opts.Linger - time.Since(since.(time.Time)); left > 0 {
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

// remove deletes an object that mirrorgate made for a Service; one of somebody else stays.
func (c *Controller) remove(ctx context.Context, resource schema.GroupVersionResource, name Name, parent string) error {
	have, err := c.objects.Get(ctx, resource, name)
	if err != nil || have == nil {
		return err
	}
	if !ours(have, map[string]string{wellknown.ParentLabel: wellknown.ParentValue(parent)}) {
		return nil
	}
	if err := c.objects.Delete(ctx, resource, have); err != nil {
		return fmt.Errorf("delete %s %s: %w", resource.Resource, name, err)
	}
	return nil
}
