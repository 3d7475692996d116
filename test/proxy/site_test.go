// Package interop_test runs real clients and servers against the proxy.
package interop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table sends every request to the primary and a copy to the variant; both speak the protocol.
func table(protocol, primary, variant string) *spec.Table {
	rule := spec.Rule{
		BackendRefs: []spec.BackendRef{{Name: "primary", Port: 80}},
		Filters: []spec.Filter{{Type: "RequestMirror", RequestMirror: &spec.RequestMirror{
			BackendRef: spec.BackendRef{Name: "variant", Port: 80},
		}}},
	}
	return &spec.Table{
		Listeners: []spec.Listener{{Name: "main", Address: "127.0.0.1:0", Rules: []spec.Rule{rule}}},
		Services: map[string]spec.Service{
			"primary": {80: {Protocol: protocol, Endpoints: []spec.Endpoint{{Address: primary}}}},
			"variant": {80: {Protocol: protocol, Endpoints: []spec.Endpoint{{Address: variant}}}},
		},
	}
}

// setup compiles the table; with a certificate its listeners terminate TLS.
func setup(t *testing.T, written *spec.Table, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *proxy.Setup {
	t.Helper()
	compiled, problems := routing.Compile(written)
	for _, p := range problems {
		require.True(t, p.Warning, p.String())
	}
	out := &proxy.Setup{Table: compiled}
	for _, l := range compiled.Listeners {
		out.Listeners = append(out.Listeners, proxy.Listener{Name: l.Name, Address: l.Address, H2C: true, Certificate: certificate})
	}
	return out
}

// start serves a table until the test ends, and returns its address.
func start(t *testing.T, written *spec.Table, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (addr string) {
	t.Helper()
	s := proxy.New(&proxy.Options{})
	require.NoError(t, s.Apply(setup(t, written, certificate)))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		assert.NoError(t, s.Shutdown(ctx))
	})
	return s.Addr("main").String()
}

// serve starts a backend that speaks HTTP/1.1 and h2c.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// identity returns a certificate for 127.0.0.1 and a pool that trusts it.
func identity(t *testing.T) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxy"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	certificate := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }, roots
}
