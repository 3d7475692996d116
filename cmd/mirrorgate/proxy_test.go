package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestProxyDrain ends a proxy while a request is under way: in time it is answered, out of
// time it is broken off, and the error says which.
func TestProxyDrain(t *testing.T) {
	for name, test := range map[string]struct {
		timeout time.Duration
		want    error
	}{"ends": {time.Minute, nil}, "broken off": {50 * time.Millisecond, exitBrokenOff}} {
		t.Run(name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				arrived <- struct{}{}
				<-release
				fmt.Fprint(w, "late")
			}))
			defer backend.Close()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			address := l.Addr().String()
			require.NoError(t, l.Close())
			file := filepath.Join(t.TempDir(), "proxy.yaml")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
listeners: [{address: %q, rules: [{backendRefs: [{name: v1, port: 80}]}]}]
services: {v1: {80: [%q]}}`, address, backend.Listener.Addr()), 0o600))

			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			opts := &proxyOptions{Config: file, DrainTimeout: test.timeout, LogLevel: "error", LogFormat: "text"}
			go func() { ended <- runProxy(ctx, opts, io.Discard, io.Discard) }()
			answer := make(chan string)
			go func() { answer <- ask(t.Context(), address) }()
			<-arrived
			cancel()
			if test.want == nil {
				close(release)
				assert.Equal(t, "late", <-answer)
				assert.NoError(t, <-ended)
			} else {
				require.ErrorIs(t, <-ended, test.want)
				close(release)
				assert.NotEqual(t, "late", <-answer)
			}
		})
	}
}

// ask waits until somebody listens, and returns the answer or what went wrong with it.
func ask(ctx context.Context, address string) string {
	client := http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if ctx.Err() != nil {
			return err.Error()
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, http.NoBody)
	if err != nil {
		return err.Error()
	}
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fmt.Sprint(string(body), errText(err))
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
