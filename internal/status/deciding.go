package status

// Whether anything decides: a stored route that is as policy wants it today will not follow its variants where no
// mirrorgate answers the API server.

import (
	"context"
	"fmt"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// Deciding holds for which API groups no mirrorgate answers, with the reason. The zero value means that one
// answers for all.
type Deciding map[string]string

func (d Deciding) decides(kind route.Kind) bool { return d[kind.Group()] == "" }

// WhoDecides finds out for which groups the API server calls a mirrorgate. An error means that the user may not
// read the webhook configurations.
func WhoDecides(ctx context.Context, client kubernetes.Interface) (Deciding, error) {
	configurations, err := webhook.Configurations(ctx, client)
	if err != nil {
		return nil, err
	}
	d := Deciding{}
	for _, group := range []string{route.GatewayGroup, route.IstioGroup} {
		d[group] = "no webhook of mirrorgate is registered for " + group
	}
	for _, c := range configurations {
		for _, h := range c.Hooks {
			for _, group := range h.Groups {
				if reason, ours := d[group]; ours && reason != "" && !c.Validating {
					d[group] = away(ctx, client, h)
				}
			}
		}
	}
	return d, nil
}

// away returns why nothing answers a webhook, "" if something may. The endpoints behind a URL are unknown.
func away(ctx context.Context, client kubernetes.Interface, h webhook.Hook) string {
	service := h.Client.Service
	if service == nil {
		return ""
	}
	slices, err := client.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name,
	})
	if err != nil {
		return "" // not the user's business
	}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				return ""
			}
		}
	}
	return fmt.Sprintf("no replica is ready behind Service %s/%s, which the API server calls", service.Namespace, service.Name)
}
