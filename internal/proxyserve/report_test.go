package proxyserve

// The counters of a proxy, on their way to the leader.

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/report"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// anybody is an API server that takes every token for that of a proxy of namespace shop.
type anybody struct{}

func (anybody) Create(_ context.Context, in *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	out := in.DeepCopy()
	out.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: in.Spec.Audiences}
	out.Status.User.Username = "system:serviceaccount:shop:" + wellknown.ProxyAccount
	return out, nil
}

// leader is a server of reports that leads until end is called.
func leader(t *testing.T, server *report.Server) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, server.Lead(ctx)) })
	end = func() { cancel(); running.Wait() }
	t.Cleanup(end)
	return end
}

// A proxy reports what its copies met, by route and rule; a leader that comes later counts from then on; and copies go on
// while nobody leads.
func TestAProxyReports(t *testing.T) {
	memory, err := certs.NewMemory(clock.RealClock{}, nil, "127.0.0.1")
	require.NoError(t, err)
	counters := report.NewCounters()
	server := report.New(report.Options{Reviews: anybody{}, Sections: map[string]report.Section{report.Mirrors: counters}, Log: logr.Discard()})
	address := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, server.ListenAndServe(ctx, address, memory.GetCertificate)) })
	t.Cleanup(func() { cancel(); running.Wait() })
	end := leader(t, server)

	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret"), 0o600))
	reportToken = token
	t.Cleanup(func() { reportToken = "" })
	api := serviceAPI(t)
	f := newInFront(t, api, 0)
	var broken atomic.Bool
	var copies atomic.Uint64
	variant := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		copies.Add(1)
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(variant.Close)
	origin := wellknown.OriginName("httpbin")
	f.service(t, "httpbin")
	f.selecting(t, "v2", "v2")
	f.annotated(t, origin, wellknown.ReportTarget{Address: address, CA: string(memory.CABundle())})
	f.pods(t, origin, webserver(t, "v1"), greeter(t))
	f.pods(t, "v2", variant.Listener.Addr().String(), greeter(t))
	f.api.Put(t, fmt.Appendf(nil, `{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "shop", "name": "web", "generation": 1},
		"spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "httpbin", "port": 8000}], "rules": [{"name": "checkout",
		"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 8000}}}], "backendRefs": [{"name": "httpbin", "port": 8000}]}]}}`))
	f.ready(t, http.StatusOK)
	t.Cleanup(func() { t.Logf("reported %v of %d copies", counters.Of("shop", "HTTPRoute/web"), copies.Load()) })
	key := report.Key{Namespace: "shop", Route: "HTTPRoute/web", Rule: "checkout", Target: "shop/v2:8000"}
	reported := func() report.Sum { return counters.Of("shop", "HTTPRoute/web")[key] }
	send := func(n uint64) {
		t.Helper()
		before := copies.Load()
		require.Eventually(t, func() bool {
			if copies.Load()-before < n {
				f.ask(t.Context())
			}
			return copies.Load()-before >= n
		}, time.Minute, time.Millisecond)
	}
	send(3)
	require.Eventually(t, func() bool { s := reported(); return s.OK == copies.Load() && s.Failed == 0 }, time.Minute, 5*time.Millisecond)

	end()
	broken.Store(true)
	send(2) // copies go on
	leader(t, server)
	require.Eventually(t, func() bool { return len(counters.Of("shop", "HTTPRoute/web")) == 1 }, time.Minute, 5*time.Millisecond)
	before := reported()
	send(2)
	require.Eventually(t, func() bool { s := reported(); return s.ByKind["5xx"] >= before.ByKind["5xx"]+2 }, time.Minute, 5*time.Millisecond)
	assert.LessOrEqual(t, reported().OK, uint64(0), "what was copied before this leader's time does not count")
}
