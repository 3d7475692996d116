package certs

// How replicas share a certificate: a Secret that each of them follows and
// serves from memory, so that nothing that happens to the Secret takes away what
// is being served.

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// Keys of a Secret beside corev1.TLSCertKey and corev1.TLSPrivateKeyKey.
const (
	caCertKey = "ca.crt"
	caKeyKey  = "ca.key"
)

// DefaultLife is how long a certificate is good for: one whose renewal fails is
// noticed long before.
const DefaultLife = 30 * 24 * time.Hour

// Options say whose certificate is made, and where.
type Options struct {
	Client kubernetes.Interface
	// Namespace is that of the Secrets, and of everything else we keep.
	Namespace string
	// Configuration is the name of both webhook configurations.
	Configuration string
	// Names are the host names and IP addresses that the API server calls.
	Names []string
	// Life is how long a certificate is good for, DefaultLife when 0.
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

// secret serves the certificate of a Secret.
type secret struct {
	served
	opts Options
	name string
	// foreign tells why a Secret is not one that we may use.
	foreign func(*corev1.Secret) error
	problem atomic.Pointer[error]
	// changed has room for one signal that the Secret changed.
	changed chan struct{}
}

func newSecret(opts Options, name string, foreign func(*corev1.Secret) error) secret {
	return secret{
		served: served{names: opts.Names, now: opts.Clock.Now, metrics: opts.Metrics},
		opts:   opts, name: name, foreign: foreign, changed: make(chan struct{}, 1),
	}
}

// Start implements Source: it follows the Secret.
func (s *secret) Start(ctx context.Context) error {
	api := s.opts.Client.CoreV1().Secrets(s.opts.Namespace)
	follow(ctx, s.name, &corev1.Secret{}, &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return api.Watch(ctx, o) },
	}, func(obj any) {
		if stored, ok := obj.(*corev1.Secret); ok {
			s.take(stored)
		}
		signal(s.changed)
	})
	return nil
}

// take serves what a Secret holds, if it can be served; else what was served
// before stays.
func (s *secret) take(stored *corev1.Secret) {
	err := s.foreign(stored)
	if err == nil && len(stored.Data[corev1.TLSCertKey]) == 0 {
		return // its maker is not done
	}
	if err == nil {
		cert, wrong := parse(stored.Data[corev1.TLSCertKey], stored.Data[corev1.TLSPrivateKeyKey])
		if wrong == nil {
			wrong = usable(cert.Leaf, s.now(), s.names)
		}
		if err = wrong; err == nil {
			s.problem.Store(nil)
			if s.set(cert) {
				s.opts.Log.Info("serving a certificate", "secret", s.where(), "expires", cert.Leaf.NotAfter)
			}
			return
		}
		err = fmt.Errorf("secret %s: %w", s.where(), err)
	}
	s.report(err)
}

// report notes what is wrong, for the log, the metrics and Ready; the same thing
// is logged once.
func (s *secret) report(err error) {
	before := s.problem.Swap(&err)
	s.failed()
	if before == nil || (*before).Error() != err.Error() {
		s.opts.Log.Error(err, "Cannot use or make the certificate; what is served stays")
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

func (s *secret) where() string { return s.opts.Namespace + "/" + s.name }

// lookAgain is how often a certificate is offered again that could not be used: what
// was wrong may have been the time.
const lookAgain = 10 * time.Second

// follow calls changed with each state of the object of a name, now and then again,
// and with nil when it is deleted, until ctx ends. It needs list and watch on this
// very name.
func follow(ctx context.Context, name string, kind runtime.Object, lw *cache.ListWatch, changed func(any)) {
	list, watches, only := lw.ListWithContextFunc, lw.WatchFuncWithContext, fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	named := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return watches(ctx, o)
		},
	}
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: named, ObjectType: kind, ResyncPeriod: lookAgain,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    changed,
			UpdateFunc: func(_, obj any) { changed(obj) },
			DeleteFunc: func(any) { changed(nil) },
		},
	})
	controller.RunWithContext(ctx)
}

// signal wakes a loop that waits on a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
