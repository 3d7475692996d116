package proxy_test

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

func TestVersionsOfTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil) // for its certificate
	server.StartTLS()
	t.Cleanup(server.Close)
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &server.TLS.Certificates[0], nil }
	for _, test := range []struct {
		least   uint16
		alpn    []string
		offers  uint16
		version uint16
		chosen  string
	}{
		{0, nil, tls.VersionTLS12, tls.VersionTLS12, "h2"},
		{0, nil, tls.VersionTLS13, tls.VersionTLS13, "h2"},
		{0, nil, tls.VersionTLS11, 0, ""},
		{tls.VersionTLS13, []string{"http/1.1"}, tls.VersionTLS13, tls.VersionTLS13, "http/1.1"},
		{tls.VersionTLS13, nil, tls.VersionTLS12, 0, ""},
	} {
		first := setup(t, &spec.Table{Listeners: []spec.Listener{{Name: "main", Address: "127.0.0.1:0", Rules: one(refused(t)).Listeners[0].Rules}}})
		l := &first.Listeners[0]
		l.H2C, l.Certificate, l.MinVersion, l.ALPN = false, certificate, test.least, test.alpn
		s := proxy.New(&proxy.Options{})
		require.NoError(t, s.Apply(first))
		dialer := tls.Dialer{Config: &tls.Config{
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: test.offers, NextProtos: []string{"h2", "http/1.1"},
		}}
		conn, err := dialer.DialContext(t.Context(), "tcp", s.Addr("main").String())
		if test.version == 0 {
			require.Error(t, err, test)
		} else {
			require.NoError(t, err, test)
			state := conn.(*tls.Conn).ConnectionState()
			assert.Equal(t, test.version, state.Version, test)
			assert.Equal(t, test.chosen, state.NegotiatedProtocol, test)
			require.NoError(t, conn.Close())
		}
		other := *l
		other.MinVersion ^= tls.VersionTLS13
		require.ErrorContains(t, s.Apply(&proxy.Setup{Table: first.Table, Listeners: []proxy.Listener{other}}), "cannot change while it is open")
		require.NoError(t, s.Shutdown(t.Context()))
	}
}
