package demo

// The requirements that are checked before the first step, each with a remedy.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// obstacle is the reason why a play cannot begin, and its remedy.
type obstacle struct{ problem, remedy string }

func (o *obstacle) Error() string { return o.problem }

// ourLabel is on the webhook configurations of every installation.
const ourLabel = "app.kubernetes.io/name=mirrorgate"

func (r *runner) preflight(ctx context.Context) error {
	server, err := r.client.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("the cluster does not answer: %w", err)
	}
	r.screen.line(bold, "mirrorgate demo on Kubernetes "+server.GitVersion+"; without --kubeconfig and --context it needs no cluster")
	if err := r.kinds(); err != nil {
		return err
	}
	r.screen.good("the cluster knows HTTPRoutes, VirtualServices and DestinationRules")
	return r.registered(ctx)
}

// kinds checks that everything the documents contain can be stored.
func (r *runner) kinds() error {
	lack := map[string][]string{}
	for _, objects := range r.documents {
		for _, object := range objects {
			kind := object.GroupVersionKind()
			_, err := r.mapper.RESTMapping(kind.GroupKind(), kind.Version)
			text := kind.Kind + " " + kind.GroupVersion().String()
			switch {
			case meta.IsNoMatchError(err) && !slices.Contains(lack[kind.Group], text):
				lack[kind.Group] = append(lack[kind.Group], text)
			case err != nil && !meta.IsNoMatchError(err):
				return fmt.Errorf("discover %s: %w", text, err)
			}
		}
	}
	var problems, remedies []string
	for _, api := range []struct{ group, install string }{
		{route.GatewayGroup, "the Gateway API, standard channel: https://gateway-api.sigs.k8s.io/guides/"},
		{route.IstioGroup, "Istio, or its CRDs alone: https://istio.io/latest/docs/setup/install/helm/ (chart base)"},
	} {
		if kinds := lack[api.group]; len(kinds) > 0 {
			slices.Sort(kinds)
			problems, remedies = append(problems, kinds...), append(remedies, "install "+api.install)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &obstacle{"the cluster does not know " + strings.Join(problems, ", "), strings.Join(remedies, "\n")}
}

// registered checks that the API server knows mirrorgate's webhooks.
func (r *runner) registered(ctx context.Context) error {
	mutating, validating, err := r.configurations(ctx)
	switch {
	case err != nil:
		return err
	case len(mutating) == 0 || len(validating) == 0:
		return &obstacle{
			fmt.Sprintf("mirrorgate does not serve this cluster: %d mutating and %d validating webhook configurations have "+
				"the label %s; there should be one of each", len(mutating), len(validating), ourLabel),
			"install mirrorgate, or run it in another terminal:\n" +
				"mirrorgate serve --kubeconfig FILE --webhook-url https://ADDRESS-OF-THIS-MACHINE:9443",
		}
	}
	r.screen.good("mirrorgate is registered: " + strings.Join(mutating, ", "))
	return nil
}

// configurations returns the names of mirrorgate's webhook configurations.
func (s *stage) configurations(ctx context.Context) (mutating, validating []string, err error) {
	api, options := s.client.AdmissionregistrationV1(), metav1.ListOptions{LabelSelector: ourLabel}
	m, err := api.MutatingWebhookConfigurations().List(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	v, err := api.ValidatingWebhookConfigurations().List(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range m.Items {
		mutating = append(mutating, c.Name)
	}
	for _, c := range v.Items {
		validating = append(validating, c.Name)
	}
	return mutating, validating, nil
}

// webhookTimeout is how long an API server may take to call a new webhook.
const webhookTimeout = 10 * time.Second

// answers writes each mirrored route in a dry run: with no variant around, mirrorgate has to take the mirror
// out.
func (r *runner) answers(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	for _, p := range r.plays {
		if err := r.parks(limited, p.written(r.documents)); err != nil {
			return cmp.Or(ctx.Err(), err)
		}
	}
	r.screen.good("mirrorgate answers the API server")
	return nil
}

// parks polls, because a dry run leaves nothing that could be watched.
func (r *runner) parks(ctx context.Context, route *unstructured.Unstructured) error {
	var failed error
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var answer *unstructured.Unstructured
		answer, failed = r.dryRun(ctx, route)
		return failed == nil && len(mirrorsOf(answer)) == 0, nil
	})
	switch {
	case err == nil:
		return nil
	case failed != nil && !errors.Is(failed, context.DeadlineExceeded):
		return fmt.Errorf("a dry run of the mirrored %s failed: %w", route.GetKind(), failed)
	}
	return &obstacle{
		fmt.Sprintf("mirrorgate is registered but does not answer: in a dry run a %s kept the mirror of a variant that "+
			"does not exist", route.GetKind()),
		"check that mirrorgate serve runs, and that the API server reaches the address in its webhook\n" +
			"configurations; the log of mirrorgate serve has more",
	}
}
