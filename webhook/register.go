package webhook

// Registration of a process outside the cluster, by URL and for as long as it runs.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

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
}

// Name is the name of both configurations. It depends on the URL, so that a program that was killed finds its
// own configurations again, and never those of others.
func (r Registration) Name() string {
	sum := sha256.Sum256([]byte(r.URL.String()))
	return "mirrorgate-" + hex.EncodeToString(sum[:4])
}

// Apply creates both configurations, or replaces those that an earlier run left behind. All webhooks have the
// failure policy Ignore: FailClosed moves the validating ones to Fail. The mutating configuration comes first:
// without it, the validating one would deny routes whose mirrors would have been parked.
func (r Registration) Apply(ctx context.Context, client kubernetes.Interface) error {
	mutating, validating, err := r.configurations()
	if err != nil {
		return err
	}
	api := client.AdmissionregistrationV1()
	if err := store(ctx, api.MutatingWebhookConfigurations(), mutating); err != nil {
		return fmt.Errorf("register the mutating webhook: %w", err)
	}
	if err := store(ctx, api.ValidatingWebhookConfigurations(), validating); err != nil {
		return errors.Join(fmt.Errorf("register the validating webhook: %w", err), r.Remove(ctx, client))
	}
	return nil
}

// storage is the part of a typed client that store needs.
type storage[T metav1.Object] interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
}

// store creates an object, or replaces it whole. Server-side apply would keep webhooks of an earlier run, with
// a CA of the past, because FailClosed owns a field of them.
func store[T metav1.Object](ctx context.Context, api storage[T], o T) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		have, err := api.Get(ctx, o.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = api.Create(ctx, o, metav1.CreateOptions{FieldManager: FieldManager})
			return err
		}
		if err != nil {
			return err
		}
		o.SetResourceVersion(have.GetResourceVersion())
		_, err = api.Update(ctx, o, metav1.UpdateOptions{FieldManager: FieldManager})
		return err
	})
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

// configurations returns the manifests' configurations, pointed at the URL.
func (r Registration) configurations() (*admissionregistrationv1.MutatingWebhookConfiguration,
	*admissionregistrationv1.ValidatingWebhookConfiguration, error,
) {
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
		m.Webhooks[i].ClientConfig = r.client(*m.Webhooks[i].ClientConfig.Service.Path)
	}
	for i := range v.Webhooks {
		v.Webhooks[i].ClientConfig = r.client(*v.Webhooks[i].ClientConfig.Service.Path)
	}
	return m, v, nil
}

// Namespaces returns the selector of the namespaces in which the webhooks are called.
func Namespaces() (labels.Selector, error) {
	m, _, err := manifests.Webhooks(manifests.GatewayAPI) // all have the same
	if err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(m.Webhooks[0].NamespaceSelector)
}

// client returns the client configuration for a path of the webhook server.
func (r Registration) client(path string) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{URL: new(r.URL.JoinPath(path).String()), CABundle: r.CABundle}
}
