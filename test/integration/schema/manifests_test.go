// Package schema checks everything that is installed strictly against the schemas of its kinds: unknown
// fields, types, required fields and enumerations. It needs no cluster and no network. Checks that only an
// API server's code makes are left to package install.
package schema

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/yannh/kubeconform/pkg/resource"
	"github.com/yannh/kubeconform/pkg/validator"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader"
	release "helm.sh/helm/v4/pkg/release/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// root is the folder of the manifests.
var root = filepath.Join("..", "..", "..", "manifests")

// problems returns the faults of the objects in a text, each with its source, object and field.
func problems(v validator.Validator, from, text string) []string {
	var found []string
	for part := range strings.SplitSeq(text, "\n---\n") {
		object := resource.Resource{Path: from, Bytes: []byte(part)}
		err := invalid(v, object)
		if err == nil {
			continue
		}
		name := "?"
		if signature, err := object.Signature(); err == nil {
			name = fmt.Sprintf("%s %s/%s", signature.Kind, signature.Namespace, signature.Name)
		}
		says := err.Error()
		if _, after, found := strings.Cut(says, ".json#' - "); found {
			says = after // the path of the schema's temporary file is of no use to the reader
		}
		found = append(found, fmt.Sprintf("%s: %s: %s", from, name, says))
	}
	return found
}

// invalid returns the fault of an object. The API server's own definitions lack CustomResourceDefinitions, whose Go type is
// as strict.
func invalid(v validator.Validator, object resource.Resource) error {
	signature, err := object.Signature()
	if err == nil && signature.Kind == "CustomResourceDefinition" {
		return yaml.UnmarshalStrict(object.Bytes, &apiextensionsv1.CustomResourceDefinition{})
	}
	if result := v.ValidateResource(object); result.Status != validator.Valid {
		return result.Err
	}
	return nil
}

// files returns the manifests as they are written, by path.
func files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"base/*.yaml", "components/*/*.yaml"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range paths {
			name, err := filepath.Rel(root, path)
			require.NoError(t, err)
			// kustomize checks the former; a ConfigMap contains the latter.
			if filepath.Base(name) == "kustomization.yaml" || name == filepath.Join("components", "proxy", "proxy.yaml") {
				continue
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			found["manifests/"+filepath.ToSlash(name)] = resolve(t, string(text))
		}
	}
	require.Greater(t, len(found), 10)
	return found
}

// resolve expands anchors. The validator would take a key that overrides a key of an anchor for a duplicate;
// kustomize rejects true duplicates.
func resolve(t *testing.T, text string) string {
	t.Helper()
	var parts []string
	for part := range strings.SplitSeq(text, "\n---\n") {
		var object map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(part), &object))
		resolved, err := yaml.Marshal(object)
		require.NoError(t, err)
		parts = append(parts, string(resolved))
	}
	return strings.Join(parts, "\n---\n")
}

// kustomized returns the output of kustomize: each overlay, base, and base with each component.
func kustomized(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	overlays, err := filepath.Glob(filepath.Join(root, "overlays", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, overlays)
	for _, folder := range append(overlays, filepath.Join(root, "base")) {
		found["kustomize "+filepath.Base(folder)] = kustomize(t, folder)
	}
	components, err := filepath.Glob(filepath.Join(root, "components", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, components)
	for _, folder := range components {
		found["kustomize base with component "+filepath.Base(folder)] = kustomize(t, withBase(t, folder))
	}
	return found
}

// withBase returns a folder with an overlay of base and one component.
func withBase(t *testing.T, component string) string {
	t.Helper()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	overlay := map[string][]string{"resources": {filepath.Join(root, "base")}, "components": {component}}
	for _, paths := range overlay {
		absolute, err := filepath.Abs(paths[0])
		require.NoError(t, err)
		paths[0], err = filepath.Rel(folder, absolute)
		require.NoError(t, err)
	}
	text, err := yaml.Marshal(overlay)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "kustomization.yaml"), text, 0o600))
	return folder
}

func kustomize(t *testing.T, folder string) string {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err, folder)
	text, err := resources.AsYaml()
	require.NoError(t, err)
	return string(text)
}

// charted returns the output of the Helm chart: with its defaults, with everything enabled, and with the
// values of its own tests.
func charted(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{
		"no values":  "",
		"everything": "{proxy: {enabled: true}, prometheus: {enabled: true}, networkPolicy: {enabled: true}, certs: {source: cert-manager}}",
	}
	files, err := filepath.Glob(filepath.Join("..", "install", "testdata", "chart", "*.values.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		values[filepath.Base(file)] = string(text)
	}
	found := map[string]string{}
	for name, text := range values {
		found["chart with "+name] = template(t, text)
	}
	return found
}

// template renders the chart as `helm template` does.
func template(t *testing.T, text string) string {
	t.Helper()
	var values map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &values))
	chart, err := loader.Load(filepath.Join(root, "chart"))
	require.NoError(t, err)
	helm := action.NewInstall(action.NewConfiguration())
	helm.ReleaseName, helm.Namespace, helm.DryRunStrategy = "mirrorgate", "mirrorgate-system", action.DryRunClient
	helm.KubeVersion = &common.KubeVersion{Version: "v1.36.0", Major: "1", Minor: "36"}
	made, err := helm.RunWithContext(t.Context(), chart, values)
	require.NoError(t, err)
	return strings.TrimPrefix(made.(*release.Release).Manifest, "---\n")
}

func TestEveryInstalledObjectMatchesTheSchemaOfItsKind(t *testing.T) {
	v := newValidator(t)
	for _, texts := range []map[string]string{files(t), kustomized(t), charted(t)} {
		for from, text := range texts {
			for _, problem := range problems(v, from, text) {
				t.Error(problem)
			}
		}
	}
}

// Each mistake is made in a manifest that is valid without it.
func TestMistakeIsReportedWithFileObjectAndField(t *testing.T) {
	v := newValidator(t)
	right := files(t)
	const container = "'/spec/template/spec/containers/0"
	for _, c := range []struct{ file, old, mistake, object, says string }{
		{"base/deployment.yaml", "image: mirrorgate", "imagee: mirrorgate", "Deployment mirrorgate-system/mirrorgate", container + "': additional properties 'imagee' not allowed"},
		{"base/deployment.yaml", "replicas: 2", "replicas: two", "Deployment mirrorgate-system/mirrorgate", "'/spec/replicas': got string, want integer"},
		{"base/deployment.yaml", "runAsNonRoot: true", `runAsNonRoot: "true"`, "Deployment mirrorgate-system/mirrorgate", "'/spec/template/spec/securityContext/runAsNonRoot': got string, want boolean"},
		{"base/deployment.yaml", "containerPort: 9443", "hostPort: 9443", "Deployment mirrorgate-system/mirrorgate", container + "/ports/0': missing property 'containerPort'"},
		{"base/deployment.yaml", "AlwaysAllow", "Always", "PodDisruptionBudget mirrorgate-system/mirrorgate", "'/spec/unhealthyPodEvictionPolicy': value must be one of 'AlwaysAllow', 'IfHealthyBudget'"},
		{"base/deployment.yaml", "RuntimeDefault", "Default", "Deployment mirrorgate-system/mirrorgate", "'/spec/template/spec/securityContext/seccompProfile/type': value must be one of 'Localhost', 'RuntimeDefault', 'Unconfined'"},
		{"base/deployment.yaml", "apps/v1", "apps/v2", "Deployment mirrorgate-system/mirrorgate", "could not find schema for Deployment"},
		{"components/istio/webhooks.yaml", "sideEffects: ", "sideEffect: ", "MutatingWebhookConfiguration /mirrorgate", "'/webhooks/0': missing property 'sideEffects'"},
		{"components/network-policy/network-policy.yaml", "- Ingress", "- Inbound", "NetworkPolicy mirrorgate-system/mirrorgate", "'/spec/policyTypes/0': value must be one of 'Egress', 'Ingress'"},
		{"components/policy/mirrorgate.dev_mirrorlimits.yaml", "scope: Cluster", "scop: Cluster", "CustomResourceDefinition /mirrorlimits.mirrorgate.dev", `unknown field "scop"`},
		{"components/prometheus/monitor.yaml", "endpoints:", "endpoint:", "ServiceMonitor mirrorgate-system/mirrorgate", "'/spec': additional properties 'endpoint' not allowed"},
	} {
		text := strings.Replace(right["manifests/"+c.file], c.old, c.mistake, 1)
		require.NotEqual(t, right["manifests/"+c.file], text, c.old)
		found := problems(v, "manifests/"+c.file, text)
		require.Len(t, found, 1, c.mistake)
		t.Log(found[0])
		assert.True(t, strings.HasPrefix(found[0], "manifests/"+c.file+": "+c.object+": "), found[0])
		assert.Contains(t, found[0], c.says)
	}
}
