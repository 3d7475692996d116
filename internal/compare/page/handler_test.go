package page_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/util/jsonpath"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/compare/page"
	"github.com/mirrorgate/mirrorgate/internal/compare/page/pagetest"
)

// flaggers is the body that Flagger's documents show for a webhook.
const flaggers = `{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"85d557f47b","metadata":{"test":"all","token":"16688eb5e9f289f1991c"}}`

func ask(verdict compare.Verdict, method, path, body string) (response *httptest.ResponseRecorder, text string) {
	r := pagetest.Report()
	r.Verdict, r.Summary = verdict, string(verdict)+": because"
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	response = httptest.NewRecorder()
	page.Handler("", func() *compare.Report { return r }).ServeHTTP(response, request)
	return response, response.Body.String()
}

// Flagger goes on after a status of at most 202, and shows the body of any other. Its rollback hook is the other way
// round: a good status rolls back.
func TestFlagger(t *testing.T) {
	for path, goes := range map[string]compare.Verdict{page.ConfirmPath: compare.Same, page.RollbackPath: compare.Different} {
		for _, verdict := range []compare.Verdict{compare.Same, compare.Different, compare.Undecided} {
			response, text := ask(verdict, http.MethodPost, path, flaggers)
			assert.Equal(t, verdict == goes, response.Code <= 202, "%s %s", path, verdict)
			assert.Equal(t, string(verdict)+": because\n", text)
			if verdict != goes {
				assert.Equal(t, http.StatusConflict, response.Code)
			}
		}
	}
	response, _ := ask(compare.Same, http.MethodGet, page.ConfirmPath, "")
	assert.Equal(t, http.StatusMethodNotAllowed, response.Code)
	response, _ = ask(compare.Same, http.MethodPost, page.ConfirmPath, strings.Repeat("x", 1<<20))
	assert.Equal(t, http.StatusOK, response.Code, "what Flagger sends does not matter")
}

// Argo Rollouts' web provider decodes the answer, follows a JSON path and compares the text.
func TestArgoRollouts(t *testing.T) {
	response, text := ask(compare.Undecided, http.MethodGet, page.JSONPath, "")
	assert.Equal(t, http.StatusOK, response.Code)
	var data any
	require.NoError(t, json.Unmarshal([]byte(text), &data))
	parser, found := jsonpath.New("metrics"), bytes.Buffer{}
	require.NoError(t, parser.Parse("{$.verdict}"))
	require.NoError(t, parser.Execute(&found, data))
	assert.Equal(t, "undecided", found.String())
}

// The page forbids frames, and no copy of it is kept.
func TestServedPage(t *testing.T) {
	response, text := ask(compare.Same, http.MethodGet, page.Path, "")
	assert.Equal(t, page.Policy+"; frame-ancestors 'none'", response.Header().Get("Content-Security-Policy"))
	assert.Equal(t, "no-store", response.Header().Get("Cache-Control"))
	assert.Contains(t, text, "<h1 class=\"same\">same: because</h1>")
	response, _ = ask(compare.Same, http.MethodGet, "/", "")
	assert.Equal(t, http.StatusNotFound, response.Code)
}
