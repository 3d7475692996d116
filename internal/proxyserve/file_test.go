package proxyserve

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
)

// TestProxyDrain ends a proxy while a request is under way: in time it is answered, out of time it is
// aborted, and the error tells the two apart.
func TestProxyDrain(t *testing.T) {
	for name, test := range map[string]struct {
		timeout time.Duration
		want    error
	}{"ends": {time.Minute, nil}, "is aborted": {50 * time.Millisecond, ErrAborted}} {
		t.Run(name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				arrived <- struct{}{}
				<-release
				fmt.Fprint(w, "late")
			}))
			defer backend.Close()
			address := freeAddress(t)
			file := filepath.Join(t.TempDir(), "proxy.yaml")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
listeners: [{address: %q, rules: [{backendRefs: [{name: v1, port: 80}]}]}]
services: {v1: {80: [%q]}}`, address, backend.Listener.Addr()), 0o600))

			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- serveFile(ctx, file, test.timeout) }()
			answer := make(chan string)
			go func() { answer <- ask(t.Context(), address) }()
			<-arrived
			cancel()
			if test.want == nil {
				close(release)
				assert.Equal(t, "late", <-answer)
				assert.NoError(t, <-ended)
			} else {
				require.ErrorIs(t, <-ended, test.want)
				close(release)
				assert.NotEqual(t, "late", <-answer)
			}
		})
	}
}

// TestProxyPassesThrough reads a listener without rules from a file, and then one with rules of another name
// at its address: the connection that is open stays, new ones go by the rules.
func TestProxyPassesThrough(t *testing.T) {
	address, web, db := freeAddress(t), webserver(t, "v1"), greeter(t)
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	write := func(listener string) {
		require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "listeners: [{address: %q, %s}]\nservices: {web: {80: [%q]}, db: {5432: [%q]}}\n", address, listener, web, db), 0o600))
	}
	write("name: db, tcp: {name: db, port: 5432}")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serveFile(ctx, file, time.Minute) }()
	var conn net.Conn
	require.Eventually(t, func() (is bool) {
		var err error
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
	in := bufio.NewReader(conn)
	expect := func(want string) {
		t.Helper()
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, line)
	}
	expect("db\n")
	write("name: web, rules: [{backendRefs: [{name: web, port: 80}]}]")
	require.Eventually(t, func() bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		require.NoError(t, err)
		defer conn.Close()
		fmt.Fprint(conn, "GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		return err == nil && line == "HTTP/1.1 200 OK\r\n"
	}, 20*time.Second, 5*time.Millisecond)
	fmt.Fprintln(conn, "still")
	expect("still\n")
	require.NoError(t, conn.Close())
	cancel()
	assert.NoError(t, <-ended)
}

// serveFile serves a file until ctx ends.
func serveFile(ctx context.Context, file string, drainTimeout time.Duration) error {
	opts := &Options{Config: file, DrainTimeout: drainTimeout, Log: errorsOnly}
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	return File(ctx, opts, c)
}

var errorsOnly = cli.Log{Level: "error", Format: "text"}

func freeAddress(t *testing.T) string {
	address, err := freeport.Address()
	require.NoError(t, err)
	return address.String()
}

// TestProxyCertificate renews a certificate while the proxy runs: new connections get it, without a restart
// and whatever protocol they speak, and open ones stay.
func TestProxyCertificate(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	defer backend.Close()
	dir, address := t.TempDir(), freeAddress(t)
	file := filepath.Join(dir, "proxy.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
listeners: [{address: %q, tls: {certFile: tls.crt, keyFile: tls.key}, rules: [{backendRefs: [{name: v1, port: 80}]}]}]
services: {v1: {80: [%q]}}`, address, backend.Listener.Addr()), 0o600))
	writeCertificate(t, dir, 1)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serveFile(ctx, file, time.Minute) }()
	open := secureClient("h2")
	assert.Eventually(t, func() bool { return serves(ctx, open, address) == "HTTP/2.0 1" }, 20*time.Second, 10*time.Millisecond)
	writeCertificate(t, dir, 2)
	for protocol, want := range map[string]string{"h2": "HTTP/2.0 2", "http/1.1": "HTTP/1.1 2"} {
		assert.Eventually(t, func() bool {
			client := secureClient(protocol)
			defer client.CloseIdleConnections()
			return serves(ctx, client, address) == want
		}, 20*time.Second, 10*time.Millisecond, protocol)
	}
	assert.Equal(t, "HTTP/2.0 1", serves(ctx, open, address))
	open.CloseIdleConnections()
	cancel()
	assert.NoError(t, <-ended)
}

// TestProxyResumesSessions connects twice: the second handshake resumes the session of the first one.
func TestProxyResumesSessions(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	file := filepath.Join(dir, "proxy.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
listeners: [{address: %q, tls: {certFile: tls.crt, keyFile: tls.key}, rules: [{backendRefs: [{name: v1, port: 80}]}]}]
services: {v1: {80: [%q]}}`, address, webserver(t, "v1")), 0o600))
	writeCertificate(t, dir, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serveFile(ctx, file, time.Minute) }()

	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)} // the certificate is the test's
		resumed := func() (bool, error) {
			conn, err := (&tls.Dialer{Config: client}).DialContext(ctx, "tcp", address)
			if err != nil {
				return false, err
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
				return false, err
			}
			_, err = io.ReadAll(conn) // the ticket comes with the answer
			return conn.(*tls.Conn).ConnectionState().DidResume, err
		}
		var first bool
		require.Eventually(t, func() (ok bool) {
			var err error
			first, err = resumed()
			return err == nil
		}, 20*time.Second, 10*time.Millisecond)
		assert.False(t, first)
		again, err := resumed()
		require.NoError(t, err)
		assert.True(t, again, "TLS %x", version)
	}
	cancel()
	assert.NoError(t, <-ended)
}

func secureClient(protocol string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}},
		ForceAttemptHTTP2: protocol == "h2",
	}}
}

// serves returns the protocol of an answer, and the serial number of the certificate.
func serves(ctx context.Context, client *http.Client, address string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address, http.NoBody)
	if err != nil {
		return err.Error()
	}
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err.Error()
	}
	return fmt.Sprint(response.Proto, " ", response.TLS.PeerCertificates[0].SerialNumber)
}

func writeCertificate(t *testing.T, dir string, serial int64) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: cert}, "tls.key": {Type: "PRIVATE KEY", Bytes: der},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
}

// ask waits for a listener, and returns its answer or the error.
func ask(ctx context.Context, address string) string {
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if ctx.Err() != nil {
			return err.Error()
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, http.NoBody)
	if err != nil {
		return err.Error()
	}
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fmt.Sprint(string(body), errText(err))
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
