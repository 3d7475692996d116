package install

// Writes that have nothing to do with mirrors are never blocked, even while mirrorgate is down.

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// outage writes routes without mirrors throughout, and routes with mirrors to detect that the outage has
// begun.
type outage struct{ plain, mirrored *harness.Writer }

func newOutage(t *testing.T) outage {
	t.Helper()
	return outage{
		env.Write(t, 50, harness.PlainGateway, harness.PlainIstio),
		env.Write(t, 10, harness.MirroredGateway, harness.MirroredIstio),
	}
}

// is waits until writes with mirrors are refused with the given words, and until writes without mirrors have
// continued for a while.
func (o outage) is(t *testing.T, words string) {
	t.Helper()
	began := time.Now()
	harness.Eventually(t, func() bool {
		for _, f := range o.mirrored.Failures() {
			if f.Began.After(began) && strings.Contains(f.Err.Error(), words) {
				return true
			}
		}
		return false
	}, "no write is refused with %q", words)
	o.plain.Flows(t, 50)
}

// over waits until writes of both kinds succeed again.
func (o outage) over(t *testing.T) {
	t.Helper()
	o.mirrored.Flows(t, 10)
	o.plain.Flows(t, 50)
}

func TestOutageBlocksOnlyMirrors(t *testing.T) {
	f, ns, dir := newFront(t), env.Namespace(t), t.TempDir()
	register(t, f)
	i := newIssuer(t, "")
	i.inject(t)
	renewFiles(t, i, dir, 20*time.Second)
	start := func() []*harness.Server {
		var servers []*harness.Server
		for range 2 {
			servers = append(servers, launch(t, ns, "--certs", "files", "--cert-dir", dir))
		}
		waitReady(t, servers...)
		f.use(servers...)
		return servers
	}
	servers := start()
	waitArmed(t)
	o := newOutage(t)
	o.over(t)

	t.Log("the certificate expires, and the API server opens new connections")
	harness.Eventually(t, func() bool {
		_, said := harness.Fetch(t, servers[0].HealthURL+"/readyz/certificate")
		return strings.Contains(said, "the certificate expired at")
	}, "the health check does not report the expired certificate")
	require.NoError(t, env.RestartAPIServer(t.Context()))
	o.is(t, "failed calling webhook")
	renewFiles(t, i, dir, time.Hour)
	o.over(t)

	t.Log("all replicas are gone")
	for _, s := range servers {
		s.Kill()
	}
	o.is(t, "failed calling webhook")

	t.Log("the API server restarts during the outage")
	require.NoError(t, env.RestartAPIServer(t.Context()))
	o.is(t, "failed calling webhook")

	t.Log("replicas are back")
	start()
	o.over(t)
	require.Empty(t, harness.Denied(o.plain.Stop()))
}

// TestDeletedNamespaceBlocksOnlyMirrors has the API server call the Service, as in a cluster. The pods only
// claim to run, so calls get no answer.
func TestDeletedNamespaceBlocksOnlyMirrors(t *testing.T) {
	closed := strings.ReplaceAll(render(t, "overlays/default"), "failurePolicy: Ignore", "failurePolicy: Fail")
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), closed, "delete", "--ignore-not-found", "-f", "-")
		require.NoError(t, err)
	})
	env.MustKubectl(t, closed, "apply", "--server-side", "-f", "-")
	o := newOutage(t)
	o.is(t, "failed calling webhook")

	t.Log("the namespace is deleted")
	env.MustKubectl(t, "", "delete", "namespace", system)
	o.is(t, `service "mirrorgate" not found`)

	t.Log("the manifests are applied again")
	install(t, render(t, "overlays/default"))
	harness.Eventually(t, func() bool {
		before := len(harness.Denied(o.mirrored.Failures()))
		o.plain.Flows(t, 50)
		return len(harness.Denied(o.mirrored.Failures())) == before
	}, "writes with mirrors are still refused")
	require.Empty(t, o.plain.Stop())
}
