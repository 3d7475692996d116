package webhook

// Registration of a process outside the cluster, by URL and for as long as it runs.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/manifests"
)

// Paths of the handlers on the webhook server.
const (
	MutatePath   = "/mutate"
	ValidatePath = "/validate"
)

// Registration makes a program outside the cluster known to the API server, by both webhook configurations of
// an installation, with its URL in place of a Service.
type Registration struct {
	// URL is the address of the webhook server: https://HOST:PORT.
	URL *url.URL
	// CABundle is the CA that the API server should trust, in PEM.
	CABundle []byte
	// Routes are the components of the manifests whose webhooks are registered; all when empty.
	Routes []string
	// FailurePolicy is that of the validating webhook, Fail when empty.
	FailurePolicy admissionregistrationv1.FailurePolicyType
}

// Name is the name of both configurations. It depends on the URL, so that a program that was killed finds its
// own configurations again, and never those of others.
func (r Registration) Name() string {
	sum := sha256.Sum256([]byte(r.URL.String()))
	return "mirrorgate-" + hex.EncodeToString(sum[:4])
}

// Apply creates both configurations, or updates them. The mutating one comes first: without it, the
// validating one would deny routes whose mirrors would have been parked.
func (r Registration) Apply(ctx context.Context, client kubernetes.Interface) error {
	mutating, validating, err := r.configurations()
	if err != nil {
		return err
	}
	// Server-side apply replaces configurations that an earlier run left behind.
	options := metav1.PatchOptions{FieldManager: FieldManager, Force: new(true)}
	api := client.AdmissionregistrationV1()
	if _, err := api.MutatingWebhookConfigurations().Patch(ctx, r.Name(), types.ApplyPatchType, mutating, options); err != nil {
		return fmt.Errorf("register the mutating webhook: %w", err)
	}
	if _, err := api.ValidatingWebhookConfigurations().Patch(ctx, r.Name(), types.ApplyPatchType, validating, options); err != nil {
		return errors.Join(fmt.Errorf("register the validating webhook: %w", err), r.Remove(ctx, client))
	}
	return nil
}

// Remove deletes both configurations. A missing one is no error. One with another CA stays: it belongs to
// another program that was started with the same URL.
func (r Registration) Remove(ctx context.Context, client kubernetes.Interface) error {
	// The validating one goes first: it is the one that can block a write.
	validating, mutating := client.AdmissionregistrationV1().ValidatingWebhookConfigurations(), client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	v, err := validating.Get(ctx, r.Name(), metav1.GetOptions{})
	if err == nil && len(v.Webhooks) > 0 && bytes.Equal(v.Webhooks[0].ClientConfig.CABundle, r.CABundle) {
		err = validating.Delete(ctx, r.Name(), only(v))
	}
	m, err2 := mutating.Get(ctx, r.Name(), metav1.GetOptions{})
	if err2 == nil && len(m.Webhooks) > 0 && bytes.Equal(m.Webhooks[0].ClientConfig.CABundle, r.CABundle) {
		err2 = mutating.Delete(ctx, r.Name(), only(m))
	}
	return errors.Join(goneOrTaken(err), goneOrTaken(err2))
}

// only makes a delete fail unless the object is still as it was read.
func only(o metav1.Object) metav1.DeleteOptions {
	uid, version := o.GetUID(), o.GetResourceVersion()
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}}
}

// goneOrTaken drops the errors which mean that there is no configuration of this program to delete.
func goneOrTaken(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// configurations returns the manifests' configurations, pointed at the URL, as JSON.
func (r Registration) configurations() (mutating, validating []byte, err error) {
	routes := r.Routes
	if len(routes) == 0 {
		routes = manifests.Routes()
	}
	m, v, err := manifests.Webhooks(routes...)
	if err != nil {
		return nil, nil, err
	}
	m.Name, v.Name = r.Name(), r.Name()
	for i := range m.Webhooks {
		m.Webhooks[i].ClientConfig = r.client(m.Webhooks[i].ClientConfig)
	}
	for i := range v.Webhooks {
		v.Webhooks[i].ClientConfig = r.client(v.Webhooks[i].ClientConfig)
		v.Webhooks[i].FailurePolicy = new(cmp.Or(r.FailurePolicy, admissionregistrationv1.Fail))
	}
	if mutating, err = json.Marshal(m); err != nil {
		return nil, nil, err
	}
	validating, err = json.Marshal(v)
	return mutating, validating, err
}

// Namespaces returns the selector of the namespaces in which the webhooks are called.
func Namespaces() (labels.Selector, error) {
	m, _, err := manifests.Webhooks(manifests.GatewayAPI) // all have the same
	if err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(m.Webhooks[0].NamespaceSelector)
}

// client returns the client configuration with the URL in place of an installation's Service.
func (r Registration) client(installed admissionregistrationv1.WebhookClientConfig) admissionregistrationv1.WebhookClientConfig {
	target := r.URL.JoinPath(*installed.Service.Path).String()
	return admissionregistrationv1.WebhookClientConfig{URL: &target, CABundle: r.CABundle}
}
