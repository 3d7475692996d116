package certs

// Checks of certificates and keys, with errors from which an operator can see what to correct.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// parse reads a PEM chain and its key. Its errors distinguish text that is not PEM, PEM that is no
// certificate or key, and a key that belongs to another certificate.
func parse(chain, key []byte) (*tls.Certificate, error) {
	var errs []error
	if _, err := parseCerts(chain); err != nil {
		errs = append(errs, fmt.Errorf("tls.crt: %w", err))
	}
	if err := checkKey(key); err != nil {
		errs = append(errs, fmt.Errorf("tls.key: %w", err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("tls.key does not belong to tls.crt: %w", err)
	}
	return &pair, nil
}

// checkKey returns why a text has no private key in PEM, nil when it has one.
func checkKey(text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY") {
			continue
		}
		_, pkcs8 := x509.ParsePKCS8PrivateKey(block.Bytes)
		_, pkcs1 := x509.ParsePKCS1PrivateKey(block.Bytes)
		_, sec1 := x509.ParseECPrivateKey(block.Bytes)
		if pkcs8 != nil && pkcs1 != nil && sec1 != nil {
			return fmt.Errorf("block %q holds no key in PKCS #8, PKCS #1 or SEC 1: %w", block.Type, pkcs8)
		}
		return nil
	}
	return fmt.Errorf("no PEM block of type PRIVATE KEY in %d bytes", len(text))
}

// parseCerts reads all certificates of a PEM text. A text without one is an error.
func parseCerts(text []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(found)+1, err)
		}
		found = append(found, cert)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no PEM block of type CERTIFICATE in %d bytes", len(text))
	}
	return found, nil
}

// usable returns why a server with the given names cannot use a certificate now, nil when it can.
func usable(leaf *x509.Certificate, now time.Time, names []string) error {
	var errs []error
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	if now.After(leaf.NotAfter) {
		errs = append(errs, fmt.Errorf("the certificate expired at %s, it is now %s", at(leaf.NotAfter), at(now)))
	}
	if now.Before(leaf.NotBefore) {
		errs = append(errs, fmt.Errorf("the certificate is not valid before %s, it is now %s", at(leaf.NotBefore), at(now)))
	}
	for _, name := range names {
		if leaf.VerifyHostname(name) != nil {
			errs = append(errs, fmt.Errorf("the certificate is for %s, not for %s, which the API server calls", namesOf(leaf), name))
		}
	}
	return errors.Join(errs...)
}

func namesOf(leaf *x509.Certificate) string {
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, net.IP.String(ip))
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}
