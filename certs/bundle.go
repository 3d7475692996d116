package certs

// Which authorities the API server trusts: the caBundle of every webhook of an installation.

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// merge returns a caBundle of the authorities and of those in a bundle, without those that expired: while an
// authority is valid, a replica may serve a certificate from it. Anything in the bundle that is no
// certificate is dropped.
func merge(bundle []byte, authorities []*x509.Certificate, now time.Time) []byte {
	var keep []*x509.Certificate
	add := func(cert *x509.Certificate) {
		if !now.After(cert.NotAfter) && !slices.ContainsFunc(keep, cert.Equal) {
			keep = append(keep, cert)
		}
	}
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			add(cert)
		}
	}
	for _, cert := range authorities {
		add(cert)
	}
	var out bytes.Buffer
	for _, cert := range keep {
		out.Write(encodeCert(cert))
	}
	return out.Bytes()
}

// registration is a webhook configuration and its caBundles.
type registration struct {
	kind string
	meta *metav1.ObjectMeta
	// clients hold the caBundles, update stores them.
	clients []*admissionregistrationv1.WebhookClientConfig
	update  func(context.Context) error
}

// registrations reads both configurations. One that is not installed is left out.
func registrations(ctx context.Context, client kubernetes.Interface, name string) ([]registration, error) {
	api := client.AdmissionregistrationV1()
	options := metav1.UpdateOptions{FieldManager: wellknown.FieldManager}
	var found []registration
	m, errM := api.MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if errM == nil {
		r := registration{kind: "MutatingWebhookConfiguration", meta: &m.ObjectMeta, update: func(ctx context.Context) error {
			_, err := api.MutatingWebhookConfigurations().Update(ctx, m, options)
			return err
		}}
		for i := range m.Webhooks {
			r.clients = append(r.clients, &m.Webhooks[i].ClientConfig)
		}
		found = append(found, r)
	}
	v, errV := api.ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if errV == nil {
		r := registration{kind: "ValidatingWebhookConfiguration", meta: &v.ObjectMeta, update: func(ctx context.Context) error {
			_, err := api.ValidatingWebhookConfigurations().Update(ctx, v, options)
			return err
		}}
		for i := range v.Webhooks {
			r.clients = append(r.clients, &v.Webhooks[i].ClientConfig)
		}
		found = append(found, r)
	}
	for _, err := range []error{errM, errV} {
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read the webhook configurations %q: %w", name, err)
		}
	}
	return found, nil
}

// trust adds the authorities to every caBundle. fresh is true when all of them were empty, so that no webhook
// could be called and none can become unreachable.
func trust(ctx context.Context, found []registration, authorities []*x509.Certificate, now time.Time) (fresh bool, err error) {
	fresh = true
	var errs []error
	for _, r := range found {
		changed := false
		for _, c := range r.clients {
			fresh = fresh && len(c.CABundle) == 0
			if bundle := merge(c.CABundle, authorities, now); !bytes.Equal(bundle, c.CABundle) {
				c.CABundle, changed = bundle, true
			}
		}
		if !changed {
			continue
		}
		if err := r.update(ctx); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("update the caBundle of %s %q: %w", r.kind, r.meta.Name, err))
		}
	}
	return fresh, errors.Join(errs...)
}

// followRegistrations signals each change of a configuration until ctx ends.
func followRegistrations(ctx context.Context, client kubernetes.Interface, name string, changes chan struct{}) {
	api := client.AdmissionregistrationV1()
	changed := func(any) { signal(changes) }
	var wg sync.WaitGroup
	wg.Go(func() {
		follow(ctx, api.MutatingWebhookConfigurations(), &admissionregistrationv1.MutatingWebhookConfiguration{}, name, changed)
	})
	wg.Go(func() {
		follow(ctx, api.ValidatingWebhookConfigurations(), &admissionregistrationv1.ValidatingWebhookConfiguration{}, name, changed)
	})
	wg.Wait()
}
