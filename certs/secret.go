package certs

// A certificate that replicas share in a Secret. Each of them follows the Secret and serves from memory, so
// that the served certificate stays when the Secret is damaged or deleted.

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/mirrorgate/mirrorgate/internal/logging"
)

// Keys of a Secret beside corev1.TLSCertKey and corev1.TLSPrivateKeyKey.
const (
	caCertKey = "ca.crt"
	caKeyKey  = "ca.key"
)

// DefaultLife is how long a certificate is valid: long enough for an operator to notice that its renewal, at
// two thirds of that time, fails.
const DefaultLife = 30 * 24 * time.Hour

// Options describe the certificate of an installation and where it is kept.
type Options struct {
	Client kubernetes.Interface
	// Namespace is the namespace of the installation and of all objects that its source makes.
	Namespace string
	// Configuration is the name of both webhook configurations.
	Configuration string
	// Names are the host names and IP addresses that the API server calls.
	Names []string
	// Life is how long a certificate is valid, DefaultLife when 0.
	Life time.Duration
	// Clock decides when a certificate is due; see ServerClock.
	Clock   clock.WithTicker
	Metrics *Metrics // nil for none
	Log     logr.Logger
}

func (o Options) life() time.Duration {
	if o.Life == 0 {
		return DefaultLife
	}
	return o.Life
}

// secret is the source of the certificate in a Secret.
type secret struct {
	served
	opts Options
	name string
	// foreign returns why a Secret must not be used, nil when it may be.
	foreign  func(*corev1.Secret) error
	problem  atomic.Pointer[error]
	failures logging.OnChange
	// changed has room for one signal that the Secret changed.
	changed chan struct{}
}

func newSecret(opts Options, name string, foreign func(*corev1.Secret) error) *secret {
	return &secret{
		served: served{names: opts.Names, now: opts.Clock.Now, metrics: opts.Metrics},
		opts:   opts, name: name, foreign: foreign, changed: make(chan struct{}, 1),
	}
}

// Start implements Source: it follows the Secret.
func (s *secret) Start(ctx context.Context) error {
	follow(ctx, s.opts.Client.CoreV1().Secrets(s.opts.Namespace), &corev1.Secret{}, s.name, func(obj any) {
		if stored, ok := obj.(*corev1.Secret); ok {
			s.load(stored)
		}
		signal(s.changed)
	})
	return nil
}

// load serves the certificate of a Secret if clients would accept it; otherwise the one before stays.
func (s *secret) load(stored *corev1.Secret) {
	if err := s.foreign(stored); err != nil {
		s.report(err)
		return
	}
	if len(stored.Data[corev1.TLSCertKey]) == 0 {
		return // the certificate is still to be made
	}
	cert, err := parse(stored.Data[corev1.TLSCertKey], stored.Data[corev1.TLSPrivateKeyKey])
	if err == nil {
		err = usable(cert.Leaf, s.now(), s.names)
	}
	if err != nil {
		s.report(fmt.Errorf("secret %s: %w", s.key(), err))
		return
	}
	s.problem.Store(nil)
	s.failures.Log(nil)
	if s.set(cert) {
		s.opts.Log.Info("Serving a certificate", "secret", s.key(), "expires", cert.Leaf.NotAfter)
	}
}

// report notes a failure for Ready, the metrics and the log.
func (s *secret) report(err error) {
	s.problem.Store(&err)
	s.failed()
	if s.failures.Log(err) {
		s.opts.Log.Error(err, "Cannot use or make the certificate; the served one stays")
	}
}

// Ready implements Source.
func (s *secret) Ready() error {
	err := s.served.Ready()
	if problem := s.problem.Load(); err != nil && problem != nil {
		return errors.Join(err, *problem)
	}
	return err
}

// meta returns the metadata of an object that mirrorgate makes.
func (s *secret) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: s.opts.Namespace, Name: name,
		Labels: map[string]string{OursLabel: OursValue, "app.kubernetes.io/name": "mirrorgate"},
	}
}

func (s *secret) key() string { return s.opts.Namespace + "/" + s.name }

// sleep returns after a pause, or earlier when the Secret changed or ctx ends.
func (s *secret) sleep(ctx context.Context, pause time.Duration) {
	timer := s.opts.Clock.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C():
	case <-s.changed:
	}
}
