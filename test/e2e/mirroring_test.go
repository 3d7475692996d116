package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Istio's task "Mirroring" in its Gateway API form: the mirror is written before its variant exists, and then
// follows it.
func TestMirrorFollowsItsVariant(t *testing.T) {
	installed(t)
	s := newStage(t, "mirroring")
	s.apply(t, documents+"httpbin-v1.yaml", documents+"httpbin.yaml", documents+"default-route.yaml")
	s.ready(t, "httpbin-v1")

	t.Log("the mirror is written while variant 2 is absent")
	s.apply(t, documents+"mirror-route.yaml")
	require.Equal(t, "parked", s.mirror(t), "right after the write")
	t.Log("variant 2 is deployed")
	s.apply(t, documents+"httpbin-v2.yaml")
	s.mirrorBecomes(t, "active")
	s.ready(t, "httpbin-v2")
	t.Log("variant 2 is scaled to 0")
	s.scale(t, "0")
	s.mirrorBecomes(t, "parked")
	t.Log("variant 2 is scaled up again")
	s.scale(t, "1")
	s.mirrorBecomes(t, "active")
	t.Log("the author removes the mirror")
	s.apply(t, documents+"default-route.yaml")
	require.Contains(t, s.mirror(t), "neither")
}

// A client's request through the proxy: variant 1 answers it, and variant 2 gets a copy.
func TestCopyArrivesAtVariant2(t *testing.T) {
	s := newStage(t, "traffic")
	s.apply(t, documents+"httpbin-v1.yaml", documents+"httpbin-v2.yaml", documents+"httpbin.yaml",
		documents+"default-route.yaml", "testdata/client.yaml", "testdata/proxy.yaml")
	s.ready(t, "httpbin-v1", "httpbin-v2", "curl", "proxy")
	log := func(variant string) string { return s.kubectl(t, "logs", "deployment/"+variant) }
	// get is the request that the task has its reader send; the path distinguishes requests in the logs. A
	// new Service leads nowhere for a short time, hence the retries.
	get := func(path string) string {
		return s.kubectl(t, "exec", "deployment/curl", "--", "curl", "-sS", "-f", "-m5", "--retry", "60", "--retry-delay", "1",
			"--retry-connrefused", "-H", "Host: httpbin:8000", "http://proxy:8000"+path)
	}
	copied := func(path string) {
		t.Helper()
		want := fmt.Sprintf(`"GET %s HTTP/1.1" 200 "curl/`, path)
		eventually(t, func() string {
			get(path) // more than once: the variant may still be starting
			for line := range strings.Lines(log("httpbin-v2")) {
				if strings.HasPrefix(line, want) {
					require.Contains(t, line, `"httpbin-shadow:8000"`)
					return ""
				}
			}
			return "no copy of " + path + " in variant 2's log:\n" + log("httpbin-v2")
		})
	}

	answer := get("/headers?with=mirror")
	require.Contains(t, answer, `"Host":"httpbin:8000"`, "variant 1 did not answer")
	require.Contains(t, log("httpbin-v1"), `"GET /headers?with=mirror HTTP/1.1" 200 "curl/`)
	require.NotContains(t, log("httpbin-v1"), "shadow")
	copied("/headers?with=mirror")

	t.Log("without variant 2 the client's requests still succeed")
	s.scale(t, "0")
	eventually(t, func() string { return s.kubectl(t, "get", "pods", "-l=version=v2", "-o=name") })
	require.Contains(t, get("/headers?with=nobody"), `"Host":"httpbin:8000"`)
	s.scale(t, "1")
	s.ready(t, "httpbin-v2")
	copied("/headers?with=another")

	t.Log("the mirror is turned off in the ConfigMap")
	s.turnMirrorOff(t)
	for range 10 {
		require.Contains(t, get("/headers?with=none"), `"Host":"httpbin:8000"`)
	}
	require.Contains(t, log("httpbin-v1"), `/headers?with=none`)
	t.Log("the mirror is turned on again: an earlier copy would have arrived before this one")
	s.reload(t, func() { s.apply(t, "testdata/proxy.yaml") })
	copied("/headers?with=again")
	require.NotContains(t, log("httpbin-v2"), "with=none")
}

// turnMirrorOff removes the mirror from the proxy's rules.
func (s stage) turnMirrorOff(t *testing.T) {
	t.Helper()
	rules := s.kubectl(t, "get", "configmap", "proxy", "-o=yaml")
	before, after, found := strings.Cut(rules, "      - filters:\n")
	require.True(t, found, rules)
	_, after, found = strings.Cut(after, "        backendRefs:")
	require.True(t, found, rules)
	s.reload(t, func() { require.NoError(t, s.try(t, before+"      - backendRefs:"+after, "apply", "-f=-")) })
}

// reload changes the proxy's ConfigMap and waits until the proxy serves the new configuration.
func (s stage) reload(t *testing.T, change func()) {
	t.Helper()
	applied := func() string {
		metrics := s.kubectl(t, "exec", "deployment/curl", "--", "curl", "-sSf", "-m5", "http://proxy:9090/metrics")
		_, after, found := strings.Cut(metrics, `mirrorgate_proxy_config_reloads_total{result="applied"} `)
		require.True(t, found, metrics)
		count, _, _ := strings.Cut(after, "\n")
		return count
	}
	before := applied()
	change()
	tries := 0
	eventually(t, func() string {
		// The kubelet updates a pod's volumes when the pod changes, otherwise once a minute.
		tries++
		s.kubectl(t, "annotate", "pods", "-l=app=proxy", "--overwrite", fmt.Sprintf("look=%s-%d", before, tries))
		if applied() == before {
			return "the proxy has not read the new ConfigMap"
		}
		return ""
	})
}
