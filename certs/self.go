package certs

// The installation as its own CA: one replica, the leader, keeps a CA and a leaf
// in a Secret; all of them serve the leaf.

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SelfSecret is the name of the Secret of a self-managed certificate.
const SelfSecret = "mirrorgate-self-tls"

// Ours marks every object that a running mirrorgate makes, as label and value.
const (
	OursLabel = "app.kubernetes.io/managed-by"
	OursValue = "mirrorgate"
)

const (
	// caLives is how many lives of a leaf a CA lives. It is renewed at two thirds,
	// when what it issued last is about to be renewed as well: no leaf outlives its CA.
	caLives = 4
	// maxSettle is how long a new CA is in every caBundle before it issues, so that
	// each API server has heard of it.
	maxSettle = time.Minute
	// A leader looks again at least every maxPause, since clocks may jump, and
	// after a failure every retryPause.
	maxPause   = time.Minute
	minPause   = 50 * time.Millisecond
	retryPause = time.Second
)

// Self is the source of an installation that is its own CA.
type Self struct {
	secret
	// trusted is since when each CA is in every caBundle, on our own clock; the
	// zero time when it never had to be waited for. Only Lead uses it.
	trusted map[string]time.Time
}

// SelfManaged returns the source whose CA and leaf are kept in the Secret
// SelfSecret. A Secret of that name without our label is never read nor written.
func SelfManaged(opts Options) *Self {
	return &Self{secret: newSecret(opts, SelfSecret, func(s *corev1.Secret) error {
		if s.Labels[OursLabel] != OursValue {
			return fmt.Errorf("secret %s/%s is not ours: it lacks the label %s=%s; delete it, or give it the label to let it be overwritten",
				s.Namespace, s.Name, OursLabel, OursValue)
		}
		return nil
	}), trusted: map[string]time.Time{}}
}

// Lead implements Led.
func (s *Self) Lead(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		followRegistrations(ctx, s.opts.Client, s.opts.Configuration, s.changed)
	}()
	defer func() { <-done }()
	clear(s.trusted)
	for {
		pause, err := s.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
			pause = minPause // somebody else wrote: look again
		case err != nil:
			s.report(err)
			pause = retryPause
		}
		wait := s.opts.Clock.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wait.C():
		case <-s.changed:
		}
		wait.Stop()
	}
}

// step does the next thing that has to be done, and returns when to look again.
// Each order of the three parts is written down in the cluster, so a leader that
// dies between two of them is continued by the next.
func (s *Self) step(ctx context.Context) (time.Duration, error) {
	stored, err := s.opts.Client.CoreV1().Secrets(s.opts.Namespace).Get(ctx, s.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		stored = nil
	case err != nil:
		return 0, fmt.Errorf("read Secret %s: %w", s.where(), err)
	default:
		if err := s.foreign(stored); err != nil {
			return 0, err
		}
	}
	found, err := registrations(ctx, s.opts.Client, s.opts.Configuration)
	if err != nil {
		return 0, err
	}
	now := s.opts.Clock.Now() // after the answers, see ServerClock
	ring := s.read(stored, now)
	life := s.opts.life()
	if ring.signer == nil || due(ring.signer.cert, caLives*life, now) {
		return minPause, s.renewCA(ctx, stored, ring, now)
	}
	settled, err := s.settle(ctx, found, ring, now)
	if err != nil {
		return 0, err
	}
	pause := min(maxPause, dueAt(ring.signer.cert, caLives*life).Sub(now))
	if ring.leaf != nil && !due(ring.leaf.Leaf, life, now) {
		return max(minPause, min(pause, dueAt(ring.leaf.Leaf, life).Sub(now))), nil
	}
	if settled > 0 {
		return max(minPause, min(pause, settled)), nil
	}
	return minPause, s.renewLeaf(ctx, stored, ring, now)
}

// keyring is what the Secret holds, without what cannot be used.
type keyring struct {
	authorities []*x509.Certificate
	// signer is the last authority; nil without its key.
	signer *authority
	leaf   *tls.Certificate
}

func (s *Self) read(stored *corev1.Secret, now time.Time) keyring {
	var ring keyring
	if stored == nil {
		return ring
	}
	certs, err := parseCerts(stored.Data[caCertKey])
	if err == nil {
		for _, cert := range certs {
			if !now.After(cert.NotAfter) {
				ring.authorities = append(ring.authorities, cert)
			}
		}
		ring.signer, err = signer(ring.authorities, stored.Data[caKeyKey])
	}
	if err != nil {
		s.report(fmt.Errorf("secret %s: %s: %w; making a new CA", s.where(), caCertKey, err))
		return keyring{}
	}
	if len(stored.Data[corev1.TLSCertKey]) == 0 {
		return ring
	}
	leaf, err := parse(stored.Data[corev1.TLSCertKey], stored.Data[corev1.TLSPrivateKeyKey])
	if err == nil {
		err = errors.Join(usable(leaf.Leaf, now, s.names), verify(leaf.Leaf, ring.authorities, now))
	}
	if err != nil {
		s.report(fmt.Errorf("secret %s: %w; making a new certificate", s.where(), err))
		return ring
	}
	ring.leaf = leaf
	return ring
}

// signer is the last of the authorities with its key.
func signer(authorities []*x509.Certificate, key []byte) (*authority, error) {
	if len(authorities) == 0 {
		return nil, errors.New("every CA expired")
	}
	last := authorities[len(authorities)-1]
	pair, err := tls.X509KeyPair(encodeCert(last), key)
	if err != nil {
		return nil, fmt.Errorf("with %s: %w", caKeyKey, err)
	}
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !last.IsCA {
		return nil, fmt.Errorf("with %s: not a CA with an ECDSA key", caKeyKey)
	}
	return &authority{last, private}, nil
}

func verify(leaf *x509.Certificate, authorities []*x509.Certificate, now time.Time) error {
	pool := x509.NewCertPool()
	for _, cert := range authorities {
		pool.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now})
	return err
}

// renewCA appends a new CA. It issues nothing yet: the leaf stays.
func (s *Self) renewCA(ctx context.Context, stored *corev1.Secret, ring keyring, now time.Time) error {
	ca, err := newAuthority(now, caLives*s.opts.life())
	if err != nil {
		return err
	}
	ring.signer = ca
	ring.authorities = append(ring.authorities, ca.cert)
	s.opts.Log.Info("made a new CA", "secret", s.where(), "expires", ca.cert.NotAfter)
	return s.write(ctx, stored, ring)
}

func (s *Self) renewLeaf(ctx context.Context, stored *corev1.Secret, ring keyring, now time.Time) error {
	leaf, err := ring.signer.issue(now, s.opts.life(), s.names)
	if err != nil {
		return err
	}
	ring.leaf = leaf
	return s.write(ctx, stored, ring)
}

// settle makes every caBundle trust our CAs, and returns for how long nothing
// may be issued from the last of them.
func (s *Self) settle(ctx context.Context, found []registration, ring keyring, now time.Time) (time.Duration, error) {
	fresh, err := trust(ctx, found, ring.authorities, now)
	if err != nil {
		return 0, err
	}
	last, began := string(ring.signer.cert.Raw), s.opts.Clock.Now()
	since, known := s.trusted[last]
	if !known {
		since = began
		if fresh {
			since = time.Time{} // nobody was trusted, so nobody can be cut off
		}
		clear(s.trusted)
		s.trusted[last] = since
	}
	if since.IsZero() {
		return 0, nil
	}
	return min(maxSettle, s.opts.life()/6) - began.Sub(since), nil
}

// write stores a keyring over what was read; a write in between is a conflict.
func (s *Self) write(ctx context.Context, stored *corev1.Secret, ring keyring) error {
	data := map[string][]byte{corev1.TLSCertKey: {}, corev1.TLSPrivateKeyKey: {}}
	for _, cert := range ring.authorities {
		data[caCertKey] = append(data[caCertKey], encodeCert(cert)...)
	}
	var err error
	if data[caKeyKey], err = encodeKey(ring.signer.key); err != nil {
		return err
	}
	if ring.leaf != nil {
		for _, der := range ring.leaf.Certificate {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return err
			}
			data[corev1.TLSCertKey] = append(data[corev1.TLSCertKey], encodeCert(cert)...)
		}
		if data[corev1.TLSPrivateKeyKey], err = encodeKey(ring.leaf.PrivateKey); err != nil {
			return err
		}
	}
	api := s.opts.Client.CoreV1().Secrets(s.opts.Namespace)
	if stored == nil {
		_, err = api.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: s.opts.Namespace, Name: s.name,
				Labels: map[string]string{OursLabel: OursValue, "app.kubernetes.io/name": "mirrorgate"},
			},
			// Not kubernetes.io/tls, of which the API server warns while it holds a CA alone.
			Type: corev1.SecretTypeOpaque, Data: data,
		}, metav1.CreateOptions{FieldManager: OursValue})
	} else {
		stored = stored.DeepCopy()
		stored.Data = data
		_, err = api.Update(ctx, stored, metav1.UpdateOptions{FieldManager: OursValue})
	}
	if err != nil {
		return fmt.Errorf("write Secret %s: %w", s.where(), err)
	}
	return nil
}
