package routing

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// TestReplacePrefixMatch begins with the examples of Gateway API's HTTPPathModifier.
func TestReplacePrefixMatch(t *testing.T) {
	for _, test := range []struct{ path, match, replace, want string }{
		{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", "/xyz", "/xyz"},
		{"/foo/", "/foo", "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", "", "/bar"},
		{"/foo/", "/foo", "", "/"},
		{"/foo", "/foo", "", "/"},
		{"/foo/", "/foo", "/", "/"},
		{"/foo", "/foo", "/", "/"},

		{"/foo/bar", "/foo", "/", "/bar"},
		{"/foo", "/foo", "/xyz/", "/xyz"},
		{"/bar", "/", "/xyz", "/xyz/bar"},
		{"/", "/", "/xyz", "/xyz/"},
		{"/", "/", "", "/"},
		{"/foo//bar", "/foo", "/xyz", "/xyz//bar"},
		{"/foo/%2e%2E/\xff", "/foo", "/x%20", "/x%20/%2e%2E/\xff"},
		{"*", "/", "/xyz", "*"},
		{"", "/", "/xyz", ""},
	} {
		t.Run(test.path+" "+test.match+" "+test.replace, func(t *testing.T) {
			_, r := rule(t, fmt.Sprintf(`
			  "matches": [{"path": {"value": %q}}],
			  "filters": [{"type": "URLRewrite", "urlRewrite": {"hostname": "other.example", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": %q}}}],
			  "backendRefs": [{"name": "v1", "port": 80}]`, test.match, test.replace))
			b, status := r.Pick()
			require.Zero(t, status)
			assert.True(t, b.Rewrite.HasPath())
			assert.Equal(t, "other.example", b.Rewrite.Hostname)
			assert.Equal(t, "at: "+test.want, string(b.Rewrite.AppendPath([]byte("at: "), test.path)))
		})
	}
}

func TestRewriteOfBackend(t *testing.T) {
	table, r := rule(t, `
	  "filters": [
	    {"type": "URLRewrite", "urlRewrite": {"hostname": "rule.example", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/rule"}}},
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}}}],
	  "backendRefs": [
	    {"name": "v1", "port": 80},
	    {"name": "v3", "port": 80, "filters": [
	      {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/own"}}},
	      {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 81}}}]}]`)
	paths := func(w *Rewrite) string { return w.Hostname + string(w.AppendPath(nil, "/sent")) }
	assert.Equal(t, "rule.example/rule", paths(&r.backends[0].Rewrite))
	assert.Equal(t, "rule.example/own", paths(&r.backends[1].Rewrite))
	assert.Equal(t, "rule.example/rule", paths(&r.Mirrors[0].Rewrite))
	assert.Equal(t, "rule.example/own", paths(&r.backends[1].Mirrors[0].Rewrite))
	assert.Empty(t, r.backends[0].Mirrors)
	assert.Len(t, table.Mirrors, 2)
}

func TestRedirect(t *testing.T) {
	for _, test := range []struct {
		listener, redirect, request, want string
		status                            int
	}{
		{``, `{}`, "GET h:1 /a?b", "http://h:8000/a?b", 302},
		{`"port": 80,`, `{}`, "GET h:1 /a", "http://h/a", 302},
		{`"port": 443,`, `{}`, "GET h /a", "http://h:443/a", 302},
		{`"port": 443, "tls": {},`, `{}`, "GET h /a", "https://h/a", 302},
		{`"port": 80, "tls": {},`, `{}`, "GET h /a", "https://h:80/a", 302},
		{``, `{"scheme": "https", "statusCode": 301}`, "GET h:8000 /a", "https://h/a", 301},
		{``, `{"scheme": "http"}`, "GET h:8000 /a", "http://h/a", 302},
		{``, `{"scheme": "https", "port": 8443}`, "GET h /a", "https://h:8443/a", 302},
		{``, `{"scheme": "https", "port": 443}`, "GET h /a", "https://h/a", 302},
		{``, `{"scheme": "https", "port": 80}`, "GET h /a", "https://h:80/a", 302},
		{``, `{"port": 80}`, "GET h:8000 /a", "http://h/a", 302},
		{``, `{"hostname": "example.org", "statusCode": 308}`, "GET h:8000 /a", "http://example.org:8000/a", 308},
		{``, `{}`, "GET [::1]:8000 /a", "http://[::1]:8000/a", 302},
		{``, `{}`, "GET [::1] /a", "http://[::1]:8000/a", 302},
		{``, `{"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}`, "GET h /a/b?c=%20", "http://h:8000/x?c=%20", 302},
		{``, `{"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}`, "GET h /a/b", "http://h:8000/x/a/b", 302},
		{``, `{}`, "GET h //evil.example/", "http://h:8000//evil.example/", 302},
	} {
		t.Run(test.want, func(t *testing.T) {
			table := compile(t, test.listener+`"rules": [{"filters": [{"type": "RequestRedirect", "requestRedirect": `+test.redirect+`}]}]`)
			r := request(test.request)
			d := table.Match(0, r).Redirect
			assert.Equal(t, test.want, string(d.AppendLocation(nil, table.Listeners[0], r)))
			assert.Equal(t, test.status, d.Status)
			buf := make([]byte, 0, 256)
			assert.Zero(t, testing.AllocsPerRun(10, func() { d.AppendLocation(buf, table.Listeners[0], r) }))
		})
	}
}

// FuzzReplacePrefixMatch checks that the path elements after the prefix stay as they were sent, and that the
// prefix is replaced.
func FuzzReplacePrefixMatch(f *testing.F) {
	f.Add("/foo", "/xyz/", "/foo/bar?q")
	f.Add("/", "", "/%2F/")
	f.Fuzz(func(t *testing.T, match, replace, path string) {
		s := &spec.Table{Listeners: []spec.Listener{{Address: ":80", Rules: []spec.Rule{{
			Matches: []spec.Match{{Path: &spec.PathMatch{Value: &match}}},
			Filters: []spec.Filter{{Type: "RequestRedirect", RequestRedirect: &spec.Redirect{
				Path: &spec.PathModifier{Type: "ReplacePrefixMatch", ReplacePrefixMatch: &replace},
			}}},
		}}}}}
		table, _ := Compile(s)
		if table == nil {
			return
		}
		r := &Request{Method: "GET", Host: "h", Path: path, Header: header{}}
		rule := table.Match(0, r)
		if rule == nil || !strings.HasPrefix(path, "/") {
			return
		}
		location := string(rule.Redirect.AppendLocation(nil, table.Listeners[0], r))
		got, ok := strings.CutPrefix(location, "http://h")
		require.True(t, ok, location)
		require.True(t, strings.HasPrefix(got, "/"), got)
		elements := func(s string) []string { return strings.Split(strings.TrimSuffix(s, "/"), "/")[1:] }
		var want []string
		if replace != "" && replace != "/" {
			want = elements(replace)
		}
		if match = strings.TrimSuffix(match, "/"); len(path) > len(match)+1 {
			want = append(want, strings.Split(path[len(match)+1:], "/")...)
		}
		assert.Equal(t, strings.Trim(strings.Join(want, "/"), "/"), strings.Trim(got, "/"))
		if _, err := url.Parse("http://h" + path); err == nil {
			_, err := url.Parse(location)
			assert.NoError(t, err)
		}
	})
}
