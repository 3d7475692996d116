// Keys and certificates of one cluster, made anew at each start: clients verify the API server by its CA, as
// they would in production, so none has to skip verification.

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki contains the paths of the files below a cluster's folder, and the CA certificate itself.
type pki struct {
	caFile, certFile, keyFile string
	serviceAccountKey         string // signs and verifies service-account tokens
	caPEM                     []byte
}

// newPKI writes a CA, the API server's certificate and the service-account key into dir.
func newPKI(dir string) (*pki, error) {
	p := &pki{
		caFile:            filepath.Join(dir, "ca.crt"),
		certFile:          filepath.Join(dir, "apiserver.crt"),
		keyFile:           filepath.Join(dir, "apiserver.key"),
		serviceAccountKey: filepath.Join(dir, "service-account.key"),
	}
	ca := certificate("test cluster CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	server := certificate("kube-apiserver")
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	server.IPAddresses = []net.IP{net.ParseIP(loopback), net.ParseIP(apiServiceIP), net.ParseIP(nodeAddress)}

	caKey, err := newKey(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	serverKey, err := newKey(p.keyFile)
	if err != nil {
		return nil, err
	}
	if _, err := newKey(p.serviceAccountKey); err != nil {
		return nil, err
	}
	if p.caPEM, err = sign(p.caFile, ca, ca, &caKey.PublicKey, caKey); err != nil {
		return nil, err
	}
	_, err = sign(p.certFile, server, ca, &serverKey.PublicKey, caKey)
	return p, err
}

// certificate returns a template that is valid from an hour ago (clocks differ) for thirty days.
func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // crypto/rand does not fail
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(30 * 24 * time.Hour),
	}
}

// newKey makes a private key and writes it to a file of its own.
func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return key, os.WriteFile(path, block, 0o600)
}

// sign writes the certificate of public, signed by the parent's key, and returns it too.
func sign(path string, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return block, os.WriteFile(path, block, 0o600)
}
