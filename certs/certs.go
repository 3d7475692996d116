// Package certs gives the webhook server its certificate.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Source is where the server's certificate comes from.
type Source interface {
	// GetCertificate serves tls.Config.GetCertificate from memory.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Start keeps the certificate fresh until ctx ends.
	Start(ctx context.Context) error
	// Ready tells why there is no usable certificate, nil when there is one.
	Ready() error
}

// ErrNoCertificate is returned before a source has its first certificate.
var ErrNoCertificate = errors.New("no certificate yet")

// files serves tls.crt and tls.key of a folder.
type files struct {
	watcher *certwatcher.CertWatcher
	started atomic.Bool
}

// Files returns a source that serves dir/tls.crt and dir/tls.key and follows
// their changes, as a mounted Secret of type kubernetes.io/tls has them. It fails
// when they are missing or do not belong together.
func Files(dir string) (Source, error) {
	crt, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	w, err := certwatcher.New(crt, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", crt, key, err)
	}
	return &files{watcher: w}, nil
}

func (f *files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.watcher.GetCertificate(hello)
}

func (f *files) Start(ctx context.Context) error {
	f.started.Store(true)
	return f.watcher.Start(ctx)
}

func (f *files) Ready() error {
	if !f.started.Load() {
		return ErrNoCertificate
	}
	return nil
}
