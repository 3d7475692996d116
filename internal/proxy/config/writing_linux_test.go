package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWatchWriting holds a file open for writing: the callback waits for the whole file.
func TestWatchWriting(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "proxy.yaml"), "old")
	w, err := NewWatcher()
	require.NoError(t, err)
	require.NoError(t, w.Watch([]string{file}))
	ctx, cancel := context.WithCancel(t.Context())
	seen, done := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, nil, func() {
			data, _ := os.ReadFile(file)
			seen <- string(data)
		})
	}()
	require.Equal(t, "old", <-seen)
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0o600)
	require.NoError(t, err)
	_, err = out.WriteString("new ")
	require.NoError(t, err)
	select {
	case got := <-seen:
		assert.Fail(t, "the file is read before it is whole", got)
	case <-time.After(10 * quietPeriod):
	}
	_, err = out.WriteString("and whole")
	require.NoError(t, err)
	require.NoError(t, out.Close())
	assert.Equal(t, "new and whole", <-seen)
	cancel()
	<-done
}
