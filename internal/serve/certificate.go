package serve

// The certificate of the webhook server: made in memory when the webhooks are registered by URL, and from the
// source that --certs names when the process is part of an installation.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	certmanager "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/typed/certmanager/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// The values of --certs.
const (
	certsAuto        = "auto"
	certsCertManager = "cert-manager"
	certsSelf        = "self"
	certsFiles       = "files"
)

// certificate sets the source of the certificate and, outside an installation, the registration that carries
// its CA.
func (p *Process) certificate(ctx context.Context) (err error) {
	observed := certs.NewMetrics(metrics.Registry)
	url := p.opts.webhookURL()
	if url == nil {
		p.source, err = p.installedSource(ctx, observed)
		return err
	}
	memory, err := certs.NewMemory(p.opts.Clock, observed, url.Hostname())
	if err != nil {
		return err
	}
	p.source = memory
	p.registration = &webhook.Registration{URL: url, CABundle: memory.CABundle(), Routes: p.opts.components()}
	p.reached.Store(fmt.Errorf("no call of the API server to %s yet", url))
	return nil
}

// installedSource makes the source that --certs names.
func (p *Process) installedSource(ctx context.Context, m *certs.Metrics) (certs.Source, error) {
	kind, why := p.opts.Certs, "--certs names it"
	var err error
	if kind == certsAuto {
		if kind, why, err = p.chooseSource(ctx); err != nil {
			return nil, fmt.Errorf("--certs=auto: %w", err)
		}
	}
	p.log.Info("Certificate source chosen", "source", kind, "why", why)
	names := p.opts.CertNames
	if kind == certsFiles {
		return certs.Files(p.clock, m, p.opts.CertDir, names...)
	}
	namespace, err := p.opts.installationNamespace()
	if err != nil {
		return nil, err
	}
	opts := certs.Options{
		Client: p.client, Namespace: namespace, Configuration: Installation,
		Names: append([]string{Installation + "." + namespace + ".svc"}, names...),
		Life:  p.opts.CertLife.Duration, Clock: p.clock, Metrics: m, Log: p.log.WithName("certs"),
	}
	if kind == certsSelf {
		return certs.SelfManaged(opts), nil
	}
	api, err := certmanager.NewForConfig(p.config)
	if err != nil {
		return nil, err
	}
	return certs.CertManager(opts, api), nil
}

// chooseSource finds out which source the installation was made for: files that are mounted, cert-manager if
// the webhook configurations are annotated for cainjector, or else certificates that mirrorgate manages
// itself. Nothing else in the cluster counts, so that the choice does not depend on the order of
// installation.
func (p *Process) chooseSource(ctx context.Context) (kind, why string, err error) {
	crt := filepath.Join(p.opts.CertDir, "tls.crt")
	if _, err := os.Stat(crt); err == nil {
		return certsFiles, crt + " exists", nil
	}
	have, err := p.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, Installation, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return certsSelf, "there are no files, and no webhook configuration for cainjector to fill", nil
	case err != nil:
		return "", "", fmt.Errorf("read MutatingWebhookConfiguration %q: %w", Installation, err)
	case have.Annotations[certs.InjectAnnotation] != "":
		return certsCertManager, "the webhook configurations are annotated for cainjector", nil
	}
	return certsSelf, "there are no files, and the webhook configurations are not annotated for cainjector", nil
}
