package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// withHeader sets proxyProtocol at the only listener of a site.
func withHeader(t *testing.T, table *spec.Table, in, out bool) *site {
	t.Helper()
	s := start(t, table, nil)
	next := setup(t, table)
	next.Listeners[0].ProxyProtocol, next.Listeners[0].SendProxyProtocol = in, out
	require.NoError(t, s.Apply(next))
	return s
}

// The client's address is that of the header, for HTTP/1.1 as for HTTP/2, and bytes right behind the header are no part
// of it.
func TestProxyProtocolTellsTheClient(t *testing.T) {
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	})
	table := one(backend)
	table.Listeners[0].Forwarded = &spec.Forwarded{}
	s := withHeader(t, table, true, false)
	v4 := signature + "\x21\x11\x00\x0c" + "\x01\x02\x03\x04" + "\x7f\x00\x00\x01" + "\x10\x00" + "\x00\x50"
	v6 := signature + "\x21\x21\x00\x27" + "\xfd" + strings.Repeat("\x00", 14) + "\x07" + strings.Repeat("\x00", 15) + "\x01" + "\x10\x00" + "\x00\x50" + "\x04\x00\x00" // and an extension
	for header, want := range map[string]string{
		v4: "1.2.3.4", v6: "fd00::7",
		signature + "\x20\x00\x00\x00":             "127.0.0.1", // the balancer's own
		signature + "\x21\x00\x00\x02ab":           "127.0.0.1", // neither TCP over IPv4 nor over IPv6
		signature + "\x20\x11\x00\x03\x00\x00\x00": "127.0.0.1",
	} {
		conn := dial(t, s.addr)
		_, err := io.WriteString(conn, header+"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "%q", header)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, errors.Join(err, resp.Body.Close()))
		require.NoError(t, conn.Close())
		assert.Equal(t, want, string(text), "%q", header)

		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, s.addr)
			if err == nil {
				_, err = io.WriteString(conn, header)
			}
			return conn, err
		}}
		_, answer := ask(t, &http.Client{Transport: transport}, http.MethodGet, "http://a/", "")
		transport.CloseIdleConnections()
		assert.Equal(t, want, answer, "%q over HTTP/2", header)
	}
}

// Without a valid header a connection is closed: anybody could claim any address in it, so it must not be optional.
func TestProxyProtocolIsRequired(t *testing.T) {
	s := withHeader(t, one(serve(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })), true, false)
	for i, header := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 1.2.3.4 127.0.0.1 4096 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		signature + "\x11\x11\x00\x0c" + strings.Repeat("\x00", 12), signature + "\x21\x11\x00\x04\x00\x00\x00\x00", signature + "\x21\x11\xff\xff",
		signature + "\x22\x11\x00\x0c" + strings.Repeat("\x00", 12),
	} {
		conn := dial(t, s.addr)
		_, err := io.WriteString(conn, header)
		require.NoError(t, err)
		answer, _ := io.ReadAll(conn)
		assert.Empty(t, answer, "%q", header)
		require.NoError(t, conn.Close())
		eventually(t, func() bool { return s.counter(t, "protocol_errors_total") == float64(i+1) }, "%q is counted", header)
	}
}

// A backend to which a connection is passed through learns the address of the client, and that from a header too.
func TestProxyProtocolIsSent(t *testing.T) {
	backend := serveConns(t, func(_ context.Context, conn net.Conn) { _, _ = io.Copy(conn, conn) })
	for _, in := range []bool{false, true} {
		s := withHeader(t, passing(backend), in, true)
		conn := dial(t, s.addr)
		own := conn.LocalAddr().(*net.TCPAddr)
		client := append(own.IP.To4(), byte(own.Port>>8), byte(own.Port))
		if in {
			client = []byte{1, 2, 3, 4, 0x10, 0}
			_, err := io.WriteString(conn, signature+"\x21\x11\x00\x0c\x01\x02\x03\x04\x7f\x00\x00\x01\x10\x00\x00\x50")
			require.NoError(t, err)
		}
		_, err := io.WriteString(conn, "hello")
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		proxied := s.Addr("main").(*net.TCPAddr)
		want := signature + "\x21\x11\x00\x0c" + string(client[:4]) + "\x7f\x00\x00\x01" + string(client[4:]) + string([]byte{byte(proxied.Port >> 8), byte(proxied.Port)}) + "hello"
		assert.Equal(t, want, string(got), fmt.Sprint("with a header: ", in))
		require.NoError(t, conn.Close())
	}
}
