package install

// The component proxy: its pods are admitted, and the program that they run behaves as the Deployment
// expects.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// proxyParts returns the Deployment and the ConfigMap of the component.
func proxyParts(t *testing.T, text string) (deployment appsv1.Deployment, config corev1.ConfigMap) {
	t.Helper()
	found := byName(t, text)
	for key, into := range map[string]any{"Deployment": &deployment, "ConfigMap": &config} {
		object, ok := found[key+" "+system+"/mirrorgate-proxy"].(map[string]any)
		require.True(t, ok, key)
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object, into))
	}
	return deployment, config
}

func TestProxyComponentIsReadyReloadsItsConfigMapAndDrains(t *testing.T) {
	text := overlay(t, "self-cert", "gateway-api", "istio", "proxy")
	install(t, text)
	harness.Eventually(t, func() bool {
		var have appsv1.Deployment
		raw := env.MustKubectl(t, "", "-n", system, "get", "deployment", "mirrorgate-proxy", "-o", "json")
		require.NoError(t, json.Unmarshal([]byte(raw), &have))
		return have.Status.ReadyReplicas == 2
	}, "the pods are not admitted")

	deployment, config := proxyParts(t, text)
	container := deployment.Spec.Template.Spec.Containers[0]
	ports, addresses := map[string]string{}, []string{}
	for _, p := range container.Ports {
		address, err := freeport.Address()
		require.NoError(t, err)
		ports[p.Name] = address.String()
		addresses = append(addresses, fmt.Sprintf("0.0.0.0:%d", p.ContainerPort), ports[p.Name])
		require.Contains(t, config.Data["proxy.yaml"], addresses[len(addresses)-2], "the address at which the Deployment expects it to listen")
	}
	config.Data["proxy.yaml"] = strings.NewReplacer(addresses...).Replace(config.Data["proxy.yaml"])
	folder := t.TempDir()
	mount(t, folder, config.Data)
	var args []string
	for _, arg := range container.Args {
		args = append(args, strings.ReplaceAll(arg, container.VolumeMounts[0].MountPath, folder))
	}
	cmd := exec.Command(env.Binary, args...) //nolint:noctx // ended by a signal, and must exit cleanly
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	probe := func(p *corev1.Probe) int {
		status, _ := harness.Fetch(t, "http://"+ports[p.HTTPGet.Port.String()]+p.HTTPGet.Path)
		return status
	}
	harness.Eventually(t, func() bool { return probe(container.ReadinessProbe) == http.StatusOK }, "the proxy does not become ready")
	require.Equal(t, http.StatusOK, probe(container.LivenessProbe))

	primary := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "primary") }))
	defer primary.Close()
	status, _ := harness.Fetch(t, "http://"+ports["http"])
	require.Equal(t, http.StatusNotFound, status)
	mount(t, folder, map[string]string{"proxy.yaml": strings.Replace(config.Data["proxy.yaml"], "rules: []}",
		"rules: [{backendRefs: [{name: httpbin, port: 80}]}]}\nservices: {httpbin: {80: [\""+primary.Listener.Addr().String()+"\"]}}", 1)})
	harness.Eventually(t, func() bool {
		_, body := harness.Fetch(t, "http://"+ports["http"])
		return body == "primary"
	}, "the proxy does not serve the new ConfigMap")

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	harness.Eventually(t, func() bool { return probe(container.ReadinessProbe) == http.StatusServiceUnavailable }, "the proxy does not become unready")
	_, body := harness.Fetch(t, "http://"+ports["http"])
	require.Equal(t, "primary", body, "requests are served until Services no longer list the pod")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(time.Duration(*deployment.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second):
		t.Fatal("the proxy took so long that the kubelet would have killed it")
	}
}
