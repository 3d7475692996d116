// Endpoints that change while the table stays.

package proxy_test

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// When the endpoints of one port are swapped, requests and copies follow at once, and other ports and the
// counters of rules do not change.
func TestSetEndpoints(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	first, second := record(t, ""), record(t, "")
	table := one(a, first.addr)
	table.Services["other"] = spec.Service{80: endpoints(a)}
	table.Listeners[0].Rules = append(table.Listeners[0].Rules, spec.Rule{
		Matches:     []spec.Match{{Path: &spec.PathMatch{Value: new("/other")}}},
		BackendRefs: []spec.BackendRef{{Name: "other", Port: 80}},
	})
	s := start(t, table, nil)
	c := client(t)
	get := func(path string) (int, string) { return ask(t, c, http.MethodGet, "http://"+s.addr+path, "") }
	set := func(service string, ready, unready []string) {
		require.NoError(t, s.SetEndpoints(service, 80, ready, unready))
	}
	_, body := get("/")
	assert.Equal(t, "a", body)
	eventually(t, func() bool { return len(first.got()) == 1 }, "the first variant gets a copy")

	set("primary", []string{b}, []string{a})
	_, body = get("/")
	assert.Equal(t, "b", body)
	_, body = get("/other")
	assert.Equal(t, "a", body, "another service keeps its endpoints")
	eventually(t, func() bool { return len(first.got()) == 2 }, "the first variant gets another copy")

	set("variant0", []string{second.addr}, nil)
	get("/")
	eventually(t, func() bool { return len(second.got()) == 1 }, "the second variant gets a copy")
	set("variant0", nil, []string{second.addr})
	status, body := get("/")
	assert.Equal(t, 200, status, "the primary needs no variant")
	assert.Equal(t, "b", body)
	eventually(t, func() bool { return s.counter(t, "shadows_dropped_total", "reason", "no_endpoint") == 1 }, "a copy without an endpoint is counted")

	set("primary", nil, []string{a, b})
	status, _ = get("/")
	assert.Equal(t, 503, status)
	set("primary", []string{a}, nil)
	status, _ = get("/")
	assert.Equal(t, 200, status)
	eventually(t, func() bool { return s.counter(t, "requests_total", "service", "primary:80") == 6 }, "the counter of the rule goes on")
	assert.Len(t, first.got(), 2)
	assert.Len(t, second.got(), 1)
}

// SetEndpoints returns an error for a port that the table does not have, before the first table, and after
// Shutdown.
func TestSetEndpointsErrors(t *testing.T) {
	empty := proxy.New(&proxy.Options{})
	require.ErrorContains(t, empty.SetEndpoints("primary", 80, nil, nil), "no table yet")
	require.NoError(t, empty.Shutdown(t.Context()))
	require.ErrorIs(t, empty.SetEndpoints("primary", 80, nil, nil), net.ErrClosed)
	s := start(t, one(named(t, "a")), nil)
	require.ErrorContains(t, s.SetEndpoints("primary", 81, nil, nil), "service primary has no port 81")
	require.ErrorContains(t, s.SetEndpoints("nobody", 80, nil, nil), "service nobody has no port 80")
}

// Idle connections are kept while any port has their address, ready or unready, and closed when the last port
// loses it.
func TestSetEndpointsConnections(t *testing.T) {
	backend := record(t, "")
	table := one(backend.addr)
	table.Services["twin"] = spec.Service{80: endpoints(backend.addr)}
	s := start(t, table, nil)
	status, _ := ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
	require.Equal(t, 200, status)
	open := func() []net.Conn {
		backend.mu.Lock()
		defer backend.mu.Unlock()
		return slices.Collect(maps.Keys(backend.conns))
	}
	before := open()
	require.Len(t, before, 1)
	require.NoError(t, s.SetEndpoints("primary", 80, nil, []string{backend.addr}))
	require.NoError(t, s.SetEndpoints("primary", 80, nil, nil))
	require.NoError(t, s.SetEndpoints("primary", 80, []string{backend.addr}, nil))
	ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
	assert.Never(t, func() bool { return !slices.Contains(open(), before[0]) }, 50*time.Millisecond, 5*time.Millisecond, "the other service with this address keeps the connection open")
	require.NoError(t, s.SetEndpoints("primary", 80, nil, nil))
	require.NoError(t, s.SetEndpoints("twin", 80, nil, nil))
	eventually(t, func() bool { return len(open()) == 0 }, "the idle connections are closed")
}

// Under load, endpoints come and go with reloads between: no request fails, and no request that begins after
// a swap reaches the endpoint that is gone.
func TestSetEndpointsUnderLoad(t *testing.T) {
	backends := []string{named(t, "0"), named(t, "1")}
	s := start(t, one(backends[0]), nil)
	stop := busy(t, s.addr)
	c := client(t)
	for i := range 100 {
		if i%10 == 0 {
			table := one(backends[i/10%2])
			table.Listeners[0].Name, table.Listeners[0].Address = "main", "127.0.0.1:0"
			require.NoError(t, s.Apply(setup(t, table)))
		}
		require.NoError(t, s.SetEndpoints("primary", 80, backends[i%2:i%2+1], slices.Delete(slices.Clone(backends), i%2, i%2+1)))
		_, body := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
		require.Equal(t, string(rune('0'+i%2)), body)
	}
	stop()
}
