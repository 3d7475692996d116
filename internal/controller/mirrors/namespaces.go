package mirrors

// Namespaces may opt out of admission. A touch there could never be answered, so
// there is none, and no Event: the owner of the namespace wants to be left alone.

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/cache"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Namespaces tells where the webhooks are called at all.
type Namespaces interface {
	// Gated tells whether admission decides on the routes of a namespace.
	Gated(ctx context.Context, name string) (bool, error)
}

// NewNamespaces returns the Namespaces of an API server; selector is that of the
// webhooks. It gets a namespace when it is asked for one, and watches none.
func NewNamespaces(client corev1client.NamespacesGetter, selector labels.Selector) Namespaces {
	return selected{client, selector, cache.NewExpiring()}
}

// remembered is how long an answer about a namespace is believed, so that a
// thousand flips in it do not ask a thousand times.
const remembered = 30 * time.Second

type selected struct {
	client   corev1client.NamespacesGetter
	selector labels.Selector
	answers  *cache.Expiring
}

func (s selected) Gated(ctx context.Context, name string) (bool, error) {
	if answer, ok := s.answers.Get(name); ok {
		return answer.(bool), nil
	}
	// Version 0 is the API server's own cache: next to nothing beside a touch.
	ns, err := s.client.Namespaces().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return false, err
	}
	gated := s.selector.Matches(labels.Set(ns.Labels))
	s.answers.Set(name, gated, remembered)
	return gated, nil
}

// optedOut tells whether nobody would answer a touch of the route. One that
// opts in again is found by the next resync.
func (c *Controller) optedOut(ctx context.Context, doc *route.Route) bool {
	gated, err := c.namespaces.Gated(ctx, doc.Namespace)
	if err != nil {
		// Without an answer a touch is worth the try: it harms nothing.
		c.opts.Log.V(1).Info("cannot look at a namespace", "namespace", doc.Namespace, "error", err.Error())
		return false
	}
	return !gated
}
