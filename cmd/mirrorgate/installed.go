package main

// What serve does as part of an installation in the cluster: where its
// certificate comes from, and what the leader does beside moving mirrors.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	certmanager "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/typed/certmanager/v1"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// installation is the name of the Service and of both webhook configurations
// that the manifests hold.
const installation = "mirrorgate"

const (
	certsAuto        = "auto"
	certsCertManager = "cert-manager"
	certsSelf        = "self"
	certsFiles       = "files"
)

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// namespace is where the installation is: as told, or the pod's own.
func (o *serveOptions) namespace() (string, error) {
	if o.Namespace != "" {
		return o.Namespace, nil
	}
	raw, err := os.ReadFile(namespaceFile)
	if err != nil {
		return "", fmt.Errorf("--namespace is not given, and not in a pod: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// installedSource makes the source that --certs names.
func (g *gateway) installedSource(ctx context.Context, m *certs.Metrics) (certs.Source, error) {
	kind, why := g.opts.Certs, "--certs says so"
	var err error
	if kind == certsAuto {
		if kind, why, err = g.chooseSource(ctx); err != nil {
			return nil, fmt.Errorf("--certs=auto: %w", err)
		}
	}
	g.log.Info("certificate", "source", kind, "why", why)
	names := g.opts.CertNames
	if kind == certsFiles {
		return certs.Files(g.clock, m, g.opts.CertDir, names...)
	}
	namespace, err := g.opts.namespace()
	if err != nil {
		return nil, err
	}
	opts := certs.Options{
		Client: g.client, Namespace: namespace, Configuration: installation,
		Names: append([]string{installation + "." + namespace + ".svc"}, names...),
		Life:  g.opts.CertLife.Duration, Clock: g.clock, Metrics: m, Log: g.log.WithName("certs"),
	}
	if kind == certsSelf {
		return certs.SelfManaged(opts), nil
	}
	api, err := certmanager.NewForConfig(g.config)
	if err != nil {
		return nil, err
	}
	return certs.CertManager(opts, api), nil
}

// chooseSource finds out what the installation is made for: the files that were
// mounted, cert-manager where cainjector is told to fill our configurations, else
// ourselves. What else the cluster has does not matter, so that the choice does
// not depend on what was installed first.
func (g *gateway) chooseSource(ctx context.Context) (kind, why string, err error) {
	crt := filepath.Join(g.opts.CertDir, "tls.crt")
	if _, err := os.Stat(crt); err == nil {
		return certsFiles, crt + " exists", nil
	}
	have, err := g.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, installation, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return certsSelf, "no files, and no webhook configuration that cainjector fills", nil
	case err != nil:
		return "", "", fmt.Errorf("read MutatingWebhookConfiguration %q: %w", installation, err)
	case have.Annotations[certs.InjectAnnotation] != "":
		return certsCertManager, "the webhook configurations are annotated for cainjector", nil
	}
	return certsSelf, "no files, and the webhook configurations are not annotated for cainjector", nil
}

// lead is what one replica does for all: loops that run until their context ends, and what an
// installation needs.
func (g *gateway) lead(loops []func(context.Context) error) (func(context.Context) error, error) {
	if g.registration != nil {
		return together(loops), nil
	}
	quiet := rest.CopyConfig(g.config)
	quiet.WarningHandler = rest.NoWarnings{} // our own, about routes that nobody wrote
	client, err := kubernetes.NewForConfig(quiet)
	if err != nil {
		return nil, err
	}
	failClosed := &webhook.FailClosed{
		Client: client, Configuration: installation, Namespace: g.opts.ProbeNamespace,
		Registry: metrics.Registry, Log: g.log.WithName("failclosed"),
	}
	if led, ok := g.source.(certs.Led); ok {
		loops = append(loops, led.Lead)
	}
	if g.opts.FailurePolicy == "Fail" {
		loops = append(loops, failClosed.Start)
	}
	return together(loops), nil
}

// together runs loops until ctx or the first of them ends.
func together(loops []func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, loop := range loops {
			group.Go(func() error { return ended(ctx, loop(ctx)) })
		}
		if err := group.Wait(); !errors.Is(err, errEnded) {
			return err
		}
		return nil
	}
}

// errEnded ends what runs beside a loop that ends by itself.
var errEnded = errors.New("a loop ended")

func ended(ctx context.Context, err error) error {
	if err == nil && ctx.Err() == nil {
		return errEnded
	}
	return err
}
