package demo

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// The whole play, with real sockets on the loopback address.
func TestLocalPlay(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, RunLocal(t.Context(), Options{Timeout: time.Minute, Out: &b}), b.String())
	t.Log(b.String())
	require.True(t, strings.HasSuffix(b.String(), "\n3 documents, 14 steps, all seen; no request failed\n"))
	for line := range strings.Lines(b.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(line)-1, width, line)
	}
}

func TestLocalPlayEndsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var b bytes.Buffer
	cancel()
	require.ErrorIs(t, RunLocal(ctx, Options{Timeout: time.Minute, Out: &b}), ErrFailed)
	require.True(t, strings.HasSuffix(b.String(), "\nInterrupted.\n"), b.String())
}
