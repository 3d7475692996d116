package install

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/cert-manager/cert-manager/pkg/client/clientset/versioned"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// issuer stands in for cert-manager's controller and cainjector, with the real types of its API: cert-manager
// itself cannot be built from its Go module.
type issuer struct {
	api versioned.Interface
	ns  string
	ca  *x509.Certificate
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, ns string) *issuer {
	t.Helper()
	api, err := versioned.NewForConfig(env.Config(t))
	require.NoError(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	ca, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &issuer{api, ns, ca, key}
}

// wanted waits for the Certificate that mirrorgate requests.
func (i *issuer) wanted(t *testing.T) *certmanagerv1.Certificate {
	t.Helper()
	var leaf *certmanagerv1.Certificate
	harness.Eventually(t, func() bool {
		var err error
		leaf, err = i.api.CertmanagerV1().Certificates(i.ns).Get(t.Context(), certs.IssuedSecret, metav1.GetOptions{})
		return err == nil
	}, "mirrorgate requests no Certificate")
	return leaf
}

// condition sets a condition of all Certificates.
func (i *issuer) condition(t *testing.T, kind certmanagerv1.CertificateConditionType, status cmmeta.ConditionStatus, reason, message string) {
	t.Helper()
	for _, name := range []string{"mirrorgate-ca", certs.IssuedSecret} {
		have, err := i.api.CertmanagerV1().Certificates(i.ns).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		have.Status.Conditions = []certmanagerv1.CertificateCondition{{Type: kind, Status: status, Reason: reason, Message: message}}
		_, err = i.api.CertmanagerV1().Certificates(i.ns).UpdateStatus(t.Context(), have, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
}

// sign makes a certificate and its key, valid for the given time.
func (i *issuer) sign(t *testing.T, dns, ips []string, life time.Duration) (crt, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: dns,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.ca, &key.PublicKey, i.key)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", raw)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue writes the Secret of the Certificate, as cert-manager does.
func (i *issuer) issue(ctx context.Context, t *testing.T, spec certmanagerv1.CertificateSpec) {
	t.Helper()
	crt, key := i.sign(t, spec.DNSNames, spec.IPAddresses, time.Minute)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: spec.SecretName, Annotations: map[string]string{certmanagerv1.CertificateNameKey: certs.IssuedSecret}},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			"tls.crt": crt, "tls.key": key, "ca.crt": encode("CERTIFICATE", i.ca.Raw),
		},
	}
	secrets := clientset(t).CoreV1().Secrets(i.ns)
	_, err := secrets.Update(ctx, secret, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	}
	require.NoError(t, err)
}

// inject fills the caBundles, as cainjector does for objects with its annotation.
func (i *issuer) inject(t *testing.T) {
	t.Helper()
	bundle := encode("CERTIFICATE", i.ca.Raw)
	api := clientset(t).AdmissionregistrationV1()
	m, err := api.MutatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	for n := range m.Webhooks {
		m.Webhooks[n].ClientConfig.CABundle = bundle
	}
	_, err = api.MutatingWebhookConfigurations().Update(t.Context(), m, metav1.UpdateOptions{})
	require.NoError(t, err)
	v, err := api.ValidatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	for n := range v.Webhooks {
		v.Webhooks[n].ClientConfig.CABundle = bundle
	}
	_, err = api.ValidatingWebhookConfigurations().Update(t.Context(), v, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func says(t *testing.T, s *harness.Server, what string) {
	t.Helper()
	harness.Eventually(t, func() bool { return strings.Contains(s.Log(), what) }, "not said: %s", what)
}

// TestCertManagerThatComesAfterMirrorgateIsWaitedFor installs mirrorgate first and then cert-manager, which
// is slow, then denies the request, and finally issues the certificate.
func TestCertManagerThatComesAfterMirrorgateIsWaitedFor(t *testing.T) {
	ns, f := env.Namespace(t), newFront(t)
	register(t, f)
	servers := [2]*harness.Server{}
	for n := range servers {
		servers[n] = launch(t, ns, "--certs", "cert-manager", "--cert-life", "24h")
	}
	leads, _ := leader(t, servers[:]...)
	says(t, leads, "cert-manager is not installed: the API server knows no Issuer of cert-manager.io/v1; install it, or use --certs=self")
	require.False(t, ready(t.Context(), leads))

	require.NoError(t, env.InstallCRDs(t.Context(), "cert-manager"))
	i := newIssuer(t, ns)
	leaf := i.wanted(t)
	require.Equal(t, []string{"mirrorgate." + ns + ".svc"}, leaf.Spec.DNSNames)
	require.Equal(t, certmanagerv1.ECDSAKeyAlgorithm, leaf.Spec.PrivateKey.Algorithm)
	says(t, leads, "cert-manager has set no condition: is its controller running?")
	i.condition(t, certmanagerv1.CertificateConditionIssuing, cmmeta.ConditionFalse, "Denied", "policy says no")
	says(t, leads, "mirrorgate-tls is not ready: Issuing=False (Denied: policy says no)")
	i.condition(t, certmanagerv1.CertificateConditionReady, cmmeta.ConditionTrue, "Ready", "issued")
	says(t, leads, "must be \\\""+ns+"/mirrorgate-tls\\\" for cainjector to fill its caBundle")
	env.MustKubectl(t, "", "annotate", "mutatingwebhookconfiguration/mirrorgate", "validatingwebhookconfiguration/mirrorgate",
		certs.InjectAnnotation+"="+ns+"/mirrorgate-tls")

	i.issue(t.Context(), t, leaf.Spec)
	waitReady(t, servers[:]...)
	f.use(servers[:]...)
	i.inject(t)
	waitArmed(t)
	writes := env.Write(t, 20, harness.MirroredGateway)
	env.MustKubectl(t, "", "-n", ns, "delete", "secret", certs.IssuedSecret)
	env.MustKubectl(t, "", "-n", ns, "create", "secret", "generic", certs.IssuedSecret, "--from-literal=tls.crt=theirs")
	says(t, leads, "is not the one of Certificate mirrorgate-tls")
	env.MustKubectl(t, "", "-n", ns, "delete", "secret", certs.IssuedSecret)
	renewed := renewal(t, servers[:]...)
	i.issue(t.Context(), t, leaf.Spec)
	renewed()
	writes.Flows(t, 10)
	require.Empty(t, writes.Harmed(t))

	// A change to the fields that mirrorgate sets is reverted; other fields stay.
	env.MustKubectl(t, "", "-n", ns, "patch", "certificate", certs.IssuedSecret, "--type=merge", "-p", `{"spec":{"dnsNames":["other"]}}`)
	leads.Stop(t)
	harness.Eventually(t, func() bool { return i.wanted(t).Spec.DNSNames[0] == fmt.Sprintf("mirrorgate.%s.svc", ns) }, "the change is not reverted")
}
