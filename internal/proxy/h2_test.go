package proxy_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// overH2C makes the table's primary one that speaks HTTP/2.
func overH2C(table *spec.Table) *spec.Table {
	port := table.Services["primary"][80]
	port.Protocol = "h2c"
	table.Services["primary"][80] = port
	return table
}

// HTTP/2 has neither tunnels nor upgrades: CONNECT is refused before a backend could answer it, and
// any other request goes on as if no upgrade had been asked for, copies included.
func TestNoTunnelToH2C(t *testing.T) {
	seen := make(chan http.Header, 1)
	backend := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		assert.NotEqual(t, http.MethodConnect, r.Method)
		seen <- r.Header
	})
	variant := record(t, "")
	s := start(t, overH2C(one(backend, variant.addr())), nil)
	back := talk(t, s.addr, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
	assert.Equal(t, []int{http.StatusNotImplemented}, statuses(t, back, http.MethodConnect))

	back = talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	assert.Equal(t, []int{http.StatusOK}, statuses(t, back, http.MethodGet))
	header := <-seen
	assert.NotContains(t, header, "Upgrade")
	assert.NotContains(t, header, "Connection")
	eventually(t, func() bool { return len(variant.got()) == 1 }, "copy")
	assert.NotContains(t, variant.got()[0], "pgrade")
}

// Interim responses that a client is slow to take hold up nobody else on the backend's connection,
// end with the exchange they belong to, and come before its final response.
func TestInterimFromH2C(t *testing.T) {
	gone := make(chan struct{})
	hint := strings.Repeat("a", 400<<10) // fifty fill every socket on the way
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hints" {
			return
		}
		for range 50 {
			w.Header().Set("Link", hint)
			w.WriteHeader(http.StatusEarlyHints)
		}
		<-r.Context().Done()
		close(gone)
	})
	table := overH2C(one(backend))
	table.Listeners[0].Rules[0].Timeouts = &spec.Timeouts{Request: "2s"}
	s := start(t, table, &proxy.Options{Limits: h1.Limits{Head: 1 << 20}})
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	_, err = in.Peek(1)
	require.NoError(t, err)

	status, _ := ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
	assert.Equal(t, http.StatusOK, status, "another client, while the first does not read")
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "the first waits")
	wait(t, gone)
	back, err := io.ReadAll(in)
	require.NoError(t, err)
	all := statuses(t, string(back), http.MethodGet)
	assert.Equal(t, http.StatusGatewayTimeout, all[len(all)-1])
	for _, interim := range all[:len(all)-1] {
		assert.Equal(t, http.StatusEarlyHints, interim)
	}
}

// A backend that sends interim responses without end gives no answer.
func TestInterimWithoutEnd(t *testing.T) {
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})
	s := start(t, overH2C(one(backend)), nil)
	all := statuses(t, talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), http.MethodGet)
	assert.LessOrEqual(t, len(all), 65)
	assert.Equal(t, http.StatusBadGateway, all[len(all)-1])
}
