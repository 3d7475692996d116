package page_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/compare/page"
	"github.com/mirrorgate/mirrorgate/internal/compare/page/pagetest"
)

func write(t *testing.T, r *compare.Report) string {
	t.Helper()
	var out strings.Builder
	require.NoError(t, page.Write(&out, r, "HTTPRoute shop/web"))
	return out.String()
}

// The page names what it is about, and asks nobody for anything.
func TestPage(t *testing.T) {
	text := write(t, pagetest.Report())
	for _, want := range []string{
		"HTTPRoute shop/web", "different: GET /cart/{} body.price", "number → digits in text", "equal to a request that was compared shortly before",
		`<a href="#endpoint-0">`, `<polygon class="band" points="0,0 `, "default-src &#39;none&#39;; style-src &#39;sha256-", "web-v1 to web-v2 (7c9d)",
		"replicas of the primary differ", "60 triples of 1 different request.",
	} {
		assert.Contains(t, text, want)
	}
	for _, bad := range []string{"<script", "http:", "https:", "url(", "@import", " style=", " onclick", "ZgotmplZ"} {
		assert.NotContains(t, text, bad)
	}
}

// A name of a field or of an endpoint is text, whatever a variant makes of it.
func TestHostileNames(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	r := pagetest.Report()
	r.Summary, r.Endpoints[0].Path, r.Endpoints[0].Fields[0].Field, r.Endpoints[0].Fields[0].Example = evil, evil, evil, evil
	r.Skipped[evil], r.Epoch = 3, evil
	text := write(t, r)
	assert.NotContains(t, text, "<script")
	assert.NotContains(t, text, "<img")
}

// A report without requests is a page, too.
func TestEmpty(t *testing.T) {
	c, err := compare.New(&compare.Options{}, time.Unix(0, 0))
	require.NoError(t, err)
	text := write(t, c.Report(time.Unix(1, 0)))
	for _, want := range []string{"No request has been compared.", "Every copied request was compared.", "Without a control", "not bounded yet"} {
		assert.Contains(t, text, want)
	}
}

// Every reason has words.
func TestMeanings(t *testing.T) {
	r := pagetest.Report()
	for _, name := range page.Meanings() {
		r.Skipped[name] = 1
	}
	text := write(t, r)
	for _, name := range page.Meanings() {
		assert.NotContains(t, text, ">"+name+"<")
	}
}
