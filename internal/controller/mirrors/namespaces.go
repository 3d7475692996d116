package mirrors

// Namespaces may opt out of admission. No webhook would answer a touch there, so there is none, and no Event:
// the owner of the namespace wants to be left alone.

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/cache"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Namespaces knows the namespaces in which the webhooks are called.
type Namespaces interface {
	// Gated reports whether admission decides on the routes of a namespace.
	Gated(ctx context.Context, name string) (bool, error)
}

// NewNamespaces returns the Namespaces of an API server; selector is that of the webhooks. It reads a
// namespace when it is first needed, and watches none.
func NewNamespaces(client corev1client.NamespacesGetter, selector labels.Selector) Namespaces {
	return selected{client, selector, cache.NewExpiring()}
}

// answerTTL is the time for which an answer about a namespace is reused, so that a thousand flips in it cost
// one request.
const answerTTL = 30 * time.Second

type selected struct {
	client   corev1client.NamespacesGetter
	selector labels.Selector
	answers  *cache.Expiring
}

func (s selected) Gated(ctx context.Context, name string) (bool, error) {
	if answer, ok := s.answers.Get(name); ok {
		return answer.(bool), nil
	}
	// Version 0 is answered from the API server's cache, which costs far less than a touch.
	ns, err := s.client.Namespaces().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return false, err
	}
	gated := s.selector.Matches(labels.Set(ns.Labels))
	s.answers.Set(name, gated, answerTTL)
	return gated, nil
}

// optedOut reports whether no webhook would answer a touch of the route. The next resync finds a namespace
// that opts in again.
func (c *Controller) optedOut(ctx context.Context, rt *route.Route) bool {
	gated, err := c.namespaces.Gated(ctx, rt.Namespace)
	if err != nil {
		c.opts.Log.V(1).Info("Cannot read a namespace", "namespace", rt.Namespace, "error", err.Error())
		return false // a touch in vain does no harm
	}
	return !gated
}
