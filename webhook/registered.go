package webhook

// The webhook configurations of mirrorgate that a cluster has: those of an installation, and those that
// processes outside the cluster registered by URL.

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ConfigurationLabel selects the webhook configurations of every installation and registration.
const ConfigurationLabel = "app.kubernetes.io/name=mirrorgate"

// hookSuffix ends the name of every webhook of mirrorgate.
const hookSuffix = ".mirrorgate.dev"

// Registered is one webhook configuration of mirrorgate.
type Registered struct {
	Name string
	// Validating is set for a ValidatingWebhookConfiguration, else it is a MutatingWebhookConfiguration.
	Validating bool
	Hooks      []Hook
	meta       metav1.ObjectMeta
}

// Hook is one webhook of a configuration.
type Hook struct {
	Name          string
	Client        admissionregistrationv1.WebhookClientConfig
	FailurePolicy admissionregistrationv1.FailurePolicyType
	// Groups are the API groups whose objects it is called for.
	Groups []string
}

// Kind is the kind of the configuration.
func (r Registered) Kind() string {
	if r.Validating {
		return "ValidatingWebhookConfiguration"
	}
	return "MutatingWebhookConfiguration"
}

// URL is the base of the URL that the webhooks are called at, "" when they are called by a Service.
func (r Registered) URL() string {
	for _, h := range r.Hooks {
		if h.Client.URL != nil {
			return (*h.Client.URL)[:strings.LastIndex(*h.Client.URL, "/")]
		}
	}
	return ""
}

// Configurations returns the webhook configurations of mirrorgate, the validating ones first, since they can
// block a write.
func Configurations(ctx context.Context, client kubernetes.Interface) (found []Registered, err error) {
	api, selected := client.AdmissionregistrationV1(), metav1.ListOptions{LabelSelector: ConfigurationLabel}
	validating, err := api.ValidatingWebhookConfigurations().List(ctx, selected)
	if err != nil {
		return nil, fmt.Errorf("list ValidatingWebhookConfigurations: %w", err)
	}
	mutating, err := api.MutatingWebhookConfigurations().List(ctx, selected)
	if err != nil {
		return nil, fmt.Errorf("list MutatingWebhookConfigurations: %w", err)
	}
	for _, c := range validating.Items {
		found = append(found, validatingOf(c))
	}
	for _, c := range mutating.Items {
		found = append(found, mutatingOf(c))
	}
	return slices.DeleteFunc(found, func(r Registered) bool {
		return slices.ContainsFunc(r.Hooks, func(h Hook) bool { return !strings.HasSuffix(h.Name, hookSuffix) })
	}), nil
}

func validatingOf(c admissionregistrationv1.ValidatingWebhookConfiguration) Registered {
	r := Registered{Name: c.Name, Validating: true, meta: c.ObjectMeta}
	for _, w := range c.Webhooks {
		r.Hooks = append(r.Hooks, hookOf(w.Name, w.ClientConfig, w.FailurePolicy, w.Rules))
	}
	return r
}

func mutatingOf(c admissionregistrationv1.MutatingWebhookConfiguration) Registered {
	r := Registered{Name: c.Name, meta: c.ObjectMeta}
	for _, w := range c.Webhooks {
		r.Hooks = append(r.Hooks, hookOf(w.Name, w.ClientConfig, w.FailurePolicy, w.Rules))
	}
	return r
}

func hookOf(name string, client admissionregistrationv1.WebhookClientConfig, policy *admissionregistrationv1.FailurePolicyType,
	rules []admissionregistrationv1.RuleWithOperations,
) Hook {
	h := Hook{Name: name, Client: client, FailurePolicy: admissionregistrationv1.Fail}
	if policy != nil {
		h.FailurePolicy = *policy
	}
	for _, rule := range rules {
		h.Groups = append(h.Groups, rule.APIGroups...)
	}
	return h
}

// Delete deletes the configuration unless it is another object by now; dryRun only asks whether it could be
// deleted.
func (r Registered) Delete(ctx context.Context, client kubernetes.Interface, dryRun bool) error {
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.meta.UID}}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	remove := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete
	if r.Validating {
		remove = client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete
	}
	if err := goneOrTaken(remove(ctx, r.Name, options)); err != nil {
		return fmt.Errorf("delete %s %q: %w", r.Kind(), r.Name, err)
	}
	return nil
}
