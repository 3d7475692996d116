package verbs

// stop, resume and step against a real API server: what they write, and that they write no route.

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const webPolicy = `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: {name: web}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}]
  ramp: {steps: [{percent: 1, for: 10m}, {percent: 10, for: 1h}, {percent: 100}]}
`

func TestSteering(t *testing.T) {
	ns := env.Namespace(t)
	_, stderr, code := run(t, env.Kubeconfig, "", "step", "web", "2", "-n", ns)
	if code != 1 || !strings.Contains(stderr, "no MirrorPolicies") { // another test may have installed the CRDs
		assert.Contains(t, stderr, `no MirrorPolicy is called "web"`)
	}
	env.InstallPolicyKinds(t)
	apply(t, ns, httpRoute, webPolicy, strings.Replace(webPolicy, "name: web}\nspec", "name: plain}\nspec", 1))
	env.MustKubectl(t, "", "-n", ns, "patch", "mirrorpolicy", "plain", "--type=json", "-p", `[{"op": "remove", "path": "/spec/ramp"}]`)
	before := env.MustKubectl(t, "", "-n", ns, "get", "httproute", "web", "-o", "jsonpath={.metadata.resourceVersion}")
	annotations := func() string {
		return env.MustKubectl(t, "", "-n", ns, "get", "mirrorpolicy", "web", "-o",
			`go-template={{range $k, $v := .metadata.annotations}}{{if ne $k "kubectl.kubernetes.io/last-applied-configuration"}}{{$k}}={{$v}};{{end}}{{end}}`)
	}
	ok := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, code := run(t, env.Kubeconfig, "", append(args, "-n", ns)...)
		require.Equal(t, 0, code, "%v: %s", args, stderr)
		assert.Equal(t, "mirrorpolicy/web "+want+"\n", stdout, args)
	}
	refused := func(exit int, want string, args ...string) {
		t.Helper()
		stdout, stderr, code := run(t, env.Kubeconfig, "", append(args, "-n", ns)...)
		assert.Equal(t, exit, code, "%v: %s", args, stderr)
		assert.Contains(t, stderr, want, args)
		assert.Empty(t, stdout)
	}

	ok("is held at step 2 of 3, 10 %", "step", "web", "2")
	assert.Equal(t, "mirrorgate.dev/step=2;", annotations())
	ok("is held at step 2 already", "step", "mirrorpolicy/web", "2")
	ok("is held at step 1 of 3, 1 % (dry run)", "step", "mirrorpolicies/web", "1", "--dry-run")
	assert.Equal(t, "mirrorgate.dev/step=2;", annotations(), "a dry run stores nothing")
	refused(1, `step: Invalid value: 7: MirrorPolicy "web" has 3 steps: 1 %, 10 %, 100 %`, "step", "web", "7")
	refused(1, `step: Invalid value: "two": must be the number of a step, from 1, or auto`, "step", "web", "two")
	refused(1, `MirrorPolicy "plain" in namespace "`+ns+`" has no ramp`, "step", "plain", "1")
	refused(1, "is stopped; its ramp is held at step 2, which `mirrorgate step web auto` ends", "resume", "web")
	ok("goes on from step 2", "step", "web", "auto")
	refused(1, `nobody holds the ramp of MirrorPolicy "web"`, "step", "web", "auto")
	refused(1, `nothing of MirrorPolicy "web" in namespace "`+ns+`" is stopped`, "resume", "web")

	refused(2, `required flag(s) "reason" not set`, "stop", "web")
	refused(1, "reason: Required value", "stop", "web", "--reason", " ")
	refused(1, "reason: Too long", "stop", "web", "--reason", strings.Repeat("x", 1025))
	ok("stopped", "stop", "web", "--reason", "incident 42")
	ok("is stopped already", "stop", "web", "--reason", "incident 42")
	ok(`stays stopped; the reason was "incident 42"`, "stop", "web", "--reason", "incident 43")
	assert.Equal(t, "mirrorgate.dev/stop=incident 43;", annotations())
	ok(`resumed (stopped by hand: "incident 43")`, "resume", "web")
	assert.Empty(t, annotations())

	refused(1, `no MirrorPolicy is called "wbe" in namespace "`+ns+`"; did you mean web?`, "resume", "wbe")
	refused(2, "must be NAME or mirrorpolicy/NAME; what is steered is a MirrorPolicy, never a route", "resume", "httproute/web")

	assert.Equal(t, before, env.MustKubectl(t, "", "-n", ns, "get", "httproute", "web", "-o", "jsonpath={.metadata.resourceVersion}"), "no route is written")
	managers := env.MustKubectl(t, "", "-n", ns, "get", "mirrorpolicy", "web", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}")
	assert.NotContains(t, managers, "mirrorgate-cli", "it owns none of the fields that it took away again")
	reader := account(t, ns, "mirrorpolicies")
	_, stderr, code = run(t, reader, "", "stop", "web", "--reason", "x", "-n", ns)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, `cannot patch resource "mirrorpolicies"`)
}
