package intercept

// The objects in front of a Service: created and kept up to date.

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// ensure creates and updates the proxies of a Service and the objects that belong to them.
func (c *Controller) ensure(ctx context.Context, o *corev1.Service, original map[string]string) error {
	name := nameOf(o)
	c.notIdle(name)
	config, wrong := c.config.For(o.Annotations)
	if len(wrong) > 0 {
		c.warn(o, "ProxyConfigInvalid", "the default is used: %v", wrong.ToAggregate())
	}
	p := &objects.Parent{Service: o, Original: original, Config: config}
	origin, err := c.apply(ctx, services, p.Origin(), manager)
	if err != nil {
		return err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: origin.GetName(), UID: origin.GetUID()}
	// The objects that the Services of a namespace share are owned by the origin of each, and applied for each
	// under a field manager of its own.
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
