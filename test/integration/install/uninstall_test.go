package install

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const parkedRoutes = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {group: "", kind: Service, name: absent, port: 80}, percent: 25}}
    backendRefs: [{group: "", kind: Service, name: primary, port: 80, weight: 1}]
    matches: [{path: {type: PathPrefix, value: /}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: r, annotations: {theirs: stays}}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: absent, port: 80}}}]
    backendRefs: [{name: primary, port: 80}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: primary}}], mirror: {host: absent, subset: v2}, mirrorPercentage: {value: 12.5}}]
`

func uninstall(t *testing.T, flags ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), env.Binary, append([]string{"uninstall", "--kubeconfig", env.Kubeconfig}, flags...)...).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

func TestUninstallLeavesNothingBehind(t *testing.T) {
	kinds := []string{"httproute", "grpcroute", "virtualservice"}
	written := env.Namespace(t)
	env.MustKubectl(t, parkedRoutes, "-n", written, "create", "-f", "-")
	original := map[string]*unstructured.Unstructured{}
	for _, kind := range kinds {
		original[kind] = env.Get(t, written, kind, "r")
	}
	env.MustKubectl(t, "", "-n", written, "delete", "httproute,grpcroute,virtualservice", "--all")

	f := newFront(t)
	register(t, f)
	server := launch(t, env.Namespace(t), "--certs", "self")
	waitReady(t, server)
	f.use(server)
	waitArmed(t)
	ns := env.Namespace(t)
	env.MustKubectl(t, parkedRoutes, "-n", ns, "create", "-f", "-")
	for _, kind := range kinds {
		name := "absent=parked"
		if kind == "virtualservice" {
			name = "absent/v2=parked"
		}
		env.WaitState(t, ns, kind, "r", name)
	}

	require.Contains(t, uninstall(t, "--dry-run", "--restore-parked"), "dry run: nothing is changed")
	require.NotEmpty(t, env.MustKubectl(t, "", "get", "validatingwebhookconfiguration", "mirrorgate", "-o", "name"))

	said := uninstall(t)
	require.Contains(t, said, "webhook configurations mirrorgate: deleted; they were registered by `mirrorgate serve --webhook-url ")
	for _, kind := range []string{"HTTPRoute", "GRPCRoute", "VirtualService"} {
		require.Contains(t, said, kind+" "+ns+"/r: keeps parked absent\n")
	}
	for _, kind := range []string{"validatingwebhookconfiguration", "mutatingwebhookconfiguration"} {
		require.Empty(t, env.MustKubectl(t, "", "get", kind, "mirrorgate", "--ignore-not-found"))
	}
	server.Stop(t)
	for _, kind := range kinds {
		require.Contains(t, env.Get(t, ns, kind, "r").GetAnnotations(), "mirrorgate.dev/parked")
	}

	require.Contains(t, uninstall(t, "--restore-parked"), "HTTPRoute "+ns+"/r: restored absent\n")
	for _, kind := range kinds {
		have := env.Get(t, ns, kind, "r")
		require.Equal(t, original[kind].Object["spec"], have.Object["spec"], kind)
		require.Equal(t, original[kind].GetAnnotations(), have.GetAnnotations(), kind)
	}
	said = uninstall(t, "--restore-parked")
	require.Contains(t, said, "webhook configurations: there are none\n")
	require.Contains(t, said, "no mirror is parked or limited")
}
