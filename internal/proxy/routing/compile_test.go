package routing

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestProblems compiles a specification with every kind of problem. The golden file holds the messages.
func TestProblems(t *testing.T) {
	ref := func(fields string) string {
		return `{"backendRefs": [{"name": "v1", "port": 80}], ` + fields + `}`
	}
	filter := func(fields string) string { return ref(`"filters": [` + fields + `]`) }
	mirror := func(fields string) string {
		return filter(`{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, ` + fields + `}}`)
	}
	extra := func(fields string) string { return mirror(`"mirrorgate": {` + fields + `}`) }
	rules := []string{
		ref(`"name": "a"`), ref(`"name": "a"`),
		ref(`"matches": [
		  {"path": {"value": "foo"}}, {"path": {"value": "/a//b"}}, {"path": {"value": "/a/./b"}}, {"path": {"value": "/a/.."}},
		  {"path": {"value": "/a%2Fb"}}, {"path": {"value": "/a b"}}, {"path": {"value": "/a%zz"}}, {"path": {"type": "Exact", "value": ""}},
		  {"path": {"type": "Prefix", "value": "/"}}, {"path": {"type": "RegularExpression", "value": "a)|(b"}},
		  {"path": {"type": "RegularExpression", "value": "(?=x)"}},
		  {"method": "get"}, {"headers": [{"name": "a b", "value": "c"}, {"name": "a", "type": "Regex"}]},
		  {"headers": [{"name": "a"}, {"name": "A"}], "queryParams": [{"name": ""}, {"type": "RegularExpression", "name": "q", "value": "*"}]}]`),
		`{}`,
		`{"backendRefs": [{"port": 80}, {"name": "v1"}, {"name": "v1", "port": 80, "weight": -1}, {"name": "v1", "port": 82}, {"name": "v1", "port": 80, "filters": [
		  {"type": "RequestRedirect", "requestRedirect": {}}, {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v1", "port": 82}}}]}]}`,
		ref(`"timeouts": {"request": "1s", "backendRequest": "2s"}`), ref(`"timeouts": {"request": "1.5s", "backendRequest": "-1s"}`),
		filter(`{"type": "CORS"}, {}, {"type": "URLRewrite"}, {"type": "URLRewrite", "urlRewrite": {}, "requestRedirect": {}}`),
		filter(`{"type": "RequestRedirect", "requestRedirect": {"scheme": "ftp", "hostname": "Example.com", "port": 0, "statusCode": 200}}`),
		`{"filters": [{"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplaceFullPath", "replacePrefixMatch": "/x"}}}, {"type": "URLRewrite", "urlRewrite": {"path": {"type": "x"}}}]}`,
		`{"matches": [{}, {}], "filters": [{"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}}]}`,
		filter(`{"type": "URLRewrite", "urlRewrite": {"hostname": "a:80", "path": {"type": "ReplaceFullPath", "replaceFullPath": ""}}}, {"type": "URLRewrite", "urlRewrite": {}}`),
		filter(`{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "x?y"}}}`),
		filter(`{"type": "RequestHeaderModifier", "requestHeaderModifier": {
		  "set": [{"name": "Host", "value": "x"}, {"name": "a", "value": "1"}, {"name": "A", "value": "2"}, {"name": "b", "value": "x\ny"}, {"name": "c", "value": " x"}],
		  "add": [{"name": "Content-Length", "value": "0"}], "remove": ["Transfer-Encoding", "a:", ""]}}`),
		filter(`{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v1", "port": 80}}}`),
		filter(`{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 0, "weight": 1}}}`),
		mirror(`"percent": 101`), mirror(`"percent": 1, "fraction": {"numerator": 1}`), mirror(`"fraction": {"numerator": 101}`),
		mirror(`"fraction": {"numerator": -1, "denominator": 0}`),
		extra(`"keyed": {}`), extra(`"keyed": {"header": "a b"}`), extra(`"keyed": {"header": "a", "cookie": "b"}`), extra(`"keyed": {"cookie": "a;b"}`),
		extra(`"headers": {"remove": ["Connection"]}, "methods": ["get"], "maxBody": "1MB", "timeout": "0s", "maxInFlight": 0, "queue": -1, "budget": "lots", "penalty": {"failures": 0, "pause": "1"}`),
		extra(`"maxBody": "2000Gi", "queue": 5, "penalty": {"pause": "1s"}`),
		ref(`"matches": [
		  {"call": {"type": "Prefix"}}, {"call": {"service": "a/b"}}, {"call": {"service": "a", "method": "b/c"}}, {"call": {}, "method": "GET"},
		  {"call": {}, "path": {"value": "/"}}, {"call": {"type": "RegularExpression", "service": "a)|(b"}}, {"call": {"type": "RegularExpression", "method": "*"}}]`),
	}
	s := parse(t, `"rules": [`+strings.Join(rules, ",\n")+`], "routes": [{"name": "r"}, {"hostnames": ["*", "A.b", "a:80", "*.1.2.3.4", "1.2.3.4"], "rules": [{}]}]`)
	s.Listeners = append(s.Listeners, spec.Listener{Name: "127.0.0.1:8000", Address: "localhost", Port: 70000})
	s.Services["x:y"] = spec.Service{0: {Protocol: "grpc", Endpoints: []spec.Endpoint{{Address: ":80"}, {Address: "h:0"}, {Address: "h:1"}, {Address: "h:1"}}}}

	table, problems := Compile(s)
	assert.Nil(t, table)
	var got strings.Builder
	for _, p := range problems {
		if p.Warning {
			got.WriteString("warning: ")
		}
		got.WriteString(p.String() + "\n")
	}
	if *update {
		require.NoError(t, os.WriteFile("testdata/problems.golden", []byte(got.String()), 0o600))
	}
	want, err := os.ReadFile("testdata/problems.golden")
	require.NoError(t, err)
	assert.Equal(t, string(want), got.String())
}

func TestNoListener(t *testing.T) {
	table, problems := Compile(&spec.Table{})
	assert.Nil(t, table)
	assert.Len(t, problems, 1)
}

func TestDefaults(t *testing.T) {
	table, problems := Compile(&spec.Table{Listeners: []spec.Listener{
		{Address: ":80"}, {Name: "tls", Address: "[::1]:443", TLS: &spec.TLS{}}, {Address: "127.0.0.1:8080", Port: 80},
	}})
	require.NotNil(t, table)
	assert.Len(t, problems, 3, "one warning about missing rules per listener: %v", problems)
	var got []Listener
	for _, l := range table.Listeners {
		l := *l
		l.hosts = nil // the rules are not of interest
		got = append(got, l)
	}
	assert.Equal(t, []Listener{
		{Name: ":80", Address: ":80", Port: 80},
		{Name: "tls", Address: "[::1]:443", Port: 443, TLS: true},
		{Name: "127.0.0.1:8080", Address: "127.0.0.1:8080", Port: 80},
	}, got)
	assert.Equal(t, "https", table.Listeners[1].Scheme())
	assert.Nil(t, table.Match(0, request("GET h /")))
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "65536": 65536, "64Ki": 65536, "64KiB": 65536, "1Mi": 1 << 20, "2GiB": 2 << 30, "1024Gi": 1 << 40,
	} {
		n, err := ParseSize(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "B", "1B", "Ki", "-1", "+1", "-0", "1.5Mi", "1 Mi", "1M", "1mi", "1025Gi", "99999999999999999999", "1KiKi", "1KiMi", "1MiKi", "0x10"} {
		_, err := ParseSize(text)
		assert.Error(t, err, text)
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "10s": 10 * time.Second, "1h2m3s4ms": time.Hour + 2*time.Minute + 3*time.Second + 4*time.Millisecond,
	} {
		d, err := ParseDuration(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, d, text)
	}
	for _, text := range []string{"", "0", "10", "1.5s", "-1s", "1us", "100000s", "1s ", "s"} {
		_, err := ParseDuration(text)
		assert.Error(t, err, text)
	}
}

// BenchmarkCompile measures compiling a table of 1000 routes.
func BenchmarkCompile(b *testing.B) {
	var routes []string
	for i := range 1000 {
		routes = append(routes, fmt.Sprintf(`{"hostnames": ["host%d.example.com"], "rules": [{"matches": [{"path": {"value": "/api"}}], "filters": [
		  {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "percent": 5}}], "backendRefs": [{"name": "v1", "port": 80}]}]}`, i))
	}
	s := parse(b, `"routes": [`+strings.Join(routes, ",")+`]`)
	before, _ := Compile(s)
	b.ReportAllocs()
	for b.Loop() {
		table, _ := Compile(s)
		table.Inherit(before)
	}
}

// TestPassthrough compiles listeners that forward TCP connections. They must not have rules, TLS or H2C.
func TestPassthrough(t *testing.T) {
	on := true
	s := &spec.Table{
		Services: map[string]spec.Service{"db": {5432: {Endpoints: []spec.Endpoint{{Address: "127.0.0.1:1"}}}}},
		Listeners: []spec.Listener{
			{Address: ":1", TCP: &spec.Passthrough{Name: "db", Port: 5432}, SessionAffinity: "ClientIP"},
			{Address: ":2", TCP: &spec.Passthrough{Name: "db", Port: 1}, SessionAffinity: "None"},
		},
	}
	table, problems := Compile(s)
	require.NotNil(t, table, problems)
	assert.Equal(t, []Problem{{Path: "listeners[1].tcp", Message: "service db has no port 1 in services", Warning: true}}, problems)
	assert.True(t, table.Listeners[0].Passes)
	assert.True(t, table.Listeners[0].Affinity)
	assert.Same(t, table.Port("db", 5432), table.Listeners[0].TCP)
	assert.True(t, table.Listeners[1].Passes)
	assert.False(t, table.Listeners[1].Affinity)
	assert.Nil(t, table.Listeners[1].TCP)

	s.Listeners = []spec.Listener{
		{Address: ":1", TCP: &spec.Passthrough{Port: 5432}, SessionAffinity: "Cookie"},
		{Address: ":2", TCP: &spec.Passthrough{Name: "db", Port: 70000}, Rules: []spec.Rule{{}}, Routes: []spec.Route{{}}, TLS: &spec.TLS{}, H2C: &on},
	}
	table, problems = Compile(s)
	assert.Nil(t, table)
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	const beside = ": must not be set beside tcp, which passes connections on as they are"
	assert.Equal(t, []string{
		`listeners[0].sessionAffinity: "Cookie": must be ClientIP or None`,
		"listeners[0].tcp.name: must name a service",
		"listeners[1].tcp.port: 70000: must be a port of service db, from 1 to 65535",
		"listeners[1].rules" + beside, "listeners[1].routes" + beside, "listeners[1].tls" + beside, "listeners[1].h2c" + beside,
	}, lines)
}
