// Package certs provides the certificate of the webhook server: from files, from memory, from a Secret that
// the replicas of an installation manage themselves, or from cert-manager.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
)

// Source provides the server's certificate.
type Source interface {
	// GetCertificate is for tls.Config.GetCertificate. It answers from memory, with ErrNoCertificate before
	// there is a certificate.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Start keeps the certificate up to date until ctx ends. Every replica runs it.
	Start(ctx context.Context) error
	// Ready returns why there is no usable certificate, nil when there is one.
	Ready() error
}

// Led is a Source whose certificate one replica, the leader, makes for all.
type Led interface {
	Source
	// Lead makes and renews the certificate until ctx ends. A failure is logged and retried.
	Lead(ctx context.Context) error
}

// ErrNoCertificate is returned before a source has its first certificate.
var ErrNoCertificate = errors.New("no certificate yet")
