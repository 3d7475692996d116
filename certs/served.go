package certs

import (
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics tell how long the served certificate is good for.
type Metrics struct {
	expiry           prometheus.Gauge
	renewals, errors prometheus.Counter
}

// NewMetrics registers the metrics of a source.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mirrorgate_certificate_expiry_timestamp_seconds",
			Help: "When the served certificate expires, in seconds since 1970; 0 while there is none.",
		}),
		renewals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mirrorgate_certificate_renewals_total",
			Help: "How often this process began to serve another certificate.",
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mirrorgate_certificate_errors_total",
			Help: "Failed attempts to read, make or renew the certificate, each logged.",
		}),
	}
	registry.MustRegister(m.expiry, m.renewals, m.errors)
	return m
}

// served is the certificate that connections get, from memory.
type served struct {
	// names are those that the API server may call.
	names   []string
	now     func() time.Time
	metrics *Metrics // nil for none
	cert    atomic.Pointer[tls.Certificate]
}

// set serves a certificate and tells whether it is another than before.
func (s *served) set(cert *tls.Certificate) bool {
	old := s.cert.Swap(cert)
	another := old == nil || !old.Leaf.Equal(cert.Leaf)
	if s.metrics != nil {
		s.metrics.expiry.Set(float64(cert.Leaf.NotAfter.Unix()))
		if another && old != nil {
			s.metrics.renewals.Inc()
		}
	}
	return another
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
