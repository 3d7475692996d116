package intercept

// Rights of proxies in other namespaces, as ReferenceGrants give them to routes.

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// grant lets the proxies of a namespace read in the namespaces that its routes may refer to, and in no other.
func (c *Controller) grant(ctx context.Context, namespace string) error {
	c.granting.Lock()
	defer c.granting.Unlock()
	want := map[string]bool{}
	var parent string
	for _, name := range c.state.Parents() {
		if name.Namespace != namespace {
			continue
		}
		for _, foreign := range c.state.Parent(name).Foreign {
			want[foreign], parent = true, name.Name
		}
	}
	webhookRegistered, err := c.registration.check(ctx, registeredPoll)
	if err != nil {
		return err
	}
	if !webhookRegistered {
		clear(want)
	}
	if !c.granted.Is(namespace, strings.Join(slices.Sorted(maps.Keys(want)), " ")) {
		return nil
	}
	if err := c.writeGrants(ctx, Name{Namespace: namespace, Name: parent}, want); err != nil {
		c.granted.Forget(namespace)
		return err
	}
	return nil
}

// writeGrants binds the proxies of a namespace in the wanted namespaces, and deletes all other bindings. The
// parent is any Service that needs one of them.
func (c *Controller) writeGrants(ctx context.Context, parent Name, want map[string]bool) error {
	p := &objects.Parent{Service: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: parent.Namespace, Name: parent.Name}}}
	for foreign := range want {
		if _, err := c.apply(ctx, roleBindings, p.Grant(foreign), manager); err != nil {
			return err
		}
	}
	bindings, err := c.objects.List(ctx, roleBindings, wellknown.ManagedByLabel+"="+wellknown.ManagedBy+","+wellknown.SourceLabel+"="+parent.Namespace)
	if err != nil {
		return err
	}
	for i := range bindings {
		if b := &bindings[i]; !want[b.GetNamespace()] && b.GetName() == wellknown.GrantName(parent.Namespace) {
			if err := c.objects.Delete(ctx, roleBindings, b); err != nil {
				return err
			}
		}
	}
	return nil
}
