package demo

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// Requests that hang when it ends are set free, and each lets a copy go that waited behind it: those whose
// head was read before the connection broke must not be in the log of a variant that is gone.
func TestVariantThatCrashedLogsNothing(t *testing.T) {
	v, err := newVariant()
	require.NoError(t, err)
	v.hang()
	v.stop()
	v.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/headers", http.NoBody))
	require.Empty(t, v.logged())
}
