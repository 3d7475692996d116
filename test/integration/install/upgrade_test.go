package install

// One version of mirrorgate in place of another, there and back, while routes are
// written. The other version is the commit before the last one that changed the
// product.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// product is what a release consists of.
var product = []string{"certs", "cmd", "go.mod", "internal", "manifests", "patch", "webhook"}

// git runs in the repository, whoever owns it.
func git(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "safe.directory=*", "-C", harness.Root()}, args...)...)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// previous is the folder of the version before this one. A checkout without its
// history has none: then it is this version, and the test shows no more than that
// replicas can be replaced.
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
		t.Logf("no history (%v): replaced by itself", err)
		return harness.Root()
	}
	out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-xf", filepath.Join(dir, "source.tar")).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("the version before is %s", commit)
	return dir
}

// version is a build with its webhook configurations.
type version struct {
	binary   string
	webhooks []byte
}

// rollOut does what applying a version's manifests does: first the webhook
// configurations, then one new replica after the other, each ready before an old
// one gets no new connections and ends.
func rollOut(t *testing.T, ns string, f *front, to version, servers []*harness.Server) []*harness.Server {
	t.Helper()
	// There were versions that kept the failure policy for themselves.
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
	before := version{binary: filepath.Join(t.TempDir(), "mirrorgate")}
	require.NoError(t, harness.Build(t.Context(), source, before.binary, "-buildvcs=false"))
	var err error
	before.webhooks, err = os.ReadFile(filepath.Join(source, "manifests", "base", "webhooks.yaml"))
	require.NoError(t, err)
	after := version{env.Binary, manifests.Webhooks}

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
		// What one version has parked the other brings back.
		flip("1", "active")
		flip("0", "parked")
	}
	l.unharmed(t)
}
