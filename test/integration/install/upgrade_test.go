package install

// One version of mirrorgate replaces another, and is rolled back, while routes are written. The other version
// is the commit before the last one that changed the product.

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// product is the list of paths that make up a release.
var product = []string{"certs", "cmd", "go.mod", "internal", "manifests", "patch", "webhook"}

// git runs git in the repository, whichever user owns it.
func git(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "safe.directory=*", "-C", harness.Root()}, args...)...)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// previous returns the folder of the previous version. A checkout without history has none: then this version
// replaces itself, and the test only shows that replicas can be replaced.
func previous(t *testing.T) string {
	t.Helper()
	commit := "HEAD"
	changed, err := git(t, append([]string{"status", "--porcelain", "--"}, product...)...)
	if err == nil && changed == "" {
		if commit, err = git(t, append([]string{"log", "-1", "--format=%H~1", "--"}, product...)...); err == nil {
			commit, err = git(t, "rev-parse", "--verify", "--quiet", commit)
		}
	}
	dir := t.TempDir()
	if err == nil {
		_, err = git(t, "archive", "--format=tar", "--output="+filepath.Join(dir, "source.tar"), commit)
	}
	if err != nil {
		t.Logf("no history (%v): this version replaces itself", err)
		return harness.Root()
	}
	out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-xf", filepath.Join(dir, "source.tar")).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("the previous version is %s", commit)
	return dir
}

// version is a build with its webhook configurations.
type version struct {
	binary   string
	webhooks string
}

// registered returns the webhook configurations of the manifests in a folder of sources.
func registered(t *testing.T, source string) string {
	t.Helper()
	text := env.MustKubectl(t, "", "kustomize", filepath.Join(source, "manifests", "overlays", "default"))
	parts := slices.DeleteFunc(strings.Split(text, "\n---\n"), func(part string) bool {
		return !strings.Contains(part, "WebhookConfiguration\n")
	})
	return strings.Join(parts, "\n---\n")
}

// rollOut has the effect of applying a version's manifests: first the webhook configurations change, then one
// replica after another is replaced, each new one ready before an old one gets no new connections and ends.
func rollOut(t *testing.T, ns string, f *front, to version, servers []*harness.Server) []*harness.Server {
	t.Helper()
	// Some older versions owned the failure policy field themselves.
	env.MustKubectl(t, webhooks(t, f, to.webhooks), "apply", "--server-side", "--force-conflicts", "-f", "-")
	for range servers {
		renewed := launchProgram(t, to.binary, ns, "--certs", "self")
		waitReady(t, renewed)
		old := servers[0]
		servers = append(servers[1:], renewed)
		f.use(servers...)
		old.Stop(t)
	}
	waitArmed(t)
	return servers
}

func TestUpgradeAndRollbackUnderWritesDenyNone(t *testing.T) {
	source := previous(t)
	before := version{filepath.Join(t.TempDir(), "mirrorgate"), registered(t, source)}
	require.NoError(t, harness.Build(t.Context(), source, before.binary, "-buildvcs=false"))
	after := version{env.Binary, registered(t, harness.Root())}

	f, ns := newFront(t), env.Namespace(t)
	register(t, f)
	servers := []*harness.Server{launchProgram(t, before.binary, ns, "--certs", "self"), launchProgram(t, before.binary, ns, "--certs", "self")}
	waitReady(t, servers...)
	f.use(servers...)
	waitArmed(t)

	work := env.Namespace(t)
	env.MustKubectl(t, harness.Workload("httpbin-v2"), "-n", work, "apply", "-f", "-")
	env.MustKubectl(t, strings.ReplaceAll(parkedRoutes, "absent", "httpbin-v2"), "-n", work, "apply", "-f", "-")
	flip := func(replicas, state string) {
		env.MustKubectl(t, "", "-n", work, "scale", "deployment", "httpbin-v2", "--replicas="+replicas)
		for _, kind := range []string{"httproute", "grpcroute"} {
			env.WaitState(t, work, kind, "r", "httpbin-v2="+state)
		}
	}
	flip("1", "active")
	flip("0", "parked")
	l := newLoad(t)
	for _, to := range []version{after, before} {
		servers = rollOut(t, ns, f, to, servers)
		// A mirror that one version has parked, the other restores.
		flip("1", "active")
		flip("0", "parked")
	}
	l.unharmed(t)
}
