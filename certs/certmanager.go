package certs

// cert-manager as the CA: the leader keeps Issuers and Certificates, cert-manager makes the Secret, and
// cainjector fills the caBundles.

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

// The objects that cert-manager gets or makes.
const (
	// IssuedSecret is the name of the Secret in which cert-manager puts the served certificate, and of the
	// Certificate.
	IssuedSecret = "mirrorgate-tls" //nolint:gosec // a name, not what it holds
	caName       = "mirrorgate-ca"
	rootIssuer   = "mirrorgate-self-signed"
	// caDuration is long, since cainjector replaces the CA in a caBundle instead of appending the new one.
	caDuration = 10 * 365 * 24 * time.Hour
	// InjectAnnotation of a webhook configuration tells cainjector from which Certificate it takes the
	// caBundle.
	InjectAnnotation = "cert-manager.io/inject-ca-from"
)

// Issued is the source of an installation whose certificate cert-manager makes.
type Issued struct {
	*secret
	api certmanager.CertmanagerV1Interface
}

// CertManager returns the source whose certificate cert-manager makes. A Secret IssuedSecret that
// cert-manager did not make is not used.
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
	for ctx.Err() == nil {
		pause := maxPause
		if err := i.ensure(ctx); err != nil && ctx.Err() == nil {
			i.report(err)
			pause = retryPause
		}
		i.sleep(ctx, pause)
	}
	return nil
}

// ensure creates or updates the objects for a CA of the installation and a leaf from it. It returns why
// cert-manager has no certificate for it yet.
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
			// A renewed CA keeps its key: the certificates that it issued before stay valid, in whatever
			// order the API servers and the replicas see the new CA.
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
	want := &certmanagerv1.Issuer{ObjectMeta: i.meta(name), Spec: certmanagerv1.IssuerSpec{IssuerConfig: config}}
	return keep(ctx, i, "Issuer", i.api.Issuers(i.opts.Namespace), want, func(have *certmanagerv1.Issuer) bool {
		differs := !equality.Semantic.DeepEqual(have.Spec.IssuerConfig, config)
		have.Spec.IssuerConfig = config
		return differs
	})
}

func (i *Issued) certificate(ctx context.Context, name string, spec certmanagerv1.CertificateSpec) error {
	want := &certmanagerv1.Certificate{ObjectMeta: i.meta(name), Spec: spec}
	return keep(ctx, i, "Certificate", i.api.Certificates(i.opts.Namespace), want, func(have *certmanagerv1.Certificate) bool {
		differs := !equality.Semantic.DeepDerivative(spec, have.Spec)
		have.Spec = spec
		return differs
	})
}

// objects is the part of a typed client that keep needs.
type objects[T any] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Create(ctx context.Context, object T, opts metav1.CreateOptions) (T, error)
	Update(ctx context.Context, object T, opts metav1.UpdateOptions) (T, error)
}

// keep creates an object, or updates the one that is there. change makes that one as wanted and reports
// whether it differed. An object without OursLabel is an error.
func keep[T metav1.Object](ctx context.Context, i *Issued, kind string, api objects[T], want T, change func(have T) bool) error {
	name := want.GetName()
	have, err := api.Get(ctx, name, metav1.GetOptions{})
	switch {
	case unknownName(err):
		_, err = api.Create(ctx, want, metav1.CreateOptions{FieldManager: OursValue})
	case err == nil && have.GetLabels()[OursLabel] != OursValue:
		return fmt.Errorf("%s %s/%s is not made by mirrorgate: it lacks the label %s=%s; rename or delete it", kind, i.opts.Namespace, name, OursLabel, OursValue)
	case err == nil && change(have):
		_, err = api.Update(ctx, have, metav1.UpdateOptions{FieldManager: OursValue})
	}
	return i.explain(kind, name, err)
}

// unknownName reports whether an error means a missing object. The 404 of a missing API names no object.
func unknownName(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name != ""
}

// explain adds to an error of the API server what an operator can do about it. An error that the next ensure
// resolves gives nil.
func (i *Issued) explain(kind, name string, err error) error {
	switch {
	case err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err):
		return nil // another client was faster
	case apierrors.IsNotFound(err) && !unknownName(err):
		return fmt.Errorf("cert-manager is not installed: the API server knows no %s of cert-manager.io/v1; install it, or use --certs=self: %w", kind, err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("not allowed to keep %s %s/%s; the component cert-manager of the manifests has the role: %w", kind, i.opts.Namespace, name, err)
	default:
		return fmt.Errorf("%s %s/%s: %w", kind, i.opts.Namespace, name, err)
	}
}

// issued returns, from cert-manager's conditions, why there is no certificate yet, nil when there is one.
func (i *Issued) issued(ctx context.Context) error {
	var errs []error
	for _, name := range []string{caName, IssuedSecret} {
		have, err := i.api.Certificates(i.opts.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			errs = append(errs, i.explain("Certificate", name, err))
			continue
		}
		conditions := map[string]string{}
		ready := false
		for _, c := range have.Status.Conditions {
			ready = ready || (c.Type == certmanagerv1.CertificateConditionReady && c.Status == cmmeta.ConditionTrue)
			conditions[string(c.Type)] = fmt.Sprintf("%s=%s (%s: %s)", c.Type, c.Status, c.Reason, c.Message)
		}
		if ready {
			continue
		}
		why := strings.Join(slices.Sorted(maps.Values(conditions)), "; ")
		if why == "" {
			why = "cert-manager has set no condition: is its controller running?"
		}
		errs = append(errs, fmt.Errorf("certificate %s/%s is not ready: %s", i.opts.Namespace, name, why))
	}
	return errors.Join(errs...)
}

// injected returns which configurations lack the annotation for cainjector, nil when all have it.
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
