package intent

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestNewerRule stores a route, and then installs a version of its CRD that would
// refuse it. Moving its mirrors is refused from then on, so the stored state
// stays behind the decision; whoever writes something else must not notice.
// Not parallel: it changes the CRD for everybody.
func TestNewerRule(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			s := newSite(t)
			u := object(t, f.with(25))
			field := "hostnames"
			if f.resource == "virtualservice" {
				field = "hosts"
			}
			require.NoError(t, unstructured.SetNestedStringSlice(u.Object, []string{"refused.example"}, "spec", field))
			manifest := text(t, u)
			s.kubectl(manifest, "apply", "--server-side", "-f", "-")
			u = s.wait(f.resource, "httpbin", isParked)
			s.refuse(f, field, manifest)
			s.come()
			until(t, func(c *assert.CollectT) {
				events, err := env.Kubectl(t.Context(), "", "-n", s.ns, "get", "events", "--field-selector", "involvedObject.uid="+string(u.GetUID()), "-o", "jsonpath={.items[*].reason}")
				require.NoError(c, err)
				assert.Contains(c, events, "FlipRefused")
			})
			before := s.wait(f.resource, "httpbin", isParked)
			for _, args := range [][]string{
				{"label", f.resource, "httpbin", "team=a"},
				{"annotate", f.resource, "httpbin", "note=b"},
				{"patch", f.resource, "httpbin", "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/x"]}}`},
				{"patch", f.resource, "httpbin", "--type=json", "-p", `[{"op":"remove","path":"/metadata/finalizers"}]`},
				{"patch", f.resource, "httpbin", "--subresource=status", "--type=merge", "-p", `{"status":` + statusOf[f.resource] + `}`},
			} {
				s.kubectl("", args...)
				after := s.get(f.resource, "httpbin")
				assert.Equal(t, spec(before), spec(after), "kubectl %q", args)
				assert.Equal(t, parked(before), parked(after), "kubectl %q", args)
			}
			full := s.export(f)
			full.SetLabels(map[string]string{"replaced": "yes"})
			s.kubectl(text(t, full), "replace", "-f", "-")
			s.wait(f.resource, "httpbin", isParked)
			s.kubectl("", "delete", f.resource, "httpbin")
		})
	}
}

// refuse adds a validation rule to a route's CRD for the time of the test: no
// spec may name the host refused.example.
func (s *site) refuse(f form, field, manifest string) {
	s.t.Helper()
	gvk := kinds[f.resource]
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	crd.SetName(f.resource + "s." + gvk.Group)
	require.NoError(s.t, api(s.t).Get(s.t.Context(), client.ObjectKeyFromObject(crd), crd))
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	require.NoError(s.t, err)
	original := marshal(s.t, map[string]any{"spec": map[string]any{"versions": versions}})
	for _, version := range versions {
		rules := []any{map[string]any{
			"rule":    "!has(self." + field + ") || self." + field + ".size() == 0 || self." + field + "[0] != 'refused.example'",
			"message": "refused by a newer rule",
		}}
		require.NoError(s.t, unstructured.SetNestedSlice(version.(map[string]any), rules,
			"schema", "openAPIV3Schema", "properties", "spec", "x-kubernetes-validations"))
	}
	s.patch(crd, client.RawPatch(types.MergePatchType, []byte(marshal(s.t, map[string]any{"spec": map[string]any{"versions": versions}}))))
	ctx := context.WithoutCancel(s.t.Context())
	s.t.Cleanup(func() {
		assert.NoError(s.t, api(s.t).Patch(ctx, crd, client.RawPatch(types.MergePatchType, []byte(original))))
	})
	until(s.t, func(c *assert.CollectT) {
		u := object(s.t, manifest)
		u.SetNamespace(s.ns)
		u.SetName("probe")
		assert.ErrorContains(c, api(s.t).Create(s.t.Context(), u, client.DryRunAll), "refused by a newer rule")
	})
}

// TestDeletingIsNotJudged keeps a route with a finalizer after its deletion: its
// mirrors stay where they are, and whatever is written passes.
func TestDeletingIsNotJudged(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			u := object(t, f.with(25))
			u.SetFinalizers([]string{"example.com/x"})
			s.create(text(t, u))
			s.wait(f.resource, "httpbin", isParked)
			// Bad by any measure: what is parked is unreadable.
			bad := `{"metadata":{"annotations":{"mirrorgate.dev/parked":"{","mirrorgate.dev/gate":"Maybe"}}}`
			assert.Contains(t, s.refused("", "patch", f.resource, "httpbin", "--type=merge", "-p", bad), "ParkedInvalid")

			s.kubectl("", "delete", f.resource, "httpbin", "--wait=false")
			before := s.get(f.resource, "httpbin")
			require.NotNil(t, before.GetDeletionTimestamp())
			s.come()
			assert.Equal(t, spec(before), spec(s.touch(before)))
			s.kubectl("", "patch", f.resource, "httpbin", "--type=merge", "-p", bad)
			assert.Equal(t, spec(before), spec(s.get(f.resource, "httpbin")))
			s.kubectl("", "patch", f.resource, "httpbin", "--type=json", "-p", `[{"op":"remove","path":"/metadata/finalizers"}]`)
			gone, err := s.find(f.resource, "httpbin")
			require.NoError(t, err)
			assert.Nil(t, gone)
		})
	}
}
