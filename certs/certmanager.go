package certs

// cert-manager as the CA: we say what we want and wait for it; cert-manager keeps
// the Secret, and its cainjector the caBundles.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	certmanager "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/typed/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of what cert-manager is asked for.
const (
	// IssuedSecret is where cert-manager puts the certificate that is served;
	// the Certificate has the same name.
	IssuedSecret = "mirrorgate-tls" //nolint:gosec // a name, not what it holds
	caName       = "mirrorgate-ca"
	rootIssuer   = "mirrorgate-self-signed"
	// caDuration is long, since cainjector replaces a CA in place of appending it.
	caDuration = 10 * 365 * 24 * time.Hour
	// InjectAnnotation tells cainjector which Certificate a configuration trusts.
	InjectAnnotation = "cert-manager.io/inject-ca-from"
)

// Issued is the source of an installation whose certificate cert-manager makes.
type Issued struct {
	secret
	api certmanager.CertmanagerV1Interface
}

// CertManager returns the source that asks cert-manager for a certificate.
func CertManager(opts Options, api certmanager.CertmanagerV1Interface) *Issued {
	return &Issued{api: api, secret: newSecret(opts, IssuedSecret, func(s *corev1.Secret) error {
		if name := s.Annotations[certmanagerv1.CertificateNameKey]; name != IssuedSecret {
			return fmt.Errorf("secret %s/%s is not the one of Certificate %s: its annotation %s is %q; delete it, and cert-manager makes it",
				s.Namespace, s.Name, IssuedSecret, certmanagerv1.CertificateNameKey, name)
		}
		return nil
	})}
}

// Lead implements Led.
func (i *Issued) Lead(ctx context.Context) error {
	for {
		pause := maxPause
		if err := i.ensure(ctx); err != nil && ctx.Err() == nil {
			i.report(err)
			pause = retryPause
		}
		wait := i.opts.Clock.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C():
		case <-i.changed:
		}
		wait.Stop()
	}
}

// ensure asks for a CA of our own and a leaf from it, and tells what is missing.
func (i *Issued) ensure(ctx context.Context) error {
	duration := i.opts.life()
	dns, ips := split(i.opts.Names)
	ecdsa := func(rotation certmanagerv1.PrivateKeyRotationPolicy) *certmanagerv1.CertificatePrivateKey {
		return &certmanagerv1.CertificatePrivateKey{
			Algorithm: certmanagerv1.ECDSAKeyAlgorithm, Size: 256, RotationPolicy: rotation,
		}
	}
	for _, err := range []error{
		i.issuer(ctx, rootIssuer, certmanagerv1.IssuerConfig{SelfSigned: &certmanagerv1.SelfSignedIssuer{}}),
		i.certificate(ctx, caName, certmanagerv1.CertificateSpec{
			SecretName: caName, CommonName: "mirrorgate", IsCA: true, Duration: &metav1.Duration{Duration: caDuration},
			// A renewed CA with the same key: what it issued before stays valid, in
			// whatever order the API servers and our replicas hear of it.
			PrivateKey: ecdsa(certmanagerv1.RotationPolicyNever),
			IssuerRef:  cmmeta.IssuerReference{Name: rootIssuer, Kind: "Issuer", Group: certmanagerv1.SchemeGroupVersion.Group},
		}),
		i.issuer(ctx, caName, certmanagerv1.IssuerConfig{CA: &certmanagerv1.CAIssuer{SecretName: caName}}),
		i.certificate(ctx, IssuedSecret, certmanagerv1.CertificateSpec{
			SecretName: IssuedSecret, DNSNames: dns, IPAddresses: ips,
			Duration: &metav1.Duration{Duration: duration}, RenewBefore: &metav1.Duration{Duration: duration / 3},
			PrivateKey: ecdsa(certmanagerv1.RotationPolicyAlways),
			Usages:     []certmanagerv1.KeyUsage{certmanagerv1.UsageDigitalSignature, certmanagerv1.UsageServerAuth},
			IssuerRef:  cmmeta.IssuerReference{Name: caName, Kind: "Issuer", Group: certmanagerv1.SchemeGroupVersion.Group},
		}),
	} {
		if err != nil {
			return err
		}
	}
	return errors.Join(i.issued(ctx), i.injected(ctx))
}

func (i *Issued) issuer(ctx context.Context, name string, config certmanagerv1.IssuerConfig) error {
	api := i.api.Issuers(i.opts.Namespace)
	have, err := api.Get(ctx, name, metav1.GetOptions{})
	switch {
	case unknownName(err):
		_, err = api.Create(ctx, &certmanagerv1.Issuer{ObjectMeta: i.meta(name), Spec: certmanagerv1.IssuerSpec{IssuerConfig: config}},
			metav1.CreateOptions{FieldManager: OursValue})
	case err == nil && have.Labels[OursLabel] != OursValue:
		return i.notOurs("Issuer", name)
	case err == nil && !equality.Semantic.DeepEqual(have.Spec.IssuerConfig, config):
		have.Spec.IssuerConfig = config
		_, err = api.Update(ctx, have, metav1.UpdateOptions{FieldManager: OursValue})
	}
	return i.explain("Issuer", name, err)
}

func (i *Issued) certificate(ctx context.Context, name string, spec certmanagerv1.CertificateSpec) error {
	api := i.api.Certificates(i.opts.Namespace)
	have, err := api.Get(ctx, name, metav1.GetOptions{})
	switch {
	case unknownName(err):
		_, err = api.Create(ctx, &certmanagerv1.Certificate{ObjectMeta: i.meta(name), Spec: spec}, metav1.CreateOptions{FieldManager: OursValue})
	case err == nil && have.Labels[OursLabel] != OursValue:
		return i.notOurs("Certificate", name)
	case err == nil && !equality.Semantic.DeepDerivative(spec, have.Spec):
		have.Spec = spec
		_, err = api.Update(ctx, have, metav1.UpdateOptions{FieldManager: OursValue})
	}
	return i.explain("Certificate", name, err)
}

// unknownName tells a missing object from a missing API, whose 404 names none.
func unknownName(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name != ""
}

func (i *Issued) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: i.opts.Namespace, Name: name,
		Labels: map[string]string{OursLabel: OursValue, "app.kubernetes.io/name": "mirrorgate"},
	}
}

func (i *Issued) notOurs(kind, name string) error {
	return fmt.Errorf("%s %s/%s is not ours: it lacks the label %s=%s; rename or delete it", kind, i.opts.Namespace, name, OursLabel, OursValue)
}

// explain says what to do about an answer of the API server.
func (i *Issued) explain(kind, name string, err error) error {
	switch {
	case err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err):
		return nil // somebody else was faster; the next look tells
	case apierrors.IsNotFound(err) && !unknownName(err):
		return fmt.Errorf("cert-manager is not installed: the API server knows no %s of cert-manager.io/v1; install it, or use --certs=self: %w", kind, err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("not allowed to keep %s %s/%s; the component cert-manager of the manifests has the role: %w", kind, i.opts.Namespace, name, err)
	default:
		return fmt.Errorf("%s %s/%s: %w", kind, i.opts.Namespace, name, err)
	}
}

// issued tells in cert-manager's own words why there is no certificate yet.
func (i *Issued) issued(ctx context.Context) error {
	var errs []error
	for _, name := range []string{caName, IssuedSecret} {
		have, err := i.api.Certificates(i.opts.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			errs = append(errs, i.explain("Certificate", name, err))
			continue
		}
		said := map[string]string{}
		ready := false
		for _, c := range have.Status.Conditions {
			ready = ready || (c.Type == certmanagerv1.CertificateConditionReady && c.Status == cmmeta.ConditionTrue)
			said[string(c.Type)] = fmt.Sprintf("%s=%s (%s: %s)", c.Type, c.Status, c.Reason, c.Message)
		}
		if ready {
			continue
		}
		why := strings.Join(slices.Sorted(maps.Values(said)), "; ")
		if why == "" {
			why = "cert-manager has not looked at it: is its controller running?"
		}
		errs = append(errs, fmt.Errorf("certificate %s/%s is not ready: %s", i.opts.Namespace, name, why))
	}
	return errors.Join(errs...)
}

// injected tells when cainjector was not told to fill the caBundles.
func (i *Issued) injected(ctx context.Context) error {
	found, err := registrations(ctx, i.opts.Client, i.opts.Configuration)
	if err != nil {
		return err
	}
	want := i.opts.Namespace + "/" + IssuedSecret
	var errs []error
	for _, r := range found {
		if have := r.meta.Annotations[InjectAnnotation]; have != want {
			errs = append(errs, fmt.Errorf("%s %q: annotation %s is %q, must be %q for cainjector to fill its caBundle; the component cert-manager of the manifests sets it",
				r.kind, r.meta.Name, InjectAnnotation, have, want))
		}
	}
	return errors.Join(errs...)
}
