package proxy_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

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
