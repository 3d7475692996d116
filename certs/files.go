package certs

// A certificate in files, as a mounted Secret has it.

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// files is the source of a folder with tls.crt and tls.key.
type files struct {
	served
	watcher *certwatcher.CertWatcher
}

// Files returns a source that serves dir/tls.crt and dir/tls.key, the files of a mounted Secret of type
// kubernetes.io/tls, and follows their changes. It fails when they are missing, do not belong together, are
// for another name or not valid now. When files become unusable later, the last good certificate stays.
// metrics may be nil.
func Files(clk clock.PassiveClock, metrics *Metrics, dir string, names ...string) (Source, error) {
	crt, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	chain, err := os.ReadFile(crt)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	private, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	pair, err := parse(chain, private)
	if err == nil {
		err = usable(pair.Leaf, clk.Now(), names)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate in %s: %w", dir, err)
	}
	f := &files{served: served{names: names, now: clk.Now, metrics: metrics}}
	if f.watcher, err = certwatcher.New(crt, key); err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", crt, key, err)
	}
	f.watcher.RegisterCallback(func(c tls.Certificate) { f.load(&c) })
	f.set(pair)
	return f, nil
}

// load serves the files' certificate if clients would accept it; otherwise the one before stays.
func (f *files) load(cert *tls.Certificate) {
	if err := usable(cert.Leaf, f.now(), f.names); err != nil {
		f.failed()
		return
	}
	f.set(cert)
}

// Start implements Source.
func (f *files) Start(ctx context.Context) error {
	go wait.UntilWithContext(ctx, func(context.Context) {
		if cert, err := f.watcher.GetCertificate(nil); err == nil {
			f.load(cert)
		}
	}, resyncPeriod)
	return f.watcher.Start(ctx)
}
