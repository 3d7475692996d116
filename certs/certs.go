// Package certs gives the webhook server its certificate: from files, from
// memory, from a Secret that the replicas of an installation manage themselves,
// or from cert-manager.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
)

// Source is where the server's certificate comes from.
type Source interface {
	// GetCertificate serves tls.Config.GetCertificate from memory.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Start keeps the certificate fresh until ctx ends. Every replica runs it.
	Start(ctx context.Context) error
	// Ready tells why there is no usable certificate, nil when there is one.
	Ready() error
}

// Led is a Source whose certificate is made for all replicas by one of them.
type Led interface {
	Source
	// Lead makes and renews the certificate until ctx ends. What goes wrong is
	// logged and tried again.
	Lead(ctx context.Context) error
}

// ErrNoCertificate is returned before a source has its first certificate.
var ErrNoCertificate = errors.New("no certificate yet")
