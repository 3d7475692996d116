package gate

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// replicas starts two processes that elect a leader in the namespace. In a cluster they would share one
// registration; here each has its own, so that a killed process must not block writes.
func replicas(t *testing.T, ns string, kubeconfigs ...string) [2]*harness.Server {
	t.Helper()
	flags := []string{"--leader-elect", "--leader-election-namespace", ns, "--failure-policy", "Ignore"}
	var servers [2]*harness.Server
	for i := range servers {
		with := flags
		if len(kubeconfigs) > 0 {
			with = append([]string{"--kubeconfig", kubeconfigs[i]}, flags...)
		}
		servers[i] = env.Serve(t, with...)
	}
	return servers
}

// leader returns the process that leads and the one that follows.
func leader(t *testing.T, servers [2]*harness.Server) (leads, follows *harness.Server) {
	t.Helper()
	leads = servers[0]
	harness.Eventually(t, func() bool {
		for i, s := range servers {
			if s.Metric(t, "leader_election_master_status") == 1 {
				leads, follows = s, servers[1-i]
				return true
			}
		}
		return false
	}, "no process leads")
	return leads, follows
}

// ask sends an admission request to a process, as the API server does.
func ask(t *testing.T, s *harness.Server, path string, request admissionv1.AdmissionRequest) string {
	t.Helper()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &request,
	})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // each process has a CA of its own
		DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(answer))
	return string(answer)
}

func TestTwoReplicasGiveTheSameAnswers(t *testing.T) {
	ns := env.Namespace(t)
	servers := replicas(t, ns)
	apply(t, ns, harness.Workload("httpbin-v2"), targets)
	apply(t, ns, routesOfEveryKind(), destinationRule("version", "httpbin-v2"))
	wait(t, ns, "active", everyKind...)
	for _, manifest := range []string{
		gatewayRoute(httpRoute, "httpbin-v2", ""), gatewayRoute(grpcRoute, "httpbin-v3", ""), virtualService("vs", "httpbin-v2", ""),
		virtualService("a", "httpbin-v2", "v2"), virtualService("b", "httpbin-v2", "v3"), virtualService("c", "two-ports", ""),
		badVirtualService, badHTTPRoute, underBackend, gated["in mirrors, beside nulls"].manifest,
	} {
		u := object(t, manifest)
		u.SetNamespace(ns)
		raw, err := u.MarshalJSON()
		require.NoError(t, err)
		gvk := u.GroupVersionKind()
		request := admissionv1.AdmissionRequest{
			UID: "1", Kind: metav1.GroupVersionKind(gvk), Namespace: ns, Name: u.GetName(), Operation: admissionv1.Create,
			Resource: metav1.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: strings.ToLower(gvk.Kind) + "s"},
			Object:   runtime.RawExtension{Raw: raw},
		}
		for _, path := range []string{"/mutate", "/validate"} {
			first := ask(t, servers[0], path, request)
			require.Equal(t, first, ask(t, servers[1], path, request), "%s %s", path, manifest)
			require.Equal(t, first, ask(t, servers[0], path, request), "again")
		}
	}
}

// many are routes with a variant each.
func many(n int) (routes []ref, manifest string) {
	var text []string
	for i := range n {
		name := fmt.Sprintf("v%02d", i)
		r := ref{"HTTPRoute", name}
		routes = append(routes, r)
		text = append(text, harness.Workload(name), gatewayRoute(r, name, ""))
	}
	return routes, strings.Join(text, "\n---\n")
}

func TestLeaderThatIsKilledInTheMiddleLosesNoFlip(t *testing.T) {
	ns := env.Namespace(t)
	proxies := [2]*proxy{newProxy(t), newProxy(t)}
	servers := replicas(t, ns, proxies[0].Kubeconfig, proxies[1].Kubeconfig)
	routes, manifest := many(30)
	apply(t, ns, manifest)
	wait(t, ns, "active", routes...)
	leads, follows := leader(t, servers)
	require.Zero(t, follows.Metric(t, "mirrorgate_touches_total"), "only the leader touches routes")

	// The leader completes ten flips; the next ones are in progress when it is killed.
	var touches atomic.Int64
	stuck := make(chan struct{})
	proxies[slices.Index(servers[:], leads)].Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !isTouch(r, ns) {
			return false
		}
		switch n := touches.Add(1); {
		case n <= 10:
			return false
		case n == 15:
			close(stuck)
		}
		hang(r)
		return true
	})
	kubectl(t, ns, "scale", "deployment", "--all", "--replicas=0")
	<-stuck
	env.Crash(t, leads)
	require.Contains(t, strings.Join(states(t, ns, routes...), " "), "=active")
	took := within(t, time.Minute, ns, "parked", routes...)
	t.Logf("all parked %s after the leader was killed", took)

	kubectl(t, ns, "scale", "deployment", "--all", "--replicas=1")
	wait(t, ns, "active", routes...)
	alive(t, follows)
}

// TestLeaderThatLosesItsLeaseKeepsServing freezes the leader until another leads.
func TestLeaderThatLosesItsLeaseKeepsServing(t *testing.T) {
	ns := env.Namespace(t)
	servers := replicas(t, ns)
	routes, manifest := many(3)
	apply(t, ns, manifest)
	wait(t, ns, "active", routes...)
	leads, follows := leader(t, servers)
	leads.Signal(t, syscall.SIGSTOP)
	kubectl(t, ns, "scale", "deployment", "--all", "--replicas=0")
	within(t, time.Minute, ns, "parked", routes...)
	leads.Signal(t, syscall.SIGCONT)

	harness.Eventually(t, func() bool { return leads.Metric(t, "leader_election_master_status") == 0 }, "it still believes that it leads")
	alive(t, leads)
	// And it can lead again.
	env.Crash(t, follows)
	kubectl(t, ns, "scale", "deployment", "--all", "--replicas=1")
	within(t, time.Minute, ns, "active", routes...)
	require.InDelta(t, 1, leads.Metric(t, "leader_election_master_status"), 0)
}
