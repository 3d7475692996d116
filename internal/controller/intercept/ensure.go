package intercept

// What stands in front of a Service: made, kept, and taken away.

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// ensure makes what a Service needs.
func (c *Controller) ensure(ctx context.Context, o *corev1.Service, original map[string]string) error {
	name := nameOf(o)
	c.mu.Lock()
	delete(c.idle, name)
	c.mu.Unlock()
	config, wrong := c.opts.Config.For(o.Annotations)
	if len(wrong) > 0 {
		c.warn(o, "ProxyConfigInvalid", "the default is used: %v", wrong.ToAggregate())
	}
	p := &objects.Parent{Service: o, Original: original, Config: config}
	origin, err := c.apply(ctx, servicesOf, p.Origin(), manager)
	if err != nil {
		return err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: origin.GetName(), UID: origin.GetUID()}
	// What the Services of a namespace share has each one's origin as owner, under its own manager.
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

// deploy applies the Deployment. While a scaler counts its pods, their number is what it is.
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

// remove deletes an object of ours that belongs to a Service; what is not ours, or not there, stays so.
func (c *Controller) remove(ctx context.Context, of schema.GroupVersionResource, name Name, parent string) error {
	have, err := c.objects.Get(ctx, of, name)
	if err != nil || have == nil {
		return err
	}
	want := &unstructured.Unstructured{}
	want.SetLabels(map[string]string{wellknown.ParentLabel: wellknown.ParentValue(parent)})
	if !ours(have, want) {
		return nil
	}
	if err := c.objects.Delete(ctx, of, have); err != nil {
		return fmt.Errorf("delete %s %s: %w", of.Resource, name, err)
	}
	return nil
}

// release takes away what stands in front of a Service that has its own selector: the proxies once
// nobody is led to them any more, and what they need once they have ended.
func (c *Controller) release(ctx context.Context, o *corev1.Service, back bool) (reconcile.Result, error) {
	name := nameOf(o)
	if c.state.Parent(name).Origin == nil && c.state.Pods(name) == 0 || !back {
		c.mu.Lock()
		delete(c.idle, name)
		c.mu.Unlock()
		return reconcile.Result{}, nil
	}
	c.mu.Lock()
	since, waiting := c.idle[name]
	if !waiting {
		since = time.Now()
		c.idle[name] = since
	}
	c.mu.Unlock()
	if left := c.opts.Settle - time.Since(since); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	if err := c.remove(ctx, deployments, Name{Namespace: name.Namespace, Name: wellknown.ProxyName(name.Name)}, name.Name); err != nil {
		return reconcile.Result{}, err
	}
	if c.state.Pods(name) > 0 {
		return reconcile.Result{RequeueAfter: time.Second}, nil // and an event of the pods says so
	}
	return reconcile.Result{}, c.remove(ctx, servicesOf, Name{Namespace: name.Namespace, Name: wellknown.OriginName(name.Name)}, name.Name)
}

// grant lets the proxies of a namespace read in those that its routes may refer to, and in no other.
func (c *Controller) grant(ctx context.Context, namespace string) error {
	c.granting.Lock()
	defer c.granting.Unlock()
	want := map[string]bool{}
	var parent Name
	for _, name := range c.state.Parents() {
		if name.Namespace != namespace {
			continue
		}
		for _, foreign := range c.state.Parent(name).Foreign {
			want[foreign], parent = true, name
		}
	}
	on, err := c.registered(ctx, asking)
	if err != nil {
		return err
	}
	if !on {
		clear(want)
	}
	c.mu.Lock()
	have, known := c.granted[namespace]
	c.mu.Unlock()
	if known && maps.Equal(have, want) {
		return nil
	}
	p := &objects.Parent{Service: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: parent.Name}}}
	for foreign := range want {
		if _, err := c.apply(ctx, roleBindings, p.Grant(foreign), manager); err != nil {
			return err
		}
	}
	there, err := c.objects.List(ctx, roleBindings, wellknown.ManagedByLabel+"="+wellknown.ManagedBy+","+wellknown.SourceLabel+"="+namespace)
	if err != nil {
		return err
	}
	for i := range there {
		if b := &there[i]; !want[b.GetNamespace()] && b.GetName() == wellknown.GrantName(namespace) {
			if err := c.objects.Delete(ctx, roleBindings, b); err != nil {
				return err
			}
		}
	}
	c.mu.Lock()
	c.granted[namespace] = want
	c.mu.Unlock()
	return nil
}
