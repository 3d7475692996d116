package proxyserve

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/feed/feedtest"
)

// shown is the certificate that writeCertificate has written to a folder.
func shown(t *testing.T, folder string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, "tls.crt"))
	require.NoError(t, err)
	block, _ := pem.Decode(raw)
	return block.Bytes
}

// The port of a Service that speaks TLS: the proxy terminates it with a certificate that may change, serves routes over
// either version of HTTP, and goes on over TLS to a backend that a policy verifies by a ConfigMap that may change, too.
// Each connection begins with a header of PROXY protocol.
func TestServiceTerminatesTLS(t *testing.T) {
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	backend.EnableHTTP2, backend.TLS = true, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	backend.Config.ErrorLog = log.New(io.Discard, "", 0)
	backend.StartTLS()
	t.Cleanup(backend.Close)
	api := feedtest.New(t)
	api.Serve(httpRoutes, "HTTPRoute")
	api.Serve("/apis/gateway.networking.k8s.io/v1/backendtlspolicies", "BackendTLSPolicy")
	api.Serve("/api/v1/configmaps", "ConfigMap")
	address, folder := freeAddress(t), t.TempDir()
	for _, service := range []struct{ name, app string }{{"httpbin", "mirrorgate-httpbin"}, {"httpbin-mirrorgate-origin", "x"}} {
		api.Put(t, fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": %q}, "spec": {"selector": {"app": %q},
			"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443, "targetPort": %d, "appProtocol": "https"}]}}`, service.name, service.app, port(t, address)))
	}
	api.Put(t, fmt.Appendf(nil, `{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata": {"namespace": "shop", "name": "a", "labels": {"kubernetes.io/service-name": "httpbin-mirrorgate-origin"}},
		"ports": [{"name": "https", "port": %d, "protocol": "TCP"}], "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]}`, port(t, backend.Listener.Addr().String())))
	api.Put(t, []byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "shop", "name": "httpbin", "generation": 1},
		"spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "httpbin", "port": 443}], "rules": [{"backendRefs": [{"name": "httpbin", "port": 443}]}]}}`))
	api.Put(t, []byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": {"namespace": "shop", "name": "p", "generation": 1},
		"spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "httpbin"}], "validation": {"hostname": "example.com", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}}}`))
	trust := func(certificate []byte) {
		api.Put(t, fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "ca"}, "data": {"ca.crt": %q}}`,
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
	}
	writeCertificate(t, folder, 1)
	first := shown(t, folder)
	trust(first) // not the backend's
	startService(t, api, &Options{Certificates: []string{"443=" + folder}, ProxyProtocol: "in"})

	asked := func(versions ...string) (status int, body string, leaf []byte) {
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: true,
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
				if err != nil {
					return nil, err
				}
				header := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x01\x02\x03\x0a\x00\x00\x01\x30\x39\x01\xbb"
				if _, err := io.WriteString(conn, header); err != nil {
					return nil, err
				}
				secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: versions})
				return secured, secured.HandshakeContext(ctx)
			}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://httpbin/", http.NoBody)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", nil
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(raw), resp.TLS.PeerCertificates[0].Raw
	}
	eventually(t, func() bool { status, _, _ := asked("http/1.1"); return status == 502 }, "the backend is not trusted")
	trust(backend.Certificate().Raw)
	eventually(t, func() bool { status, _, _ := asked("http/1.1"); return status == 200 }, "the backend is trusted")
	for _, version := range [][2]string{{"http/1.1", "HTTP/1.1"}, {"h2", "HTTP/2.0"}} {
		status, body, leaf := asked(version[0])
		assert.Equal(t, 200, status)
		assert.Equal(t, version[1], body)
		assert.Equal(t, first, leaf)
	}
	writeCertificate(t, folder, 2)
	eventually(t, func() bool { _, _, leaf := asked("h2"); return bytes.Equal(leaf, shown(t, folder)) }, "the new certificate is shown")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.Error(t, tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context()), "a connection without the header is closed")
}

func eventually(t *testing.T, condition func() bool, message string) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 5*time.Millisecond, message)
}
