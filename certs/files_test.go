package certs

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"
)

// pair returns a certificate for hook.example and its key, in PEM.
func pair(t *testing.T, now time.Time, life time.Duration) (crt, key string) {
	t.Helper()
	ca, err := newAuthority(now, 10*life)
	require.NoError(t, err)
	leaf, err := ca.issue(now, life, []string{"hook.example"})
	require.NoError(t, err)
	text, err := encodeKey(leaf.PrivateKey)
	require.NoError(t, err)
	return string(encodeCert(leaf.Leaf)), string(text)
}

func write(t *testing.T, dir, crt, key string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), []byte(crt), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), []byte(key), 0o600))
}

func TestFilesReportTheirFaults(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	crt, key := pair(t, now, time.Hour)
	_, other := pair(t, now, time.Hour)
	garbage := "-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n"
	for name, c := range map[string]struct {
		crt, key string
		now      time.Time
		host     string
		want     []string
	}{
		"not PEM":       {"hello", "world", now, "", []string{"tls.crt: no PEM block of type CERTIFICATE in 5 bytes", "tls.key: no PEM block of type PRIVATE KEY in 5 bytes"}},
		"swapped":       {key, crt, now, "", []string{"tls.crt: no PEM block of type CERTIFICATE", "tls.key: no PEM block of type PRIVATE KEY"}},
		"no ASN.1":      {garbage, key, now, "", []string{"tls.crt: certificate 1: "}},
		"another's key": {crt, other, now, "", []string{"tls.key does not belong to tls.crt"}},
		"expired":       {crt, key, now.Add(2 * time.Hour), "", []string{"expired at 2026-08-01T13:00:00Z, it is now 2026-08-01T14:00:00Z"}},
		"not valid yet": {crt, key, now.Add(-2 * time.Hour), "", []string{"not valid before 2026-08-01T11:00:00Z, it is now 2026-08-01T10:00:00Z"}},
		"another name": {crt, key, now.Add(2 * time.Hour), "other.example",
			[]string{"is for hook.example, not for other.example, which the API server calls", "expired at"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, c.crt, c.key)
			var names []string
			if c.host != "" {
				names = append(names, c.host)
			}
			_, err := Files(testclock.NewFakeClock(c.now), nil, dir, names...)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.ErrorContains(t, err, dir)
		})
	}
	_, err := Files(testclock.NewFakeClock(now), nil, filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "none/tls.crt: no such file")
}

func TestFilesFollowChangesAndKeepTheLastGoodCertificate(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	crt, key := pair(t, now, time.Hour)
	write(t, dir, crt, key)
	clk := testclock.NewFakeClock(now)
	metrics := NewMetrics(prometheus.NewRegistry())
	source, err := Files(clk, metrics, dir, "hook.example")
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- source.Start(t.Context()) }()
	t.Cleanup(func() { require.NoError(t, <-done) })
	leaf := func() *x509.Certificate {
		cert, err := source.GetCertificate(nil)
		require.NoError(t, err)
		return cert.Leaf
	}
	first := leaf()
	assert.InDelta(t, first.NotAfter.Unix(), testutil.ToFloat64(metrics.expiry), 0)

	crt, key = pair(t, now.Add(-3*time.Hour), time.Hour)
	write(t, dir, crt, key)
	require.Eventually(t, func() bool { return testutil.ToFloat64(metrics.errors) > 0 }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, first, leaf(), "an expired certificate replaced a good one")
	require.Zero(t, testutil.ToFloat64(metrics.renewals))

	// The time was wrong, not the certificate, which is therefore checked again.
	refused := testutil.ToFloat64(metrics.errors)
	crt, key = pair(t, now.Add(2*time.Hour), 90*time.Minute)
	write(t, dir, crt, key)
	require.Eventually(t, func() bool { return testutil.ToFloat64(metrics.errors) > refused+1 }, 30*time.Second, 10*time.Millisecond)
	clk.Step(2 * time.Hour)
	require.Eventually(t, func() bool { return !leaf().Equal(first) }, 30*time.Second, 10*time.Millisecond)
	require.InDelta(t, 1, testutil.ToFloat64(metrics.renewals), 0)
	require.NoError(t, source.Ready())
	clk.Step(3 * time.Hour)
	require.ErrorContains(t, source.Ready(), "expired")
}
