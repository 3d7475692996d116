package gate

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// stranger is a URL at which the API server does not reach mirrorgate, and a part of its own words about it.
type stranger struct{ name, url, words string }

func strangers(t *testing.T) []stranger {
	t.Helper()
	listen := func() net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	silent, closed := listen(), listen() // the backlog of silent accepts, and nobody answers
	require.NoError(t, closed.Close())
	plain, other := httptest.NewServer(http.NotFoundHandler()), httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(func() { plain.Close(); other.Close() })
	return []stranger{
		{"nobody listens", "https://" + closed.Addr().String(), "connection refused"},
		{"nobody answers", "https://" + silent.Addr().String(), "context deadline exceeded"},
		{"another certificate", other.URL, "certificate signed by unknown authority"},
		{"something else answers", strings.Replace(plain.URL, "http:", "https:", 1), "server gave HTTP response to HTTPS client"},
		{"no such name", "https://mirrorgate.invalid:9443", "mirrorgate.invalid"},
	}
}

// refusals creates n mirrored routes, four at a time, and returns the errors.
func refusals(t *testing.T, ns, prefix string, n int) (refused []error) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				name := fmt.Sprintf("%s-%d", prefix, i)
				text := virtualService(name, "httpbin-v2", "")
				if kind := everyKind[i%3].kind; kind != "VirtualService" {
					text = gatewayRoute(ref{kind, name}, "httpbin-v2", "")
				}
				if err := create(t, ns, text); err != nil {
					mu.Lock()
					refused = append(refused, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return refused
}

// TestAURLThatIsNotReachedRefusesNoWrite has a process whose --webhook-url leads elsewhere. It registers nothing
// that is called for a write of anybody, and reports the API server's own reason.
func TestAURLThatIsNotReachedRefusesNoWrite(t *testing.T) {
	for _, s := range strangers(t) {
		t.Run(s.name, func(t *testing.T) {
			ns := env.Namespace(t)
			u, err := url.Parse(s.url)
			require.NoError(t, err)
			server := env.Launch(t, "--webhook-url", s.url)
			refused := refusals(t, ns, "while-it-tries", 500) // from before it registers on
			harness.Eventually(t, func() bool {
				return strings.Contains(server.Log(), "The API server does not reach "+s.url) && strings.Contains(server.Log(), s.words)
			}, "the log does not have the API server's words")
			refused = append(refused, refusals(t, ns, "after-its-report", 500)...)
			assert.Empty(t, refused)
			status, body := harness.Fetch(t, server.HealthURL+"/readyz")
			assert.Equal(t, http.StatusInternalServerError, status)
			assert.Contains(t, body, "[-]reached failed")
			name := webhook.Registration{URL: u}.Name()
			m, _ := registered(t, name)
			assert.Empty(t, m.Name, "a webhook that does not answer would only slow writes down")

			server.Stop(t)
			m, v := registered(t, name)
			assert.Empty(t, m.Name+v.Name)
		})
	}
}

func TestUninstallRemovesTheRegistrationThatACrashLeft(t *testing.T) {
	ns := env.Namespace(t)
	server := env.Serve(t)
	env.Crash(t, server)
	written := gatewayRoute(ref{"HTTPRoute", "web"}, "httpbin-v2", "")
	require.ErrorContains(t, create(t, ns, written), "failed calling webhook")

	uninstall := func(flags ...string) string {
		out, err := exec.CommandContext(t.Context(), env.Binary, append([]string{"uninstall", "--kubeconfig", env.Kubeconfig}, flags...)...).CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	want := "webhook configurations " + server.Registration(t) + ": deleted; they were registered by `mirrorgate serve --webhook-url " + server.URL + "`\n"
	require.Contains(t, uninstall("--dry-run"), want)
	require.ErrorContains(t, create(t, ns, written), "failed calling webhook", "a dry run changes nothing")
	require.Contains(t, uninstall(), want)
	m, v := registered(t, server.Registration(t))
	require.Empty(t, m.Name+v.Name)
	harness.Eventually(t, func() bool { return create(t, ns, written) == nil }, "the write is still refused")
}
