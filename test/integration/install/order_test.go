package install

// First installs, while routes are written: in any order relative to the components that mirrorgate works
// with, and two at once.

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// gates requires that mirrors of both kinds of webhooks are parked, and waits until both webhooks deny.
func gates(t *testing.T) {
	t.Helper()
	waitArmed(t) // a kind that was installed later is noticed at the leader's next check
	writes := env.Write(t, 20, harness.MirroredGateway, harness.MirroredIstio)
	writes.Flows(t, 20)
	require.Empty(t, writes.Harmed(t))
}

func TestFirstInstallInAnyOrderUnderWritesDeniesNone(t *testing.T) {
	others := []string{"gateway-api", "istio", "cert-manager"}
	t.Cleanup(func() { require.NoError(t, env.InstallCRDs(context.WithoutCancel(t.Context()), others...)) })
	for _, order := range []string{
		"mirrorgate, gateway-api, istio, cert-manager",
		"istio, cert-manager, mirrorgate, gateway-api",
	} {
		t.Run(order, func(t *testing.T) {
			require.NoError(t, env.UninstallCRDs(t.Context(), others...))
			writes := map[string]*harness.Writer{
				"gateway-api": env.Write(t, perSecond/2, harness.PlainGateway, harness.MirroredGateway),
				"istio":       env.Write(t, perSecond/2, harness.PlainIstio, harness.MirroredIstio),
			}
			for step := range strings.SplitSeq(order, ", ") {
				if step == "mirrorgate" {
					pair(t)
				} else {
					require.NoError(t, env.InstallCRDs(t.Context(), step))
				}
				if w := writes[step]; w != nil {
					w.Flows(t, 20)
				}
			}
			gates(t)
			for kind, w := range writes {
				w.Flows(t, 20)
				require.Empty(t, harness.Denied(w.Stop()), kind)
			}
		})
	}
}

func TestTwoInstallsAtOnceAgree(t *testing.T) {
	f := newFront(t)
	var parts []string
	for part := range strings.SplitSeq(render(t, "overlays/default"), "\n---\n") {
		if !strings.Contains(part, "\nkind: Deployment\n") && !strings.Contains(part, "WebhookConfiguration\n") {
			parts = append(parts, part)
		}
	}
	text := strings.Join(append(parts, webhooks(t, f, registration(t))), "\n---\n")
	t.Cleanup(func() {
		_, err := env.Kubectl(context.WithoutCancel(t.Context()), text, "delete", "--ignore-not-found", "-f", "-")
		require.NoError(t, err)
	})
	writes := env.Write(t, perSecond, everyForm...)
	writes.Flows(t, 20)

	var installs sync.WaitGroup
	var said [4]string
	for i := range said {
		installs.Go(func() { _, said[i], _ = env.Try(t, text, "apply", "--server-side", "-f", "-") })
	}
	installs.Wait()
	require.Equal(t, [4]string{}, said)
	var servers []*harness.Server
	for range said {
		servers = append(servers, launch(t, system))
	}
	waitReady(t, servers...)
	f.use(servers...)
	gates(t)
	require.Empty(t, harness.Denied(writes.Stop()))

	made, expiry := 0, servers[0].Metric(t, "mirrorgate_certificate_expiry_timestamp_seconds")
	for _, s := range servers {
		made += strings.Count(s.Log(), "Made a new CA")
		require.InDelta(t, expiry, s.Metric(t, "mirrorgate_certificate_expiry_timestamp_seconds"), 0, "the replicas must have the same certificate")
	}
	require.Equal(t, 1, made, "one CA")
}
