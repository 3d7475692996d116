package gate

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// proxy stands between mirrorgate and the API server: a fault that a test puts into it affects mirrorgate
// alone.
type proxy struct {
	// Kubeconfig reaches the API server through the proxy.
	Kubeconfig string

	mu     sync.Mutex
	before func(w http.ResponseWriter, r *http.Request) (done bool)
	// frozen is closed when watches resume; nil while they run.
	frozen chan struct{}
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{Kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	target, err := url.Parse(env.URL)
	require.NoError(t, err)
	transport, err := rest.TransportFor(env.Config(t))
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport, forward.FlushInterval = transport, -1
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		before := p.before
		p.mu.Unlock()
		if before != nil && before(w, r) {
			return
		}
		if r.URL.Query().Get("watch") != "" {
			w = &stream{w, p, r}
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.Thaw()
		p.Intercept(nil)
		server.CloseClientConnections()
		server.Close()
	})
	config, err := clientcmd.LoadFromFile(env.Kubeconfig)
	require.NoError(t, err)
	for _, c := range config.Clusters {
		c.Server, c.CertificateAuthority, c.CertificateAuthorityData = server.URL, "", nil
	}
	require.NoError(t, clientcmd.WriteToFile(*config, p.Kubeconfig))
	return p
}

// Intercept lets a function answer requests in place of the API server; it returns true for those that it
// answered.
func (p *proxy) Intercept(before func(w http.ResponseWriter, r *http.Request) (done bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = before
}

// Freeze holds back all events of watches until Thaw.
func (p *proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// Thaw releases the events that Freeze held back.
func (p *proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// stream is the response to a watch.
type stream struct {
	http.ResponseWriter
	proxy   *proxy
	request *http.Request
}

func (s *stream) Write(b []byte) (int, error) {
	s.proxy.mu.Lock()
	frozen := s.proxy.frozen
	s.proxy.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-s.request.Context().Done():
		}
	}
	return s.ResponseWriter.Write(b)
}

func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// refuse answers with a Status, as the API server does.
func refuse(t *testing.T, w http.ResponseWriter, code int32, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(code))
	assert.NoError(t, json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: "refused by a test",
	}))
}

// hang blocks a request until its client goes away, which the server notices only after it has read the body.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// isTouch reports whether a request is a touch of a route in the namespace.
func isTouch(r *http.Request, ns string) bool {
	return r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/namespaces/"+ns+"/")
}

// register registers the webhooks of a process that does not register itself.
func register(t *testing.T, server *harness.Server, bundle []byte) {
	t.Helper()
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(env.Config(t))
	require.NoError(t, err)
	require.NoError(t, webhook.Registration{URL: u, CABundle: bundle}.Apply(t.Context(), client))
	t.Cleanup(func() { env.Unregister(context.WithoutCancel(t.Context()), t, server) })
}
