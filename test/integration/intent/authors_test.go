package intent

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// author is a tool that writes routes.
type author struct {
	name string
	// owner is the field manager that alone owns the tool's rules.
	owner string
	// quiet is true for tools whose repeated write keeps the resource version.
	quiet bool
	// write changes the cluster to the manifest now; before is the last manifest that the same tool wrote, ""
	// at first.
	write func(s *site, f form, before, now string)
	// diff fails the test unless the tool shows no difference; it is nil if the tool has no diff.
	diff func(s *site, f form, now string)
}

var authors = []author{
	{name: "kubectl apply", owner: "kubectl-client-side-apply", quiet: true, write: apply(), diff: diff()},
	{name: "kubectl apply --server-side", owner: "kubectl", quiet: true, write: apply("--server-side"), diff: diff("--server-side")},
	{
		name: "kubectl apply --server-side --force-conflicts", owner: "kubectl", quiet: true,
		write: apply("--server-side", "--force-conflicts"), diff: diff("--server-side", "--force-conflicts"),
	},
	{name: "kubectl replace", owner: "kubectl-replace", write: created("kubectl-replace", replace)},
	{name: "kubectl edit", owner: "kubectl-edit", write: created("kubectl-edit", edit)},
	{name: "kubectl patch --type=merge", owner: "kubectl-patch", write: created("kubectl-patch", patchMerge)},
	{name: "kubectl patch --type=json", owner: "kubectl-patch", write: created("kubectl-patch", patchJSON)},
	{name: "Helm 3", owner: "helm", write: created("helm", helm3)},
	{name: "Helm 4, client-side", owner: "helm", write: created("helm", helm4)},
	{
		name: "Argo CD, server-side", owner: "argocd-controller", quiet: true,
		write: apply("--server-side", "--force-conflicts", "--field-manager=argocd-controller"), diff: argoDiff,
	},
	{name: "Flux", owner: "flux", quiet: true, write: flux, diff: fluxDiff},
}

func apply(flags ...string) func(*site, form, string, string) {
	return func(s *site, _ form, _, now string) {
		s.t.Helper()
		s.kubectl(now, append([]string{"apply", "-f", "-"}, flags...)...)
	}
}

// diff is kubectl diff: it exits with status 1 when there is a difference.
func diff(flags ...string) func(*site, form, string) {
	return func(s *site, _ form, now string) {
		s.t.Helper()
		assert.Empty(s.t, s.kubectl(now, append([]string{"diff", "-f", "-"}, flags...)...))
	}
}

// created adapts a tool that can only change existing routes: kubectl creates the route first.
func created(owner string, change func(*site, form, string, string)) func(*site, form, string, string) {
	return func(s *site, f form, before, now string) {
		s.t.Helper()
		if before != "" {
			change(s, f, before, now)
			return
		}
		u := object(s.t, now)
		u.SetNamespace(s.ns)
		require.NoError(s.t, env.Client(s.t).Create(s.t.Context(), u, client.FieldOwner(owner)))
	}
}

// replace removes all annotations, mirrorgate's included.
func replace(s *site, _ form, _, now string) {
	s.t.Helper()
	s.kubectl(now, "replace", "-f", "-")
}

// edit opens the stored route, annotations and placeholders included, and replaces its spec with the
// manifest's.
func edit(s *site, f form, _, now string) {
	s.t.Helper()
	live := s.get(f.resource, "httpbin")
	live.Object["spec"] = spec(object(s.t, now))
	s.edit(f.resource, live)
}

// edit runs kubectl edit with an editor that saves u.
func (s *site) edit(resource string, u *unstructured.Unstructured) {
	s.t.Helper()
	u = u.DeepCopy()
	u.SetManagedFields(nil)
	file := filepath.Join(s.t.TempDir(), "edited.yaml")
	require.NoError(s.t, os.WriteFile(file, []byte(text(s.t, u)), 0o600))
	cmd := exec.CommandContext(s.t.Context(), env.KubectlPath, "-n", s.ns, "edit", resource, u.GetName())
	cmd.Env = append(os.Environ(), append(env.Env(), "HOME="+env.Dir, "KUBE_EDITOR=cp "+file)...)
	out, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "kubectl edit: %s", out)
}

func patchMerge(s *site, f form, _, now string) {
	s.t.Helper()
	body := marshal(s.t, map[string]any{"spec": spec(object(s.t, now))})
	s.kubectl("", "patch", f.resource, "httpbin", "--type=merge", "-p", body)
}

func patchJSON(s *site, f form, _, now string) {
	s.t.Helper()
	body := marshal(s.t, []any{map[string]any{"op": "replace", "path": "/spec", "value": spec(object(s.t, now))}})
	s.kubectl("", "patch", f.resource, "httpbin", "--type=json", "-p", body)
}

// helm3 sends the request that Helm 3 sends for custom resources: the JSON merge patch from the last
// release's manifest to the new one's, whatever the live object is, and none if the patch is empty
// (pkg/kube/client.go, createPatch).
func helm3(s *site, f form, before, now string) {
	s.t.Helper()
	body, err := jsonpatch.CreateMergePatch(asJSON(s.t, before), asJSON(s.t, now))
	require.NoError(s.t, err)
	s.helm(f, body)
}

// helm4 sends the request of Helm 4 without server-side apply, and of Helm 3 with --take-ownership: a merge
// of the last manifest, the new one and the live object.
func helm4(s *site, f form, before, now string) {
	s.t.Helper()
	live, err := s.get(f.resource, "httpbin").MarshalJSON()
	require.NoError(s.t, err)
	body, err := jsonmergepatch.CreateThreeWayJSONMergePatch(asJSON(s.t, before), asJSON(s.t, now), live)
	require.NoError(s.t, err)
	s.helm(f, body)
}

func (s *site) helm(f form, body []byte) {
	s.t.Helper()
	if string(body) != "{}" {
		s.patch(s.get(f.resource, "httpbin"), client.RawPatch(types.MergePatchType, body), client.FieldOwner("helm"))
	}
}

// argoDiff is Argo CD's server-side diff: a forced dry run as argocd-controller, compared with the live
// object.
func argoDiff(s *site, f form, now string) {
	s.t.Helper()
	predicted := object(s.t, s.kubectl(now, "apply", "-f", "-", "--server-side", "--force-conflicts",
		"--field-manager=argocd-controller", "--dry-run=server", "-o", "yaml"))
	sameRoute(s.t, s.get(f.resource, "httpbin"), predicted)
}

// sameRoute compares the parts of two versions of a route that a tool compares.
func sameRoute(t *testing.T, want, got *unstructured.Unstructured) {
	t.Helper()
	assert.Equal(t, spec(want), spec(got))
	assert.Equal(t, want.GetAnnotations(), got.GetAnnotations())
	assert.Equal(t, want.GetLabels(), got.GetLabels())
	assert.Equal(t, want.GetGeneration(), got.GetGeneration())
}

func fluxManager(t *testing.T) *ssa.ResourceManager {
	t.Helper()
	return ssa.NewResourceManager(env.Client(t), nil, ssa.Owner{Field: "flux", Group: "flux.test"})
}

func flux(s *site, _ form, _, now string) {
	s.t.Helper()
	u := object(s.t, now)
	u.SetNamespace(s.ns)
	_, err := fluxManager(s.t).Apply(s.t.Context(), u, ssa.DefaultApplyOptions())
	require.NoError(s.t, err)
}

func fluxDiff(s *site, _ form, now string) {
	s.t.Helper()
	u := object(s.t, now)
	u.SetNamespace(s.ns)
	entry, live, merged, err := fluxManager(s.t).Diff(s.t.Context(), u, ssa.DefaultDiffOptions())
	require.NoError(s.t, err)
	if entry.Action != ssa.UnchangedAction {
		assert.Equal(s.t, live, merged)
	}
	assert.Equal(s.t, ssa.UnchangedAction, entry.Action)
}

func asJSON(t *testing.T, manifest string) []byte {
	t.Helper()
	out, err := object(t, manifest).MarshalJSON()
	require.NoError(t, err)
	return out
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	require.NoError(t, err)
	return string(out)
}
