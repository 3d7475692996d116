package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// Lifetimes of an in-memory CA and of its leaves, and how far they reach into
// the past for the sake of clocks that are slow. A leaf is renewed at two thirds
// of its life.
const (
	caLife   = 365 * 24 * time.Hour
	leafLife = 24 * time.Hour
	skew     = time.Hour
)

// Memory is a source that is its own CA and keeps nothing on disk: for a program
// that registers itself and takes the registration back when it ends.
type Memory struct {
	hosts []string
	clock clock.WithTicker
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	leaf  atomic.Pointer[tls.Certificate]
}

// NewMemory makes a CA and a leaf for the given host names and IP addresses.
func NewMemory(clk clock.WithTicker, hosts ...string) (*Memory, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate CA key: %w", err)
	}
	now := clk.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "mirrorgate"},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	m := &Memory{hosts: hosts, clock: clk, key: key}
	der, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign CA: %w", err)
	}
	if m.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("parse CA: %w", err)
	}
	return m, m.renew()
}

func sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, template, parent, pub, key)
}

// CABundle returns the CA certificate in PEM, for clientConfig.caBundle.
func (m *Memory) CABundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.ca.Raw})
}

func (m *Memory) renew() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	now := m.clock.Now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "mirrorgate webhook"},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range m.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := sign(template, m.ca, &key.PublicKey, m.key)
	if err != nil {
		return fmt.Errorf("sign certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("parse certificate: %w", err)
	}
	m.leaf.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf})
	return nil
}

// GetCertificate implements Source.
func (m *Memory) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.leaf.Load(), nil
}

// Start renews the leaf until ctx ends. A sleeping laptop wakes up late, so it
// looks at the clock every minute rather than waiting once.
func (m *Memory) Start(ctx context.Context) error {
	tick := m.clock.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
			if m.leaf.Load().Leaf.NotAfter.Sub(m.clock.Now()) > leafLife/3 {
				continue
			}
			if err := m.renew(); err != nil {
				return err
			}
		}
	}
}

// Ready implements Source.
func (m *Memory) Ready() error {
	if leaf := m.leaf.Load().Leaf; m.clock.Now().After(leaf.NotAfter) {
		return fmt.Errorf("the certificate expired at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}
