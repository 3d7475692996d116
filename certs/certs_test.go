package certs_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mirrorgate/mirrorgate/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryServesALeafThatItsBundleTrusts(t *testing.T) {
	m, err := certs.NewMemory(clock.RealClock{}, nil, "127.0.0.1", "laptop.example")
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(m.CABundle()))
	cert, err := m.GetCertificate(nil)
	require.NoError(t, err)
	for _, host := range []string{"127.0.0.1", "laptop.example"} {
		_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
		require.NoError(t, err)
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "other.example"})
	require.Error(t, err)
	require.NoError(t, m.Ready())
}

func TestMemoryRenewsAtTwoThirdsOfTheLeafsLife(t *testing.T) {
	clk := testclock.NewFakeClock(time.Now())
	m, err := certs.NewMemory(clk, nil, "127.0.0.1")
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- m.Start(t.Context()) }()
	serial := func() string {
		cert, err := m.GetCertificate(nil)
		require.NoError(t, err)
		return cert.Leaf.SerialNumber.String()
	}
	first := serial()
	require.Eventually(t, clk.HasWaiters, 5*time.Second, time.Millisecond)
	clk.Step(14 * time.Hour)
	require.Never(t, func() bool { return serial() != first }, 50*time.Millisecond, time.Millisecond)
	clk.Step(2 * time.Hour)
	require.Eventually(t, func() bool { return serial() != first }, 5*time.Second, time.Millisecond)
	clk.Step(48 * time.Hour)
	require.Eventually(t, func() bool { return m.Ready() == nil }, 5*time.Second, time.Millisecond, "a timer that fires late does not keep the leaf from being renewed")
	t.Cleanup(func() { require.NoError(t, <-done) })
}

func TestMemoryReportsThatItsLeafExpired(t *testing.T) {
	clk := testclock.NewFakeClock(time.Now())
	m, err := certs.NewMemory(clk, nil, "127.0.0.1")
	require.NoError(t, err)
	clk.Step(25 * time.Hour)
	require.ErrorContains(t, m.Ready(), "expired")
}
