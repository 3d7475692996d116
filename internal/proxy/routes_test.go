// Rules from a file, through parser, compiler and proxy.

package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
)

// routes is a file with every kind of match and filter; %s are three backends.
const routes = `
listeners:
- address: 127.0.0.1:0
  name: main
  port: 80
  routes:
  - hostnames: [shop.example, "*.shop.example"]
    rules:
    - matches:
      - {path: {value: /cart}, method: POST}
      - {path: {type: Exact, value: /basket}}
      backendRefs: [{name: two, port: 80}]
    - matches: [{headers: [{name: X-Version, value: "2"}]}, {queryParams: [{name: v, type: RegularExpression, value: "2|two"}]}]
      backendRefs: [{name: two, port: 80}]
    - backendRefs: [{name: one, port: 80}]
  - rules:
    - matches: [{path: {value: /old}}]
      filters:
      - type: RequestRedirect
        requestRedirect: {scheme: https, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: cache-control, value: no-store}]}}
    - matches: [{path: {value: /api/v1}}]
      filters:
      - {type: URLRewrite, urlRewrite: {hostname: api.internal, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: X-Set, value: rule}], add: [{name: X-Add, value: rule}], remove: [X-Gone]}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [X-Secret], add: [{name: X-Answered-By, value: proxy}]}}
      - type: RequestMirror
        requestMirror:
          backendRef: {name: three, port: 80}
          mirrorgate: {headers: {remove: [Authorization], set: [{name: X-Copy, value: "yes"}]}}
      backendRefs: [{name: one, port: 80}]
    - matches: [{path: {value: /split}}]
      backendRefs: [{name: one, port: 80, weight: 3}, {name: two, port: 80}]
    - matches: [{path: {value: /none}}]
    - matches: [{path: {value: /missing}}]
      backendRefs: [{name: nobody, port: 80}]
    - matches: [{path: {value: /unready}}]
      backendRefs: [{name: unready, port: 80}]
services:
  one: {80: [%s]}
  two: {80: [%s]}
  three: {80: [%s]}
  unready: {80: [{address: "127.0.0.1:1", ready: false}]}
`

// seen is a request as a backend got it.
type seen struct {
	Backend, Host, Target string
	Header                http.Header
}

// echo starts a backend that answers with the request it got, and logs it.
func echo(t *testing.T, name string) (address string, log func() []seen) {
	var mu sync.Mutex
	var all []seen
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := seen{name, r.Host, r.RequestURI, r.Header}
		mu.Lock()
		all = append(all, s)
		mu.Unlock()
		w.Header().Set("X-Secret", "1")
		_ = json.NewEncoder(w).Encode(s)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), func() []seen {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// Requests pass through every match and filter of a file.
func TestRoutes(t *testing.T) {
	one, _ := echo(t, "one")
	two, _ := echo(t, "two")
	three, copies := echo(t, "three")
	c, err := config.Parse("routes.yaml", fmt.Appendf(nil, routes, one, two, three))
	require.NoError(t, err)
	server := proxy.New(&proxy.Options{})
	t.Cleanup(func() { assert.NoError(t, server.Shutdown(context.WithoutCancel(t.Context()))) })
	require.NoError(t, server.Apply(&proxy.Setup{Table: c.Table, Listeners: []proxy.Listener{{Name: "main", Address: "127.0.0.1:0"}}}))
	client := &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(client.CloseIdleConnections)
	send := func(line string) (status int, header http.Header, s seen) {
		part := strings.Fields(line)
		r, err := http.NewRequestWithContext(t.Context(), part[0], "http://"+server.Addr("main").String()+part[2], http.NoBody)
		require.NoError(t, err)
		r.Host = part[1]
		for _, field := range part[3:] {
			name, value, _ := strings.Cut(field, "=")
			r.Header.Add(name, value)
		}
		response, err := client.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		_ = json.Unmarshal(body, &s)
		return response.StatusCode, response.Header, s
	}
	for line, want := range map[string]string{
		"POST shop.example /cart/add":                "200 two",
		"GET shop.example /cart/add":                 "200 one",
		"GET a.shop.example:80 /basket":              "200 two",
		"GET shop.example /basket/":                  "200 one",
		"GET shop.example / X-Version=2":             "200 two",
		"GET shop.example / X-Version=1 X-Version=2": "200 one",
		"GET shop.example /?v=two":                   "200 two",
		"GET shop.example /?v=22&v=2":                "200 one",
		"GET shop.example /old":                      "200 one",
		"GET other.example /":                        "404 ",
		"GET other.example /older":                   "404 ",
		"GET other.example /none":                    "500 ",
		"GET other.example /missing":                 "500 ",
		"GET other.example /unready":                 "503 ",
	} {
		status, _, s := send(line)
		assert.Equal(t, want, fmt.Sprint(status, " ", s.Backend), line)
	}

	status, header, _ := send("GET other.example:80 /old/a%2Fb?c=%20")
	assert.Equal(t, 301, status)
	assert.Equal(t, "https://other.example/new/a%2Fb?c=%20", header.Get("Location"))
	assert.Equal(t, "no-store", header.Get("Cache-Control"))

	_, header, s := send("GET other.example /api/v1/a%2Fb?c X-Set=client X-Add=client X-Gone=1 Authorization=secret")
	assert.Equal(t, "api.internal", s.Host)
	assert.Equal(t, "/a%2Fb?c", s.Target)
	assert.Equal(t, []string{"rule"}, s.Header.Values("X-Set"))
	assert.Equal(t, []string{"client", "rule"}, s.Header.Values("X-Add"))
	assert.Empty(t, s.Header.Values("X-Gone"))
	assert.Equal(t, []string{"secret"}, s.Header.Values("Authorization"))
	assert.Empty(t, s.Header.Values("X-Copy"))
	assert.Empty(t, header.Values("X-Secret"))
	assert.Equal(t, []string{"proxy"}, header.Values("X-Answered-By"))

	eventually(t, func() bool { return len(copies()) == 1 }, "the variant gets the copy")
	s = copies()[0]
	assert.Equal(t, "api.internal-shadow", s.Host)
	assert.Equal(t, "/a%2Fb?c", s.Target)
	assert.Equal(t, []string{"rule"}, s.Header.Values("X-Set"))
	assert.Empty(t, s.Header.Values("Authorization"))
	assert.Equal(t, []string{"yes"}, s.Header.Values("X-Copy"))

	split := map[string]int{}
	for range 40 {
		_, _, s := send("GET other.example /split")
		split[s.Backend]++
	}
	assert.Equal(t, map[string]int{"one": 30, "two": 10}, split)
}
