package verbs

// The plugin of a real kubectl, and the verbs that show and undo limits, against a real API server.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// plugin returns a function that runs kubectl with the plugin in its PATH.
func plugin(t *testing.T) func(args ...string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"kubectl-mirrorgate", "kubectl_complete-mirrorgate"} {
		require.NoError(t, os.Symlink(env.Binary, filepath.Join(folder, name)))
	}
	return func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), env.KubectlPath, args...)
		cmd.Env = append(os.Environ(), append(env.Env(), "HOME="+env.Dir, "PATH="+folder+":"+os.Getenv("PATH"), "KUBECONFIG="+env.Kubeconfig)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "kubectl %s: %s", strings.Join(args, " "), out)
		return string(out)
	}
}

func TestThePluginOfKubectl(t *testing.T) {
	env.InstallPolicyKinds(t)
	ns := env.Namespace(t)
	server := env.Serve(t)
	apply(t, ns, harness.Workload("v2"))
	waitForVariant(t, ns)
	apply(t, ns, webPolicy)
	env.MustKubectl(t, httpRoute, "-n", ns, "apply", "--server-side", "--field-manager=git", "-f", "-")
	kubectl := plugin(t)
	harness.Eventually(t, func() bool {
		return strings.Contains(kubectl("mirrorgate", "status", "-n", ns, "-o", "wide"), "1% of 25%")
	}, "the first step")
	harness.Eventually(t, func() bool {
		return strings.Contains(kubectl("mirrorgate", "status", "-n", ns), "10% in ")
	}, "the next step is known")
	wide := rows(kubectl("mirrorgate", "status", "-n", ns, "-o", "wide"))
	assert.Equal(t, "ROUTE TARGET SHARE STATE REASON SYNCED STEP NEXT SINCE MANAGER VARIANT FIELD DETAIL", wide[0])
	assert.Regexp(t, `^httproute/web v2:80 1% of 25% limited RampStep yes 1/3 10% in \w+ \w+ git Ready spec`, wide[1])
	explained := kubectl("mirrorgate", "explain", "httproute/web", "-n", ns)
	for _, want := range []string{
		`its rules were written by "git"`, "declared  25% of the rule's requests", "variant   Ready",
		`policy    step 1 of 3 of MirrorPolicy "web" copies 1 %, since `, "; next 10% in ",
		`decided   limited to 1 %: step 1 of 3 of MirrorPolicy "web" copies 1 % (RampStep)`, "stored    limited to 1%, with a mark in the rule",
	} {
		assert.Contains(t, explained, want)
	}
	assert.Contains(t, kubectl("mirrorgate", "--help"), "kubectl mirrorgate status -A")
	assert.Contains(t, kubectl("__complete", "mirrorgate", "stat"), "status\t")
	assert.Contains(t, kubectl("__complete", "mirrorgate", "status", "-n", ns, "httproute/"), "httproute/web")
	assert.Contains(t, kubectl("__complete", "mirrorgate", "resume", "-n", ns, ""), "web")

	// The leader follows stop and resume, and moves the mirror; nobody writes the route's rules but git.
	stored := func() string {
		return env.MustKubectl(t, "", "-n", ns, "get", "httproute", "web", "-o", "jsonpath={.spec.rules[0].filters}")
	}
	kubectl("mirrorgate", "stop", "web", "-n", ns, "--reason", "incident 42")
	harness.Eventually(t, func() bool { return strings.Contains(stored(), "x-mirrorgate-parked-") }, "stopped by hand")
	assert.Contains(t, kubectl("mirrorgate", "explain", "httproute/web", "-n", ns), "incident 42")
	kubectl("mirrorgate", "resume", "web", "-n", ns)
	harness.Eventually(t, func() bool { return strings.Contains(stored(), `"numerator":10000`) }, "resumed")
	kubectl("mirrorgate", "step", "web", "2", "-n", ns)
	harness.Eventually(t, func() bool { return strings.Contains(stored(), `"numerator":100000`) }, "held at the second step")
	managers := env.MustKubectl(t, "", "-n", ns, "get", "httproute", "web", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}")
	assert.NotContains(t, managers, "mirrorgate-cli")

	// Without mirrorgate the mirror stays as it is stored, until somebody asks for what it declares.
	server.Stop(t)
	assert.Contains(t, kubectl("mirrorgate", "uninstall"), "HTTPRoute "+ns+"/web: keeps limited v2 at 10 % of 25 %\n")
	assert.Contains(t, kubectl("mirrorgate", "uninstall", "--restore-parked"), "keeps limited v2")
	assert.Contains(t, stored(), `"numerator":100000`)
	assert.Contains(t, kubectl("mirrorgate", "uninstall", "--restore-limited", "--dry-run"), "gave the declared percentage back to v2")
	assert.Contains(t, stored(), `"numerator":100000`)
	assert.Contains(t, kubectl("mirrorgate", "uninstall", "--restore-limited"), "HTTPRoute "+ns+"/web: gave the declared percentage back to v2 at 10 % of 25 %\n")
	assert.Contains(t, stored(), `"percent":25`)
	assert.NotContains(t, stored(), "x-mirrorgate")
	assert.NotContains(t, env.MustKubectl(t, "", "-n", ns, "get", "httproute", "web", "-o", "jsonpath={.metadata.annotations}"), "mirrorgate.dev")
}
