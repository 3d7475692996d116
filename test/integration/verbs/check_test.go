package verbs

import (
	"encoding/json"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// result is a line of `mirrorgate check -o json`.
type result struct{ Check, Level, Text, Hint, Docs string }

// check runs `mirrorgate check` and returns its findings, by check, and its exit code.
func check(t *testing.T, kubeconfig string, args ...string) (findings map[string]result, code int) {
	t.Helper()
	stdout, stderr, code := run(t, kubeconfig, "", append([]string{"check", "-o", "json"}, args...)...)
	var report struct {
		Checks []result
		OK     bool
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &report), "%s\n%s", stdout, stderr)
	require.NotEmpty(t, report.Checks)
	require.Equal(t, code == 0, report.OK)
	findings = map[string]result{}
	for _, r := range report.Checks {
		if r.Level != "ok" {
			findings[r.Check] = r
		}
	}
	return findings, code
}

// TestCheckFollowsAProcess checks a cluster without mirrorgate, with it, and after it was frozen and killed.
func TestCheckFollowsAProcess(t *testing.T) {
	findings, code := check(t, env.Kubeconfig, "--pre")
	assert.Equal(t, 0, code)
	assert.Empty(t, findings, "the cluster has everything that mirrorgate needs")

	findings, code = check(t, env.Kubeconfig)
	assert.Equal(t, 1, code)
	assert.Equal(t, "no webhook of mirrorgate is registered", findings["webhooks-registered"].Text)

	server := env.Serve(t)
	findings, code = check(t, env.Kubeconfig, "--wait", "1m", "--fail-on", "warning")
	assert.Equal(t, 0, code)
	assert.Empty(t, findings)

	ns := env.Namespace(t)
	env.MustKubectl(t, "", "label", "namespace", ns, "mirrorgate.dev/admission=disabled")
	apply(t, ns, httpRoute)
	findings, _ = check(t, env.Kubeconfig)
	assert.Empty(t, findings, "a mirror in a namespace that has opted out is no fault")

	server.Signal(t, syscall.SIGSTOP)
	findings, code = check(t, env.Kubeconfig)
	assert.Equal(t, 1, code)
	assert.Contains(t, findings["webhooks-answer"].Text, `failed calling webhook`)
	assert.Contains(t, findings["webhooks-answer"].Text, server.URL+"/validate", "the API server's own words")
	server.Signal(t, syscall.SIGCONT)

	env.MustKubectl(t, "", "delete", "mutatingwebhookconfiguration", server.Registration(t))
	findings, code = check(t, env.Kubeconfig)
	assert.Equal(t, 1, code)
	assert.Contains(t, findings["webhooks-registered"].Text, "no mutating webhook for")
}

// A URL that the API server does not reach is named, also by check.
func TestCheckOfAURLThatIsNotReached(t *testing.T) {
	server := env.Launch(t, "--webhook-url", "https://mirrorgate.invalid:9443")
	harness.Eventually(t, func() bool {
		findings, _ := check(t, env.Kubeconfig)
		return findings["webhooks-registered"].Text == "the API server does not reach https://mirrorgate.invalid:9443, so mirrorgate serve registers nothing there"
	}, "check does not say so")
	server.Stop(t)
}

// A mirror that nothing moves is found, and two that decide.
func TestCheckFindsARouteThatIsNotAsDecided(t *testing.T) {
	ns := env.Namespace(t)
	apply(t, ns, httpRoute) // without mirrorgate its mirror is stored, although there is no variant
	first := env.Serve(t, "--routes", "istio")
	findings, code := check(t, env.Kubeconfig)
	assert.Equal(t, 0, code)
	assert.Contains(t, findings["routes"].Text, "HTTPRoute "+ns+"/web")
	first.Stop(t)
	env.Serve(t)
	env.Serve(t)
	findings, code = check(t, env.Kubeconfig, "--wait", "1m")
	assert.Equal(t, 0, code)
	assert.Contains(t, findings["one-mirrorgate"].Text, "perhaps by different policies")
}

// With few rights check goes on, and says which are missing.
func TestCheckWithFewRights(t *testing.T) {
	ns := env.Namespace(t)
	findings, code := check(t, account(t, ns, "httproutes"))
	assert.Equal(t, 0, code)
	assert.Equal(t, "unread", findings["webhooks-registered"].Level)
	assert.Contains(t, findings["webhooks-registered"].Text, `cannot list resource "validatingwebhookconfigurations"`)
	assert.Equal(t, "unread", findings["mirror-percent"].Level)
	_, code = check(t, account(t, ns, "httproutes"), "--pre")
	assert.Equal(t, 1, code, "who may not create cluster roles cannot install mirrorgate")
}
