package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return &authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))}
}

// issue returns a certificate for names of hosts, and URIs, that ends at the given time.
func (a *authority) issue(t *testing.T, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	for _, name := range names {
		if strings.Contains(name, ":") {
			uri, err := url.Parse(name)
			require.NoError(t, err)
			template.URIs = append(template.URIs, uri)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// secureBackend is a backend that speaks TLS with these settings, and knows how its clients began.
type secureBackend struct {
	addr  string
	hello atomic.Pointer[tls.ClientHelloInfo]
	conns atomic.Int32
	plain atomic.Int32 // connections that did not begin with a record of TLS
}

func serveTLS(t *testing.T, config *tls.Config, handler http.HandlerFunc) *secureBackend {
	t.Helper()
	b := &secureBackend{}
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetHTTP2(true)
	s.EnableHTTP2 = true
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		b.hello.Store(hello)
		return nil, nil
	}
	inner := s.Listener
	offered := config.NextProtos
	s.TLS = config
	s.Listener = &firstByte{inner, b}
	s.StartTLS()
	s.TLS.NextProtos = offered
	t.Cleanup(s.Close)
	b.addr = inner.Addr().String()
	return b
}

// firstByte looks at the first byte of each connection.
type firstByte struct {
	net.Listener
	backend *secureBackend
}

func (l *firstByte) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.backend.conns.Add(1)
	return &looked{Conn: conn, backend: l.backend}, nil
}

type looked struct {
	net.Conn
	backend *secureBackend
	begun   bool
}

func (c *looked) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.begun && p[0] != 0x16 {
		c.backend.plain.Add(1)
	}
	c.begun = c.begun || n > 0
	return n, err
}

// secured returns the table of one with TLS to all its services.
func secured(table *spec.Table, protocol string, settings *spec.BackendTLS) *spec.Table {
	for name, service := range table.Services {
		port := service[80]
		port.Protocol, port.TLS = protocol, settings
		table.Services[name] = spec.Service{80: port}
	}
	return table
}

// get returns the status of the answer to a GET, and the reason of an answer of the proxy itself.
func get(t *testing.T, s *site) (status int, reason string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/", http.NoBody)
	require.NoError(t, err)
	resp, err := client(t).Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, resp.Header.Get("x-mirrorgate-reason")
}

func hostname(name string) spec.SubjectAltName {
	return spec.SubjectAltName{Type: "Hostname", Hostname: name}
}

// A backend whose certificate is not accepted gets no request, neither over TLS nor in plain text, and no copy.
func TestCertificatesOfBackends(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	valid := time.Now().Add(time.Hour)
	const id = "spiffe://cluster.local/ns/shop/sa/web"
	for name, test := range map[string]struct {
		certificate tls.Certificate
		settings    spec.BackendTLS
		says        string // empty if it is accepted
	}{
		"valid":             {ca.issue(t, valid, "web.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}, ""},
		"wrong authority":   {other.issue(t, valid, "web.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}, "unknown authority"},
		"of the system":     {ca.issue(t, valid, "web.shop"), spec.BackendTLS{WellKnownCACertificates: "System", Hostname: "web.shop"}, "unknown authority"},
		"wrong name":        {ca.issue(t, valid, "db.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}, "valid for db.shop"},
		"expired":           {ca.issue(t, time.Now().Add(-time.Minute), "web.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}, "expired"},
		"two authorities":   {other.issue(t, valid, "web.shop"), spec.BackendTLS{CA: ca.pem + other.pem, Hostname: "web.shop"}, ""},
		"no authority":      {ca.issue(t, valid, "web.shop"), spec.BackendTLS{Fault: "there is no ConfigMap ca", Hostname: "web.shop"}, "there is no ConfigMap ca"},
		"SAN":               {ca.issue(t, valid, "db.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop", SubjectAltNames: []spec.SubjectAltName{hostname("x"), hostname("db.shop")}}, ""},
		"URI":               {ca.issue(t, valid, id), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop", SubjectAltNames: []spec.SubjectAltName{{Type: "URI", URI: id}}}, ""},
		"wildcard":          {ca.issue(t, valid, "a.b.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop", SubjectAltNames: []spec.SubjectAltName{hostname("*.shop")}}, ""},
		"no SAN":            {ca.issue(t, valid, "web.shop", id+"2"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop", SubjectAltNames: []spec.SubjectAltName{hostname("db.shop"), {Type: "URI", URI: id}}}, "none of the wanted"},
		"SAN, expired":      {ca.issue(t, time.Now().Add(-time.Minute), "db.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop", SubjectAltNames: []spec.SubjectAltName{hostname("db.shop")}}, "expired"},
		"SAN, no authority": {other.issue(t, valid, "db.shop"), spec.BackendTLS{CA: ca.pem, Hostname: "web.shop", SubjectAltNames: []spec.SubjectAltName{hostname("db.shop")}}, "unknown authority"},
	} {
		for _, protocol := range []string{"http", "h2c", "auto"} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				var served atomic.Int32
				handler := func(http.ResponseWriter, *http.Request) { served.Add(1) }
				config := func() *tls.Config {
					return &tls.Config{Certificates: []tls.Certificate{test.certificate}, NextProtos: []string{"h2", "http/1.1"}}
				}
				primary, variant := serveTLS(t, config(), handler), serveTLS(t, config(), handler)
				var logged atomic.Value
				s := start(t, secured(one(primary.addr, variant.addr), protocol, &test.settings), &proxy.Options{Log: func(err error, message string, _ ...any) {
					if err != nil {
						logged.Store(message + ": " + err.Error())
					}
				}})
				status, reason := get(t, s)
				if test.says == "" {
					assert.Equal(t, 200, status)
					eventually(t, func() bool { return served.Load() == 2 }, "primary and variant have it")
					assert.Equal(t, "web.shop", primary.hello.Load().ServerName)
				} else {
					assert.Equal(t, 502, status)
					assert.Equal(t, "tls", reason)
					eventually(t, func() bool { return s.counter(t, "requests_total", "code", "502", "reason", "tls") == 1 }, "it is counted")
					assert.Contains(t, logged.Load(), "cannot be secured")
					assert.Contains(t, logged.Load(), test.says)
					assert.Zero(t, served.Load())
				}
				assert.Zero(t, primary.plain.Load()+variant.plain.Load())
			})
		}
	}
}

// A variant that is not trusted gets no copy, which is counted, and its primary does not notice.
func TestCopiesToAVariantThatIsNotTrusted(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	variant := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{other.issue(t, time.Now().Add(time.Hour), "web.shop")}}, func(http.ResponseWriter, *http.Request) {
		t.Error("the variant got a copy")
	})
	table := one(serve(t, func(http.ResponseWriter, *http.Request) {}), variant.addr)
	port := table.Services["variant0"][80]
	port.Protocol, port.TLS = "auto", &spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}
	table.Services["variant0"][80] = port
	s := start(t, table, nil)
	status, _ := ask(t, client(t), "POST", "http://"+s.addr+"/", "x")
	assert.Equal(t, 200, status)
	eventually(t, func() bool { return s.counter(t, "shadows_dropped_total", "reason", "tls") == 1 }, "the copy is counted")
	assert.Zero(t, variant.plain.Load())
}

// The version of HTTP is the client's where the backend speaks it, else the backend's.
func TestVersionsOfBackendsWithTLS(t *testing.T) {
	ca := newAuthority(t)
	certificates := []tls.Certificate{ca.issue(t, time.Now().Add(time.Hour), "web.shop")}
	for _, test := range []struct {
		offers       []string
		http1, http2 string // the version at the backend for a client of HTTP/1.1 and HTTP/2
	}{
		{[]string{"h2", "http/1.1"}, "HTTP/1.1", "HTTP/2.0"},
		{[]string{"http/1.1"}, "HTTP/1.1", "HTTP/1.1"},
		{[]string{"h2"}, "HTTP/2.0", "HTTP/2.0"},
		{nil, "HTTP/1.1", "HTTP/1.1"},
	} {
		t.Run(fmt.Sprint(test.offers), func(t *testing.T) {
			copies := make(chan string, 10)
			handler := func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(r.Host, "-shadow") {
					copies <- r.Proto + " " + string(body)
				}
				_, _ = io.WriteString(w, r.Proto+" "+string(body))
			}
			primary := serveTLS(t, &tls.Config{Certificates: certificates, NextProtos: test.offers}, handler)
			variant := serveTLS(t, &tls.Config{Certificates: certificates, NextProtos: test.offers}, handler)
			s := start(t, secured(one(primary.addr, variant.addr), "auto", &spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}), nil)
			body := strings.Repeat("0123456789", 10_000)
			for i := range 3 {
				status, answer := ask(t, client(t), "POST", "http://"+s.addr+"/", body)
				assert.Equal(t, 200, status)
				assert.Equal(t, test.http1+" "+body, answer, i)
				assert.Equal(t, test.http1+" "+body, <-copies, i)
				status, answer = ask(t, h2cClient(t), "POST", "http://"+s.addr+"/", body)
				assert.Equal(t, 200, status)
				assert.Equal(t, test.http2+" "+body, answer, i)
				assert.Equal(t, test.http2+" "+body, <-copies, i)
			}
		})
	}
}

func h2cClient(t *testing.T) *http.Client {
	t.Helper()
	c := client(t)
	transport := c.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return c
}

// A connection that its backend has closed is not used again: a POST would be lost.
func TestIdleConnectionsWithTLS(t *testing.T) {
	ca := newAuthority(t)
	var served, conns atomic.Int32
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, time.Now().Add(time.Hour), "web.shop")}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	closed := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() { // answers one request and closes without notice
				defer func() { _ = conn.Close(); closed <- struct{}{} }()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				served.Add(1)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}()
		}
	}()
	s := start(t, secured(one(l.Addr().String()), "http", &spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}), nil)
	c := client(t)
	for range 20 {
		status, _ := ask(t, c, "POST", "http://"+s.addr+"/", "x")
		require.Equal(t, 200, status)
		<-closed
	}
	assert.EqualValues(t, 20, served.Load())
	assert.EqualValues(t, 20, conns.Load())
}

// Requests that follow each other share a connection.
func TestConnectionsWithTLSAreUsedAgain(t *testing.T) {
	ca := newAuthority(t)
	backend := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, time.Now().Add(time.Hour), "web.shop")}}, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	s := start(t, secured(one(backend.addr), "http", &spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}), nil)
	c := client(t)
	for range 20 {
		status, _ := ask(t, c, "POST", "http://"+s.addr+"/", "x")
		assert.Equal(t, 200, status)
	}
	assert.EqualValues(t, 1, backend.conns.Load())
}

// A backend that wants a certificate of its client says so after the handshake.
func TestBackendThatWantsACertificate(t *testing.T) {
	ca := newAuthority(t)
	backend := serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, time.Now().Add(time.Hour), "web.shop")}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"http/1.1"},
	}, func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") })
	s := start(t, secured(one(backend.addr), "http", &spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}), nil)
	status, reason := get(t, s)
	assert.Equal(t, 502, status)
	assert.Equal(t, "tls", reason)
}

// An authority that is trusted no more counts for no further request, also on connections that it has verified.
func TestRotationOfTheAuthorities(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	var current atomic.Pointer[tls.Certificate]
	use := func(a *authority) {
		certificate := a.issue(t, time.Now().Add(time.Hour), "web.shop")
		current.Store(&certificate)
	}
	use(before)
	for _, protocol := range []string{"http", "h2c"} {
		use(before)
		backend := serveTLS(t, &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }, NextProtos: []string{"h2", "http/1.1"},
		}, func(http.ResponseWriter, *http.Request) {})
		table := func(ca string) *spec.Table {
			out := secured(one(backend.addr), protocol, &spec.BackendTLS{CA: ca, Hostname: "web.shop"})
			out.Listeners[0].Name, out.Listeners[0].Address = "main", "127.0.0.1:0"
			return out
		}
		s := start(t, table(before.pem), nil)
		c := client(t)
		for _, step := range []struct {
			trusted string
			status  int
		}{{before.pem, 200}, {after.pem, 502}, {before.pem + after.pem, 200}} {
			require.NoError(t, s.Apply(setup(t, table(step.trusted))))
			status, _ := ask(t, c, "GET", "http://"+s.addr+"/", "")
			assert.Equal(t, step.status, status, protocol)
		}
		use(after)
		require.NoError(t, s.Apply(setup(t, table(after.pem))))
		status, _ := ask(t, c, "GET", "http://"+s.addr+"/", "")
		assert.Equal(t, 200, status, protocol)
	}
}

// A connection that changes its protocol does so behind TLS, too.
func TestUpgradeBehindTLS(t *testing.T) {
	ca := newAuthority(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, time.Now().Add(time.Hour), "web.shop")}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				_, _ = io.Copy(conn, in)
			}()
		}
	}()
	s := start(t, secured(one(l.Addr().String()), "auto", &spec.BackendTLS{CA: ca.pem, Hostname: "web.shop"}), nil)
	back := talk(t, s.addr, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
	assert.Contains(t, back, " 101 ")
	assert.True(t, strings.HasSuffix(back, "\r\n\r\nhello"), back)
}
