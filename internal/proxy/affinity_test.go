// Clients that stay with an endpoint.

package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// With affinity a client stays with its endpoint, over HTTP and TCP, as long as that is ready, and when an
// endpoint goes the clients of the others do not move.
func TestAffinity(t *testing.T) {
	table, addresses := threeEndpoints(t)
	table.Listeners[0].SessionAffinity = "ClientIP"
	table.Listeners = append(table.Listeners, spec.Listener{
		Name: "tcp", Address: "localhost:0", SessionAffinity: "ClientIP", TCP: &spec.Passthrough{Name: "primary", Port: 80},
	})
	s := start(t, table, nil)
	from := func(host, to string) string {
		transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}).DialContext}
		_, body := ask(t, &http.Client{Transport: transport}, http.MethodGet, "http://"+to+"/", "")
		return body
	}
	// So many that every endpoint has some: which, is decided by addresses with ports that nobody chose.
	var clients []string
	for i := range 48 {
		clients = append(clients, fmt.Sprintf("127.0.0.%d", i+1))
	}
	of := map[string]string{}
	seen := map[string]bool{}
	for _, client := range clients {
		of[client] = from(client, s.addr)
		seen[of[client]] = true
		for range 2 {
			require.Equal(t, of[client], from(client, s.addr))
			require.Equal(t, of[client], from(client, s.Addr("tcp").String()), "the endpoint over TCP")
		}
	}
	assert.Len(t, seen, 3, "every endpoint has clients: %v", of)
	require.NoError(t, s.SetEndpoints("primary", 80, addresses[1:], addresses[:1]))
	for _, client := range clients {
		if of[client] == "a" {
			assert.NotEqual(t, "a", from(client, s.addr), "an endpoint that is not ready gets no new request")
		} else {
			assert.Equal(t, of[client], from(client, s.addr))
		}
	}
}

// threeEndpoints returns a table with three endpoints, which answer with their names.
func threeEndpoints(t *testing.T) (table *spec.Table, addresses []string) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		addresses = append(addresses, named(t, name))
	}
	table = one("")
	table.Services["primary"] = spec.Service{80: endpoints(addresses...)}
	return table, addresses
}

// fetch sends a request with fields, and returns the answer's body and its cookies.
func fetch(t *testing.T, c *http.Client, address string, fields http.Header) (body string, cookies []*http.Cookie) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", http.NoBody)
	require.NoError(t, err)
	req.Header = fields
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text), resp.Cookies()
}

// Behind a proxy that is believed, the clients of that proxy are told apart, and what they claim themselves has no
// effect.
func TestAffinityBehindAProxy(t *testing.T) {
	table, _ := threeEndpoints(t)
	table.Listeners[0].SessionAffinity, table.Listeners[0].Forwarded = "ClientIP", &spec.Forwarded{TrustedHops: 1}
	s := start(t, table, nil)
	c := client(t)
	of, seen := map[int]string{}, map[string]bool{}
	for i := range 48 {
		for claimed := range 3 {
			body, _ := fetch(t, c, s.addr, http.Header{"X-Forwarded-For": {fmt.Sprintf("6.6.6.%d, 10.0.0.%d", claimed, i)}})
			if claimed == 0 {
				of[i], seen[body] = body, true
			}
			require.Equal(t, of[i], body)
		}
	}
	assert.Len(t, seen, 3, "every endpoint has clients: %v", of)
	s2 := start(t, withoutTrust(table), nil)
	first, _ := fetch(t, c, s2.addr, http.Header{"X-Forwarded-For": {"10.0.0.0"}})
	for i := range 48 {
		body, _ := fetch(t, c, s2.addr, http.Header{"X-Forwarded-For": {fmt.Sprintf("10.0.0.%d", i)}})
		require.Equal(t, first, body, "without trust the connection's address counts")
	}
}

func withoutTrust(table *spec.Table) *spec.Table {
	table.Listeners[0].Forwarded = nil
	return table
}

// With a cookie a client stays with the endpoint that answered it first, over another proxy too, and gets another cookie
// only when that endpoint goes. A cookie that somebody made up has no effect.
func TestAffinityCookie(t *testing.T) {
	table, addresses := threeEndpoints(t)
	table.Listeners[0].AffinityCookie = "pod"
	one, two := start(t, table, nil), start(t, table, nil)
	c := client(t)
	with := func(value string) http.Header { return http.Header{"Cookie": {"a=b; pod=" + value}} }
	seen := map[string]string{}
	for range 100 {
		if len(seen) == 3 {
			break
		}
		body, cookies := fetch(t, c, one.addr, nil)
		require.Len(t, cookies, 1)
		require.Equal(t, "pod", cookies[0].Name)
		require.Equal(t, "/", cookies[0].Path)
		require.True(t, cookies[0].HttpOnly)
		seen[body] = cookies[0].Value
	}
	require.Len(t, seen, 3, "clients without a cookie go to any endpoint")
	for name, value := range seen {
		for _, s := range []*site{one, two} {
			for range 5 {
				body, cookies := fetch(t, c, s.addr, with(value))
				require.Equal(t, name, body)
				require.Empty(t, cookies, "the client has it")
			}
		}
	}
	for _, value := range []string{"", "x", "0000000000000000", "ffffffffffffffff", seen["a"] + "0"} {
		_, cookies := fetch(t, c, one.addr, with(value))
		require.Len(t, cookies, 1, "%q", value)
	}
	require.NoError(t, one.SetEndpoints("primary", 80, addresses[1:], addresses[:1]))
	body, cookies := fetch(t, c, one.addr, with(seen["a"]))
	require.Len(t, cookies, 1)
	require.Equal(t, seen[body], cookies[0].Value)
	body, cookies = fetch(t, c, one.addr, with(seen["b"]))
	require.Equal(t, "b", body)
	require.Empty(t, cookies)
}
