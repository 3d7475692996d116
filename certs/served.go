package certs

// The part that all sources share: the certificate in memory, and its metrics.

import (
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the metrics of a source: when the served certificate expires, its renewals and failures.
type Metrics struct {
	expiry           prometheus.Gauge
	renewals, errors prometheus.Counter
}

// NewMetrics registers the metrics of a source.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	factory := promauto.With(registry)
	return &Metrics{
		expiry: factory.NewGauge(prometheus.GaugeOpts{
			Name: "mirrorgate_certificate_expiry_timestamp_seconds",
			Help: "When the served certificate expires, in seconds since 1970; 0 while there is none.",
		}),
		renewals: factory.NewCounter(prometheus.CounterOpts{
			Name: "mirrorgate_certificate_renewals_total",
			Help: "How often this process began to serve another certificate.",
		}),
		errors: factory.NewCounter(prometheus.CounterOpts{
			Name: "mirrorgate_certificate_errors_total",
			Help: "Failed attempts to read, make or renew the certificate.",
		}),
	}
}

// served serves a certificate from memory.
type served struct {
	// names are the host names and IP addresses that the API server may call.
	names   []string
	now     func() time.Time
	metrics *Metrics // nil for none
	cert    atomic.Pointer[tls.Certificate]
}

// set serves a certificate and reports whether it differs from the one before.
func (s *served) set(cert *tls.Certificate) bool {
	old := s.cert.Swap(cert)
	changed := old == nil || !old.Leaf.Equal(cert.Leaf)
	if s.metrics != nil {
		s.metrics.expiry.Set(float64(cert.Leaf.NotAfter.Unix()))
		if changed && old != nil {
			s.metrics.renewals.Inc()
		}
	}
	return changed
}

func (s *served) failed() {
	if s.metrics != nil {
		s.metrics.errors.Inc()
	}
}

// GetCertificate implements Source.
func (s *served) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := s.cert.Load(); cert != nil {
		return cert, nil
	}
	return nil, ErrNoCertificate
}

// Ready implements Source.
func (s *served) Ready() error {
	cert := s.cert.Load()
	if cert == nil {
		return ErrNoCertificate
	}
	return usable(cert.Leaf, s.now(), s.names)
}
