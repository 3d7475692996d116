package config

import (
	"crypto/tls"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
)

var update = flag.Bool("update", false, "rewrite golden files")

const small = `
listeners:
- address: 127.0.0.1:8000
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: 25}
    backendRefs: [{name: httpbin-v1, port: 80}]
services:
  httpbin-v1: {80: [127.0.0.1:9001]}
  httpbin-v2: {80: [127.0.0.1:9002]}
`

// TestBad loads invalid files. The golden files hold their messages.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file)
			require.Error(t, err)
			assert.Nil(t, c)
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600))
			}
			want, readErr := os.ReadFile(golden)
			require.NoError(t, readErr)
			assert.Equal(t, string(want), err.Error()+"\n")
		})
	}
}

func TestSmall(t *testing.T) {
	c, err := Parse("small.yaml", []byte(small))
	require.NoError(t, err)
	assert.Empty(t, c.Warnings)
	assert.Equal(t, []Listener{{Name: "127.0.0.1:8000", Address: "127.0.0.1:8000", H2C: true}}, c.Listeners)
	assert.Equal(t, Limits{Limits: h1.Limits{Head: 64 << 10, Fields: 128, Target: 16 << 10, HeadTimeout: 10 * time.Second, IdleTimeout: time.Minute, BodyTimeout: time.Minute, BackendTimeout: time.Minute}, Connections: 65536, BackendIdle: 55 * time.Second, VariantConnects: 250}, c.Limits)
	assert.Zero(t, c.AccessLog)
	assert.Empty(t, c.Admin)
	rule := c.Table.Match(0, &routing.Request{Method: "GET", Host: "h", Path: "/"})
	require.NotNil(t, rule)
	b, status := rule.Pick()
	assert.Zero(t, status)
	assert.Equal(t, []string{"127.0.0.1:9001"}, b.Port.Ready)
	require.Len(t, rule.Mirrors, 1)
	assert.Equal(t, []string{"127.0.0.1:9002"}, rule.Mirrors[0].Target.Port.Ready)
	assert.False(t, rule.Mirrors[0].Compare)
}

func TestFull(t *testing.T) {
	data, err := os.ReadFile("testdata/full.yaml")
	require.NoError(t, err)
	c, err := Parse("full.yaml", data)
	require.NoError(t, err)
	assert.Empty(t, c.Warnings)
	assert.Equal(t, []Listener{
		{Name: "web", Address: "127.0.0.1:8000"},
		{Name: "[::1]:8443", Address: "[::1]:8443", CertFile: "tls.crt", KeyFile: "tls.key", ProxyProtocol: true, MinVersion: tls.VersionTLS13, ALPN: []string{"http/1.1"}},
	}, c.Listeners)
	assert.True(t, c.Table.Listeners[1].Forwards)
	assert.Equal(t, 2, c.Table.Listeners[1].TrustedHops)
	assert.Equal(t, Limits{Limits: h1.Limits{Head: 32 << 10, Fields: 64, Target: 8 << 10, HeadTimeout: 5 * time.Second, IdleTimeout: 90 * time.Second, BodyTimeout: 2 * time.Minute, BackendTimeout: forever}, Connections: 1000, BackendIdle: 55 * time.Second, VariantConnects: 100}, c.Limits)
	assert.Equal(t, AccessLog{Format: "common", Path: "/var/log/mirrorgate/access.log"}, c.AccessLog)
	assert.Equal(t, "127.0.0.1:9090", c.Admin)

	cart := c.Table.Rules[1]
	if cart.Name != "shop/cart" {
		cart = c.Table.Rules[0]
	}
	require.Equal(t, "shop/cart", cart.Name)
	m := cart.Mirrors[0]
	assert.False(t, m.Compare, "the mirror sets compare itself")
	assert.EqualValues(t, 64<<10, m.MaxBody)
	assert.Equal(t, routing.Limits{MaxInFlight: 64, Queue: 128, Budget: 16 << 20, Penalty: routing.Penalty{
		Failures: 5, Pause: 200 * time.Millisecond, LongFailures: 50, LongPause: 5 * time.Second,
	}}, m.Target.Limits)
	assert.True(t, c.Table.Mirrors[1].Compare, "the default is comparison of the file")
	assert.Equal(t, routing.DefaultLimits, c.Table.Mirrors[1].Target.Limits)
	var ports []routing.Port
	for _, p := range c.Table.Ports {
		ports = append(ports, *p)
	}
	assert.Equal(t, []routing.Port{
		{Index: 0, Service: "cart-v1", Number: 80, Ready: []string{"127.0.0.1:9001"}, Unready: []string{"127.0.0.1:9002"}},
		{Index: 1, Service: "cart-v1", Number: 81, Protocol: routing.H2C, Ready: []string{"localhost:9003"}},
		{Index: 2, Service: "cart-v2", Number: 80, Ready: []string{"127.0.0.1:9004"}},
		{Index: 3, Service: "cart-v3", Number: 80},
	}, ports)
}

func TestWarnings(t *testing.T) {
	c, err := Parse("f", []byte(strings.ReplaceAll(small, "name: httpbin-v2, port: 80", "name: httpbin-v2, port: 81")))
	require.NoError(t, err)
	require.Len(t, c.Warnings, 1)
	assert.Equal(t, "8: warning: listeners[0].rules[0].filters[0].requestMirror.backendRef: service httpbin-v2 has no port 81 in services", c.Warnings[0].String())
}

// FuzzParse checks that every file is valid or has problems, each of them on a line of the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	files, err := filepath.Glob("testdata/*/*.yaml")
	require.NoError(f, err)
	for _, file := range append(files, "testdata/full.yaml") {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		if filepath.Base(file) != "bomb.yaml" { // is as slow as a file can be
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err == nil {
			require.NotNil(t, c.Table)
			require.Len(t, c.Listeners, len(c.Table.Listeners))
			for i := range c.Table.Listeners {
				c.Table.Match(i, &routing.Request{Method: "GET", Host: "a.b", Path: "/a/b", RawQuery: "c=d", Header: none{}})
			}
			return
		}
		require.Nil(t, c)
		var problems *Problems
		require.ErrorAs(t, err, &problems)
		require.NotEmpty(t, problems.List)
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 2
		for _, p := range problems.List {
			require.True(t, p.Line >= 1 && p.Line <= lines, p.String())
			require.NotEmpty(t, p.Message)
		}
	})
}

type none struct{}

func (none) Get(string) (string, bool) { return "", false }
