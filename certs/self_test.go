package certs

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	testclock "k8s.io/utils/clock/testing"
)

// bench runs the steps of a leader with client-go's fake clientset and a fake clock. The watches, and whether
// an API server accepts the certificates, are tested in test/integration/install.
type bench struct {
	*Self
	client *fake.Clientset
	clock  *testclock.FakeClock
}

func newBench(t *testing.T) *bench {
	t.Helper()
	client := fake.NewClientset(
		&admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "mirrorgate"},
			Webhooks:   []admissionregistrationv1.MutatingWebhook{{Name: "a"}, {Name: "b"}},
		},
		&admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "mirrorgate"},
			Webhooks:   []admissionregistrationv1.ValidatingWebhook{{Name: "c"}},
		})
	clk := testclock.NewFakeClock(time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC))
	return &bench{client: client, clock: clk, Self: SelfManaged(Options{
		Client: client, Namespace: "ns", Configuration: "mirrorgate", Names: []string{"mirrorgate.ns.svc"}, Clock: clk,
	})}
}

// steps runs the leader until no step is due before the clock moves on.
func (b *bench) steps(t *testing.T) {
	t.Helper()
	for range 10 {
		pause, err := b.step(t.Context())
		require.NoError(t, err)
		if pause > minPause {
			return
		}
	}
	require.Fail(t, "the leader does not come to rest")
}

func (b *bench) stored(t *testing.T) *corev1.Secret {
	t.Helper()
	s, err := b.client.CoreV1().Secrets("ns").Get(t.Context(), SelfSecret, metav1.GetOptions{})
	require.NoError(t, err)
	return s
}

func (b *bench) leaf(t *testing.T) *x509.Certificate {
	t.Helper()
	s := b.stored(t)
	cert, err := parse(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	require.NoError(t, err)
	return cert.Leaf
}

// bundle returns the caBundle of the webhooks, which must be the same for all.
func (b *bench) bundle(t *testing.T) []*x509.Certificate {
	t.Helper()
	found, err := registrations(t.Context(), b.client, "mirrorgate")
	require.NoError(t, err)
	require.Len(t, found, 2)
	first := found[0].clients[0].CABundle
	for _, r := range found {
		for _, c := range r.clients {
			require.Equal(t, string(first), string(c.CABundle), r.kind)
		}
	}
	certs, err := parseCerts(first)
	require.NoError(t, err)
	return certs
}

// requireTrusted requires that the API server trusts the leaf.
func (b *bench) requireTrusted(t *testing.T) {
	t.Helper()
	require.NoError(t, verify(b.leaf(t), b.bundle(t), b.clock.Now()))
}

func TestSelfMakesACertificateOnFirstInstallWithoutWaiting(t *testing.T) {
	b := newBench(t)
	b.steps(t)
	b.requireTrusted(t)
	require.NoError(t, b.leaf(t).VerifyHostname("mirrorgate.ns.svc"))
	require.Equal(t, b.clock.Now().Add(DefaultLife), b.leaf(t).NotAfter)
	require.Len(t, b.bundle(t), 1)
	require.ErrorIs(t, b.Ready(), ErrNoCertificate)
	b.load(b.stored(t))
	require.NoError(t, b.Ready())
	b.clock.Step(DefaultLife + time.Second)
	require.ErrorContains(t, b.Ready(), "expired")
}

func TestSelfRenewsTheLeafAtTwoThirdsOfItsLife(t *testing.T) {
	b := newBench(t)
	b.steps(t)
	first := b.leaf(t)
	b.clock.Step(DefaultLife * 59 / 100)
	b.steps(t)
	require.Equal(t, first, b.leaf(t), "the jitter is at most a fifteenth of the life")
	b.clock.Step(DefaultLife * 8 / 100)
	b.steps(t)
	require.NotEqual(t, first, b.leaf(t))
	require.Len(t, b.bundle(t), 1, "the CA stays")
}

// The steps are seconds apart while the new CA must not issue yet, and half a day apart otherwise.
func TestSelfTrustsANewCABeforeItIssuesAndDropsTheOldOneWhenItExpired(t *testing.T) {
	b := newBench(t)
	b.steps(t)
	old := b.bundle(t)[0]
	for len(b.bundle(t)) == 1 {
		b.clock.Step(12 * time.Hour)
		b.steps(t)
		b.requireTrusted(t)
	}
	require.WithinDuration(t, old.NotBefore.Add(caLives*DefaultLife*2/3), b.clock.Now(), caLives*DefaultLife/14)
	next := b.bundle(t)[1]
	appended := b.clock.Now()
	for !b.clock.Now().After(appended.Add(maxTrustDelay - 10*time.Second)) {
		require.NoError(t, b.leaf(t).CheckSignatureFrom(old), "the CA issued before every API server can know it")
		b.clock.Step(5 * time.Second)
		b.steps(t)
	}
	for b.leaf(t).CheckSignatureFrom(next) != nil {
		b.clock.Step(12 * time.Hour)
		b.steps(t)
		b.requireTrusted(t)
		require.True(t, b.clock.Now().Before(old.NotAfter), "the new CA did not issue before the old one expired")
	}
	for b.clock.Now().Before(old.NotAfter) {
		require.Contains(t, b.bundle(t), old, "the old CA was dropped while it is valid")
		b.clock.Step(12 * time.Hour)
		b.steps(t)
		b.requireTrusted(t)
	}
	require.NotContains(t, b.bundle(t), old)
}

func TestSelfThatLostItsSecretKeepsServingAndTrustsBothCAs(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *bench){
		"deleted": func(t *testing.T, b *bench) {
			require.NoError(t, b.client.CoreV1().Secrets("ns").Delete(t.Context(), SelfSecret, metav1.DeleteOptions{}))
		},
		"emptied": func(t *testing.T, b *bench) {
			s := b.stored(t)
			s.Data = nil
			_, err := b.client.CoreV1().Secrets("ns").Update(t.Context(), s, metav1.UpdateOptions{})
			require.NoError(t, err)
		},
		"garbled": func(t *testing.T, b *bench) {
			s := b.stored(t)
			s.Data[caKeyKey], s.Data[corev1.TLSCertKey] = []byte("no"), []byte("no")
			_, err := b.client.CoreV1().Secrets("ns").Update(t.Context(), s, metav1.UpdateOptions{})
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.steps(t)
			b.load(b.stored(t))
			served := b.cert.Load().Leaf
			damage(t, b)
			if name != "deleted" {
				b.load(b.stored(t))
			}
			b.steps(t)
			b.load(b.stored(t))
			require.Equal(t, served, b.cert.Load().Leaf, "the leaf was replaced before every API server can know the new CA")
			require.Len(t, b.bundle(t), 2)
			require.NoError(t, verify(served, b.bundle(t), b.clock.Now()))
			b.clock.Step(maxTrustDelay)
			b.steps(t)
			b.load(b.stored(t))
			require.NotEqual(t, served, b.cert.Load().Leaf)
			b.requireTrusted(t)
			require.NoError(t, b.Ready())
		})
	}
}

func TestSelfRefusesASecretThatMirrorgateDidNotMake(t *testing.T) {
	b := newBench(t)
	theirs := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: SelfSecret},
		Data:       map[string][]byte{corev1.TLSCertKey: []byte("theirs")},
	}
	theirs, err := b.client.CoreV1().Secrets("ns").Create(t.Context(), theirs, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = b.step(t.Context())
	require.ErrorContains(t, err, "secret ns/mirrorgate-self-tls is not made by mirrorgate: it lacks the label app.kubernetes.io/managed-by=mirrorgate")
	require.Equal(t, theirs, b.stored(t))
	b.load(theirs)
	require.ErrorContains(t, b.Ready(), "is not made by mirrorgate")
	require.ErrorIs(t, b.Ready(), ErrNoCertificate)
}

func TestServerClockFollowsTheAPIServerAndNotJumpsOfTheLocalClock(t *testing.T) {
	local := testclock.NewFakeClock(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	server := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", server.Format(http.TimeFormat))
	}))
	defer backend.Close()
	clk := NewServerClock(local)
	client := &http.Client{Transport: clk.Wrap(http.DefaultTransport)}
	defer client.CloseIdleConnections()
	request := func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, backend.URL, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	assert.Equal(t, local.Now(), clk.Now(), "before the first answer the clock has the local time")
	request()
	assert.Equal(t, server, clk.Now())
	local.Step(time.Minute)
	assert.Equal(t, server.Add(time.Minute), clk.Now())
	local.SetTime(server.Add(-10000 * time.Hour))
	request()
	assert.Equal(t, server, clk.Now())
	local.SetTime(server.Add(3 * time.Second))
	request()
	assert.Equal(t, local.Now(), clk.Now(), "the header cannot show a difference this small")
}

func TestCertificateThatWasRefusedIsServedWhenTheClockIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.steps(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b.client.PrependWatchReactor("secrets", func(action clienttesting.Action) (bool, watch.Interface, error) {
			// The fake has no streaming lists.
			streaming := action.(clienttesting.WatchActionImpl).ListOptions.SendInitialEvents != nil
			return streaming, nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil)
		})
		right := b.clock.Now()
		b.clock.SetTime(right.Add(-48 * time.Hour))
		go func() { assert.NoError(t, b.Start(ctx)) }()
		time.Sleep(time.Second) //nolint:forbidigo // inside the bubble
		require.ErrorContains(t, b.Ready(), "not valid before")
		b.clock.SetTime(right)
		time.Sleep(resyncPeriod) //nolint:forbidigo // inside the bubble
		require.NoError(t, b.Ready())
	})
}

func TestLeadEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Lead(ctx) }()
	require.Eventually(t, func() bool {
		s, err := b.client.CoreV1().Secrets("ns").Get(t.Context(), SelfSecret, metav1.GetOptions{})
		return err == nil && len(s.Data) > 0
	}, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}
