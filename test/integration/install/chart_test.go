package install

// The Helm chart renders the same objects as kustomize, and is installed, upgraded and removed on a real API
// server.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/manifests"
)

var update = flag.Bool("update", false, "rewrite golden files")

// buildHelm builds helm beside mirrorgate, so that the commands of the documents find it.
var buildHelm = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(env.Dir, "helm")
	out, err := exec.Command("go", "build", "-o", binary, "helm.sh/helm/v4/cmd/helm").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
})

// tryHelm runs helm.
func tryHelm(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	binary, err := buildHelm()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(append(os.Environ(), "HOME="+env.Dir), env.Env()...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryHelm(t.Context(), t, args...)
	require.NoError(t, err, "helm %v", args)
	return out
}

// chartFolder is the folder of the chart.
var chartFolder = filepath.Join("..", "..", "..", "manifests", "chart")

// template renders the chart.
func template(t *testing.T, args ...string) map[string]any {
	t.Helper()
	return byName(t, helm(t, append([]string{"template", "mirrorgate", chartFolder, "--namespace", system}, args...)...))
}

// byName returns the objects of a text, by kind, namespace and name.
func byName(t *testing.T, text string) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, u := range objects(t, strings.TrimPrefix(text, "---\n")) {
		key := fmt.Sprintf("%s %s/%s", u.GetKind(), u.GetNamespace(), u.GetName())
		require.NotContains(t, found, key, "twice")
		found[key] = u.Object
	}
	return found
}

// overlay renders base with components, as a user's own overlay does.
func overlay(t *testing.T, components ...string) string {
	t.Helper()
	text := "resources: [" + source + "/base]\ncomponents:\n"
	for _, c := range components {
		text += "- " + source + "/components/" + c + "\n"
	}
	return build(t, text)
}

// source stands for the folder of the manifests in the kustomizations that build renders.
const source = "SOURCE"

// build renders a kustomization in a folder of its own.
func build(t *testing.T, text string) string {
	t.Helper()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	from, err := filepath.Abs(filepath.Join("..", "..", "..", "manifests"))
	require.NoError(t, err)
	from, err = filepath.Rel(folder, from)
	require.NoError(t, err)
	text = strings.ReplaceAll(text, source, from)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600))
	return env.MustKubectl(t, "", "kustomize", folder)
}

func TestChartRendersTheObjectsOfKustomize(t *testing.T) {
	for name, c := range map[string]struct {
		kustomize string
		values    []string
	}{
		"default":      {render(t, "overlays/default"), nil},
		"cert-manager": {render(t, "overlays/cert-manager"), []string{"--set", "certs.source=cert-manager"}},
		"gateway-api":  {overlay(t, "self-cert", "gateway-api", "policy"), []string{"--set", "routes={gateway-api}"}},
		"istio":        {overlay(t, "self-cert", "istio", "policy"), []string{"--set", "routes={istio}"}},
		"iter8":        {overlay(t, "self-cert", "gateway-api", "istio", "iter8", "policy"), []string{"--set", "iter8.enabled=true"}},
		"no-mesh":      {render(t, "overlays/no-mesh"), []string{"--set", "routes={gateway-api}", "--set", "noMesh.enabled=true"}},
		"components": {
			overlay(t, "self-cert", "gateway-api", "istio", "proxy", "prometheus", "network-policy", "policy"),
			[]string{"--set", "proxy.enabled=true", "--set", "prometheus.enabled=true", "--set", "networkPolicy.enabled=true"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := byName(t, c.kustomize)
			// There is one difference: Helm creates the namespace of a release itself, or uses an existing
			// one.
			require.Contains(t, want, "Namespace /"+system)
			delete(want, "Namespace /"+system)
			// Nor has kustomize a word to keep objects that Helm would delete.
			require.Empty(t, cmp.Diff(want, template(t, append(c.values, "--set", "crds.keep=false")...)), "- kustomize, + chart")
		})
	}
}

// The golden files contain the effect of values: the objects that differ from the default.
func TestChartValues(t *testing.T) {
	files, err := filepath.Glob("testdata/chart/*.values.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	usual := template(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".values.yaml"), func(t *testing.T) {
			changed := template(t, "--values", file)
			maps.DeleteFunc(changed, func(name string, object any) bool { return cmp.Equal(usual[name], object) })
			have, err := yaml.Marshal(changed)
			require.NoError(t, err)
			golden := strings.TrimSuffix(file, ".values.yaml") + ".golden.yaml"
			if *update {
				require.NoError(t, os.WriteFile(golden, have, 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(string(want), string(have)))
		})
	}
}

func TestChartInstallsIntoAnyNamespace(t *testing.T) {
	text := helm(t, "template", "mirrorgate", chartFolder, "--namespace", "elsewhere", "--set", "certs.source=cert-manager")
	require.NotContains(t, text, system)
	require.Contains(t, text, "cert-manager.io/inject-ca-from: elsewhere/mirrorgate-tls")
}

func TestChartRefusesBadValuesAndNamesThem(t *testing.T) {
	for value, says := range map[string]string{
		"certs.source=vault":                  "at '/certs/source': value must be one of 'self', 'cert-manager'",
		"replica=3":                           "at '': additional properties 'replica' not allowed",
		"replicas=0":                          "at '/replicas': minimum: got 0, want 1",
		"replicas=many":                       "at '/replicas': got string, want integer",
		"image.digest=sha256:12":              "at '/image/digest': 'sha256:12' does not match pattern",
		"image.tagg=v1":                       "at '/image': additional properties 'tagg' not allowed",
		"prometheus=true":                     "at '/prometheus': got boolean, want object",
		"networkPolicy.enabled=please":        "at '/networkPolicy/enabled': got string, want boolean",
		"extraArgs[0]=debug":                  "at '/extraArgs/0': 'debug' does not match pattern",
		"noMesh.on=true":                      "at '/noMesh': additional properties 'on' not allowed",
		"routes={ingress}":                    "at '/routes/0': value must be one of 'gateway-api', 'istio'",
		"config=none":                         "at '/config': got string, want object",
		"resources.limit.memory=1Gi":          "at '/resources': additional properties 'limit' not allowed",
		"routes={istio},noMesh.enabled=true":  "at '/routes': no items match contains schema",
		"iter8=true":                          "at '/iter8': got boolean, want object",
		"affinity.node=x":                     "at '/affinity': additional properties 'node' not allowed",
		"extraLabels.team=1":                  "at '/extraLabels/team': got number, want string",
		`extraLabels.mirrorgate\.dev/a=b`:     "invalid propertyName 'mirrorgate.dev/a'",
		"serviceAccount.name=x":               "at '/serviceAccount': additional properties 'name' not allowed",
		"config.unready-grase=1s":             "at '/config': additional properties 'unready-grase' not allowed",
		"config.webhook-url=https://a":        "at '/config': additional properties 'webhook-url' not allowed",
		"config.workers=many":                 "at '/config/workers': got string, want integer",
		"config.workers=0":                    "at '/config/workers': minimum: got 0, want 1",
		"config.resync=soon":                  "at '/config/resync': 'soon' does not match pattern",
		"config.log-level=loud":               "at '/config/log-level': value must be one of 'debug', 'info', 'warn', 'error'",
		"config.policy.limits.maxPercent=101": "at '/config/policy/limits/maxPercent': maximum: got 101, want 100",
		"config.policy.namespaces.shop.max=1": "at '/config/policy/namespaces/shop': additional properties 'max' not allowed",
		"config.proxy.replicas=101":           "at '/config/proxy/replicas': maximum: got 101, want 100",
		"nameOverride=Gate":                   "at '/nameOverride': 'Gate' does not match pattern",
		"nameOverride=mirrorgate-proxy":       "at '/nameOverride': 'not' failed",
	} {
		_, err := tryHelm(t.Context(), t, "template", "mirrorgate", chartFolder, "--set", value)
		require.ErrorContains(t, err, says, value)
	}
}

// chartCalling copies the chart with its links resolved, and with webhooks that call the front in place of
// the Service.
func chartCalling(t *testing.T, f *front) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "mirrorgate")
	for _, part := range []string{".", "base", "components"} {
		from, err := filepath.EvalSymlinks(filepath.Join(chartFolder, part))
		require.NoError(t, err)
		to := filepath.Join(folder, part)
		if part != "." {
			require.NoError(t, os.Remove(to))
		}
		require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	}
	for _, routes := range manifests.Routes() {
		file := filepath.Join(folder, "components", routes, "webhooks.yaml")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		called := string(text)
		for _, path := range []string{"/mutate", "/validate"} {
			service := "service: {name: mirrorgate, namespace: mirrorgate-system, path: " + path + ", port: 443}"
			require.Contains(t, called, service)
			called = strings.Replace(called, service, `url: "https://`+f.address+path+`"`, 1)
		}
		require.NoError(t, os.WriteFile(file, []byte(called), 0o600))
	}
	return folder
}

func validating(t *testing.T) []admissionregistrationv1.ValidatingWebhook {
	t.Helper()
	v, err := clientset(t).AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	return v.Webhooks
}

func TestChartIsInstalledUpgradedRolledBackAndRemovedUnderWrites(t *testing.T) {
	for _, how := range []string{"server-side=true", "server-side=false"} {
		t.Run(how, func(t *testing.T) {
			f := newFront(t)
			chart := chartCalling(t, f)
			here := []string{"--namespace", system}
			t.Cleanup(func() {
				_, err := tryHelm(context.WithoutCancel(t.Context()), t, append([]string{"uninstall", "mirrorgate", "--ignore-not-found", "--wait"}, here...)...)
				require.NoError(t, err)
				_, err = env.Kubectl(context.WithoutCancel(t.Context()), "", "delete", "namespace", system)
				require.NoError(t, err)
			})
			// Helm waits until the pods are ready.
			require.Contains(t, helm(t, append([]string{"install", "mirrorgate", chart, "--create-namespace", "--wait", "--" + how}, here...)...), "STATUS: deployed")

			kubeconfig, err := env.KubeconfigFor(t.Context(), account)
			require.NoError(t, err)
			server := env.LaunchInstalled(t, kubeconfig, "--namespace", system, "--leader-elect", "--cert-names", "127.0.0.1")
			waitReady(t, server)
			f.use(server)
			waitArmed(t)
			writes := env.Write(t, 50, everyForm...)

			before := validating(t)
			helm(t, append([]string{"upgrade", "mirrorgate", chart, "--set", "replicas=3", "--set", "config.workers=4"}, here...)...)
			require.Equal(t, before, validating(t), "Helm does not change the fields that the program wrote")
			helm(t, append([]string{"rollback", "mirrorgate", "1"}, here...)...)
			waitArmed(t)
			writes.Flows(t, 10)
			require.Empty(t, writes.Harmed(t))

			server.Stop(t)
			helm(t, append([]string{"uninstall", "mirrorgate", "--wait"}, here...)...)
			kinds := "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,namespaces"
			require.Empty(t, env.MustKubectl(t, "", "get", kinds, "-l", "app.kubernetes.io/part-of=mirrorgate", "-o", "name"), "uninstall must leave no objects behind")
		})
	}
}
