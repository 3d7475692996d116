package compare

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTemplates(t *testing.T) {
	templates, err := NewTemplates(nil)
	require.NoError(t, err)
	for path, want := range map[string]string{
		"/": "/", "/cart": "/cart", "/cart/": "/cart/", "/cart/17": "/cart/{}", "/api/v2/users/ab12cd34/orders": "/api/v2/users/{}/orders",
		"/users/123e4567-e89b-12d3-a456-426614174000": "/users/{}", "/files/deadbeefcafe": "/files/{}", "/u/ann@example.org": "/u/{}",
		"/oauth2/token": "/oauth2/token", "/a%20b": "/{}", "/2026-11-30/report": "/{}/report", "*": others, "": others, "/app.4f3e2a1b.js": "/{}",
		"/" + strings.Repeat("a", 60): "/{}", "/static/logo.svg": "/static/logo.svg", "//x": "//x",
		strings.Repeat("/a", 20): strings.Repeat("/a", maxDepth) + "/" + others,
	} {
		got, collapsed := templates.Of(path)
		assert.Equal(t, want, got, path)
		assert.False(t, collapsed)
		again, _ := templates.Of(got)
		assert.Equal(t, again, templates.Again(got), path)
	}
}

// A segment with many names is data, and the names vanish from the endpoints that were counted.
func TestSegmentsThatAreData(t *testing.T) {
	c := newComparer(t, Options{Control: true})
	w := c.Worker()
	name := func(n int) string { return "user" + strings.Repeat("x", n+1) }
	for n := range 40 {
		s := sampleOf(n, `{}`, `{}`, `{}`)
		s.Path = "/users/" + name(n) + "/orders"
		w.Add(s)
	}
	report := c.Report(start)
	require.Len(t, report.Endpoints, 1)
	assert.Equal(t, "GET /users/{}/orders", report.Endpoints[0].String())
	assert.Equal(t, uint64(40), report.Endpoints[0].Compared)
}

func TestPatterns(t *testing.T) {
	templates, err := NewTemplates([]string{"/users/{name}/orders", "/users/me", "/"})
	require.NoError(t, err)
	for path, want := range map[string]string{
		"/users/ann/orders": "/users/{}/orders", "/users/me": "/users/me", "/users/ann": others, "/users//orders": others, "/": "/",
		"/users/ann/orders/": others, "/secret": others,
	} {
		got, _ := templates.Of(path)
		assert.Equal(t, want, got, path)
	}
	for _, bad := range []string{"users", "/a{b}", "/*"} {
		_, err := NewTemplates([]string{bad})
		require.ErrorContains(t, err, bad)
		_, err = New(&Options{Patterns: []string{bad}}, start)
		assert.Error(t, err)
	}
}

// However many paths a scanner requests, the endpoints and segments that are kept are bounded, and no request is lost.
func TestManyEndpoints(t *testing.T) {
	for name, path := range map[string]func(n int) string{
		"first": func(n int) string { return "/" + word(n) },
		"deep":  func(n int) string { return "/" + word(n%50) + "/" + word(n/50%19) + "/" + word(n/1000) },
		"ids":   func(n int) string { return fmt.Sprintf("/%s/%d", word(n%40), n) },
		"static": func(n int) string {
			return "/" + word(n%55) + "/" + word(n/55%18) + "/" + word(n/990%18) + "/" + word(n/17820)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newComparer(t, Options{Control: true})
			w := c.Worker()
			n := 20_000
			if name == "static" {
				n = 100_000
			}
			for i := range n {
				s := sampleOf(i, `{}`, `{}`, `{}`)
				s.Path = path(i)
				w.Add(s)
			}
			report := c.Report(start)
			assert.LessOrEqual(t, len(report.Endpoints), maxEndpoints)
			assert.Equal(t, uint64(n), report.Triples)
			assert.LessOrEqual(t, c.templates.known, 2*maxSegments)
		})
	}
}

// word returns a name without digits.
func word(n int) string {
	var b []byte
	for n += 26; n > 0; n /= 26 {
		b = append(b, byte('g'+n%17), byte('a'+n%26))
	}
	return string(b)
}

func FuzzTemplates(f *testing.F) {
	for _, path := range []string{"/", "/cart/17", "/a/b/c\n/d/e", "//", "/users/me/{}", "/{other}/x"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, text string) {
		templates, err := NewTemplates(nil)
		require.NoError(t, err)
		var all []string
		for path := range strings.SplitSeq(text, "\n") {
			template, _ := templates.Of(path)
			assert.LessOrEqual(t, strings.Count(template, "/"), maxDepth+1)
			all = append(all, template)
		}
		for _, template := range all {
			again := templates.Again(template)
			assert.Equal(t, again, templates.Again(again), "a template that is up to date stays")
		}
	})
}
