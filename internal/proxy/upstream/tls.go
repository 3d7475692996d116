package upstream

// Connections that are secured with TLS: which certificates of an endpoint are accepted, and which version of HTTP it
// speaks.

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // the roots of the system where it has none, as in an image from scratch

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// ErrTLS is wrapped by errors of connections that cannot be secured. No byte of a request was sent.
var ErrTLS = errors.New("cannot secure the connection")

// tlsError is ErrConnect as well: another endpoint may be tried.
type tlsError struct{ error }

func (e tlsError) Unwrap() []error { return []error{ErrConnect, ErrTLS, e.error} }

// TLS secures the connections to the endpoints of a port.
type TLS struct {
	// key is the same for the same settings.
	key    string
	config *tls.Config
	// fault is why no connection can be secured.
	fault error
}

// NewTLS returns the TLS of valid settings, nil without any. It returns a given one if it has the same settings.
func NewTLS(s *spec.BackendTLS, known map[string]*TLS) *TLS {
	if s == nil {
		return nil
	}
	raw, _ := json.Marshal(s) // it cannot fail
	sum := sha256.Sum256([]byte(string(raw) + "\x00" + s.CA + "\x00" + s.Fault))
	t := &TLS{key: string(sum[:])}
	if same := known[t.key]; same != nil {
		return same
	}
	t.config = &tls.Config{ServerName: s.Hostname, MinVersion: tls.VersionTLS12}
	if t.config.RootCAs, t.fault = roots(s); t.fault == nil && len(s.SubjectAltNames) > 0 {
		t.config.InsecureSkipVerify = true // the name of the host must not count, so VerifyConnection does all
		t.config.VerifyConnection = verifier(t.config.RootCAs, s.SubjectAltNames)
	}
	if known != nil {
		known[t.key] = t
	}
	return t
}

// Key is the same for the same settings.
func (t *TLS) Key() string { return t.key }

// roots returns the authorities that are trusted.
func roots(s *spec.BackendTLS) (*x509.CertPool, error) {
	if s.Fault != "" {
		return nil, errors.New(s.Fault)
	}
	if s.WellKnownCACertificates != "" {
		return x509.SystemCertPool()
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s.CA)) {
		return nil, errors.New("there is no certificate of an authority to trust")
	}
	return pool, nil
}

// verifier returns a check that a chain leads to a root, and that its certificate has one of the names.
func verifier(roots *x509.CertPool, names []spec.SubjectAltName) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, c := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(c)
		}
		if _, err := leaf.Verify(options); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		for i := range names {
			if hasName(leaf, &names[i]) {
				return nil
			}
		}
		return &tls.CertificateVerificationError{
			UnverifiedCertificates: state.PeerCertificates, Err: errors.New("the certificate has none of the wanted subjectAltNames"),
		}
	}
}

// hasName reports whether a certificate has a name. A wildcard that is wanted stands for all names below it.
func hasName(leaf *x509.Certificate, name *spec.SubjectAltName) bool {
	if name.Type == "URI" {
		for _, uri := range leaf.URIs {
			if uri.String() == name.URI {
				return true
			}
		}
		return false
	}
	below, wild := strings.CutPrefix(name.Hostname, "*")
	if !wild {
		return leaf.VerifyHostname(name.Hostname) == nil
	}
	for _, dns := range leaf.DNSNames {
		if strings.HasSuffix(strings.ToLower(dns), strings.ToLower(below)) {
			return true
		}
	}
	return false
}

// The versions of HTTP as ALPN names them.
const (
	http1 = "http/1.1"
	http2 = "h2"
)

// secure makes a connection one of TLS, for a version of HTTP. chosen is the one that the endpoint chose by ALPN, empty
// if it chose none.
func (e *Endpoint) secure(ctx context.Context, plain net.Conn, version string) (conn net.Conn, chosen string, err error) {
	config := e.tls.config.Clone()
	config.NextProtos = []string{version}
	ctx, cancel := context.WithTimeout(ctx, e.pool.Timeout)
	defer cancel()
	secured := tls.Client(plain, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, "", err
	}
	return secured, secured.ConnectionState().NegotiatedProtocol, nil
}

// dialTLS opens a connection for a version of HTTP.
func (e *Endpoint) dialTLS(ctx context.Context, version string) (conn net.Conn, chosen string, err error) {
	if e.tls.fault != nil {
		return nil, "", e.unsecured(e.tls.fault)
	}
	plain, err := e.dial(ctx)
	if err != nil {
		return nil, "", err
	}
	conn, chosen, err = e.secure(ctx, plain, version)
	if err != nil && !refusesVersion(err) {
		return nil, "", e.unsecured(err)
	}
	return conn, chosen, err
}

// unsecured notes and reports an error of a handshake.
func (e *Endpoint) unsecured(err error) error {
	e.failed.Store(time.Now().UnixNano())
	if e.pool.Unsecured != nil {
		e.pool.Unsecured(e.Address, err)
	}
	return tlsError{err}
}

// noApplicationProtocol is the alert of a server that speaks none of the versions (RFC 7301 section 3.2).
const noApplicationProtocol = tls.AlertError(120)

// refusesVersion reports whether the endpoint refused a handshake for the version of HTTP alone.
func refusesVersion(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() == noApplicationProtocol.Error()
}

// IsTLSAlert reports whether an error is an alert of TLS, by which a peer ends a connection also after the handshake:
// for lack of a client's certificate, for example.
func IsTLSAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// versions is which versions of HTTP an endpoint is known to speak over TLS.
type versions struct{ http1, http2 atomic.Int32 }

// forget makes the endpoint be asked again: another server may have its address now.
func (v *versions) forget() {
	v.http1.Store(0)
	v.http2.Store(0)
}

const (
	speaks       = 1
	doesNotSpeak = -1
)

// H2 reports whether a request goes over HTTP/2 to an endpoint that may speak either version: over the preferred one if
// the endpoint speaks it. Over TLS it asks the endpoint, by ALPN, in a handshake of its own if it was not asked before.
func (e *Endpoint) H2(ctx context.Context, preferred bool) (bool, error) {
	if e.tls == nil {
		return preferred, nil
	}
	known, version := &e.versions.http1, http1
	if preferred {
		known, version = &e.versions.http2, http2
	}
	if known.Load() == 0 {
		conn, chosen, err := e.dialTLS(ctx, version)
		if err != nil && !refusesVersion(err) {
			return false, err
		}
		if conn != nil {
			_ = conn.Close()
		}
		switch {
		case chosen == version:
			known.Store(speaks)
		case preferred: // HTTP/2 needs ALPN (RFC 9113 section 3.2)
			known.Store(doesNotSpeak)
		default:
			// A server without ALPN speaks HTTP/1.1, but some choose nothing for HTTP/1.1 although they speak HTTP/2 alone.
			other, err := e.H2(ctx, true)
			if err != nil {
				return false, err
			}
			known.Store(speaks)
			if other {
				known.Store(doesNotSpeak)
			}
		}
	}
	return preferred == (known.Load() == speaks), nil
}
