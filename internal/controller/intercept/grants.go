package intercept

// Rights of proxies in other namespaces, as ReferenceGrants give them to routes.

import (
	"context"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// grants are the foreign namespaces that the proxies of a namespace may read, as they were written last.
type grants struct {
	// writing is held while rights are given and taken, so that an older decision cannot undo a newer one.
	writing sync.Mutex

	mu      sync.Mutex
	written map[string]map[string]bool
}

func (g *grants) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.written)
}

// are reports whether the grants of a namespace were written like this.
func (g *grants) are(namespace string, want map[string]bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	have, known := g.written[namespace]
	return known && maps.Equal(have, want)
}

func (g *grants) set(namespace string, want map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.written == nil {
		g.written = map[string]map[string]bool{}
	}
	g.written[namespace] = want
}

// grant lets the proxies of a namespace read in the namespaces that its routes may refer to, and in no other.
func (c *Controller) grant(ctx context.Context, namespace string) error {
	c.grants.writing.Lock()
	defer c.grants.writing.Unlock()
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
	webhookRegistered, err := c.registration.check(ctx, registeredPoll)
	if err != nil {
		return err
	}
	if !webhookRegistered {
		clear(want)
	}
	if c.grants.are(namespace, want) {
		return nil
	}
	p := &objects.Parent{Service: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: parent.Name}}}
	for foreign := range want {
		if _, err := c.apply(ctx, roleBindings, p.Grant(foreign), manager); err != nil {
			return err
		}
	}
	bindings, err := c.objects.List(ctx, roleBindings, wellknown.ManagedByLabel+"="+wellknown.ManagedBy+","+wellknown.SourceLabel+"="+namespace)
	if err != nil {
		return err
	}
	for i := range bindings {
		if b := &bindings[i]; !want[b.GetNamespace()] && b.GetName() == wellknown.GrantName(namespace) {
			if err := c.objects.Delete(ctx, roleBindings, b); err != nil {
				return err
			}
		}
	}
	c.grants.set(namespace, want)
	return nil
}
