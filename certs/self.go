package certs

// The installation as its own CA: one replica, the leader, keeps a CA and a leaf in a Secret, and all
// replicas serve the leaf.

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

// OursLabel with OursValue is the label of every object that a running mirrorgate makes. OursValue is also
// the field manager of its writes.
const (
	OursLabel = "app.kubernetes.io/managed-by"
	OursValue = "mirrorgate"
)

const (
	// caLives is how long a CA is valid, in lives of a leaf. A CA is renewed at two thirds of that time, so
	// that no leaf outlives the CA that issued it.
	caLives = 4
	// maxTrustDelay is how long a new CA is in every caBundle before it issues, so that each API server knows
	// it.
	maxTrustDelay = time.Minute
	// maxPause is the longest pause between two steps of a leader, since clocks may jump. retryPause is the
	// pause after a failure.
	maxPause   = time.Minute
	minPause   = 50 * time.Millisecond
	retryPause = time.Second
)

// Self is the source of an installation that is its own CA.
type Self struct {
	*secret
	// trusted is since when a CA is in every caBundle, by the certificate of the CA. The zero time means that
	// it may issue at once. Only Lead uses it.
	trusted map[string]time.Time
}

// SelfManaged returns the source whose CA and leaf are kept in the Secret SelfSecret. A Secret of that name
// without OursLabel is neither used nor written.
func SelfManaged(opts Options) *Self {
	return &Self{secret: newSecret(opts, SelfSecret, func(s *corev1.Secret) error {
		if s.Labels[OursLabel] != OursValue {
			return fmt.Errorf("secret %s/%s is not made by mirrorgate: it lacks the label %s=%s; delete it, or give it the label to let it be overwritten",
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
			pause = minPause // another client wrote in between: read it again
		case err != nil:
			s.report(err)
			pause = retryPause
		}
		s.sleep(ctx, pause)
	}
}

// step takes the next of three steps, if one is due: it makes a CA, adds it to the caBundles, or issues a
// leaf. It returns how long to pause before the next call. The state between the steps is in the cluster
// alone, so that a new leader continues where the one before it ended.
func (s *Self) step(ctx context.Context) (time.Duration, error) {
	stored, err := s.opts.Client.CoreV1().Secrets(s.opts.Namespace).Get(ctx, s.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		stored = nil
	case err != nil:
		return 0, fmt.Errorf("read Secret %s: %w", s.key(), err)
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
	delay, err := s.trustCA(ctx, found, ring, now)
	if err != nil {
		return 0, err
	}
	pause := min(maxPause, dueAt(ring.signer.cert, caLives*life).Sub(now))
	if ring.leaf != nil && !due(ring.leaf.Leaf, life, now) {
		return max(minPause, min(pause, dueAt(ring.leaf.Leaf, life).Sub(now))), nil
	}
	if delay > 0 {
		return max(minPause, min(pause, delay)), nil
	}
	return minPause, s.renewLeaf(ctx, stored, ring, now)
}

// keyring is the content of the Secret without the parts that cannot be used.
type keyring struct {
	authorities []*x509.Certificate
	// signer is the last authority, nil when its key is missing.
	signer *authority
	leaf   *tls.Certificate
}

// read returns the keyring of a Secret, empty when stored is nil, and reports the parts that cannot be used.
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
		s.report(fmt.Errorf("secret %s: %s: %w; making a new CA", s.key(), caCertKey, err))
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
		s.report(fmt.Errorf("secret %s: %w; making a new certificate", s.key(), err))
		return ring
	}
	ring.leaf = leaf
	return ring
}

// signer returns the last of the authorities with its key.
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

// verify returns why the authorities do not vouch for a leaf, nil when they do.
func verify(leaf *x509.Certificate, authorities []*x509.Certificate, now time.Time) error {
	pool := x509.NewCertPool()
	for _, cert := range authorities {
		pool.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now})
	return err
}

// renewCA adds a new CA to the Secret. The leaf stays.
func (s *Self) renewCA(ctx context.Context, stored *corev1.Secret, ring keyring, now time.Time) error {
	ca, err := newAuthority(now, caLives*s.opts.life())
	if err != nil {
		return err
	}
	ring.signer = ca
	ring.authorities = append(ring.authorities, ca.cert)
	s.opts.Log.Info("Made a new CA", "secret", s.key(), "expires", ca.cert.NotAfter)
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

// trustCA adds the keyring's authorities to every caBundle, and returns for how long the last of them must
// not issue yet.
func (s *Self) trustCA(ctx context.Context, found []registration, ring keyring, now time.Time) (time.Duration, error) {
	fresh, err := trust(ctx, found, ring.authorities, now)
	if err != nil {
		return 0, err
	}
	ca, written := string(ring.signer.cert.Raw), s.opts.Clock.Now()
	since, known := s.trusted[ca]
	if !known {
		since = written
		if fresh {
			since = time.Time{} // the webhooks could not be called before
		}
		clear(s.trusted)
		s.trusted[ca] = since
	}
	if since.IsZero() {
		return 0, nil
	}
	return min(maxTrustDelay, s.opts.life()/6) - written.Sub(since), nil
}

// write stores a keyring in the Secret that was read, nil for a new one. A write in between is a conflict.
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
			ObjectMeta: s.meta(s.name),
			// Not kubernetes.io/tls, because the API server would warn while the Secret has a CA but no leaf.
			Type: corev1.SecretTypeOpaque, Data: data,
		}, metav1.CreateOptions{FieldManager: OursValue})
	} else {
		stored = stored.DeepCopy()
		stored.Data = data
		_, err = api.Update(ctx, stored, metav1.UpdateOptions{FieldManager: OursValue})
	}
	if err != nil {
		return fmt.Errorf("write Secret %s: %w", s.key(), err)
	}
	return nil
}
