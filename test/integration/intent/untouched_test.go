package intent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestNewerRule stores a route, and then installs a version of its CRD that would refuse it. From then on its
// mirrors cannot be moved, so the stored state stays behind the decision; other writes must not be affected.
// The test is not parallel: it changes the CRD for all tests.
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

// refuse adds a validation rule to a route's CRD until the test ends: no spec may name the host
// refused.example.
func (s *site) refuse(f form, field, manifest string) {
	s.t.Helper()
	s.changeSchema(f, func(spec map[string]any) {
		spec["x-kubernetes-validations"] = []any{map[string]any{
			"rule":    "!has(self." + field + ") || self." + field + ".size() == 0 || self." + field + "[0] != 'refused.example'",
			"message": "refused by a newer rule",
		}}
	})
	until(s.t, func(c *assert.CollectT) {
		u := object(s.t, manifest)
		u.SetNamespace(s.ns)
		u.SetName("probe")
		assert.ErrorContains(c, env.Client(s.t).Create(s.t.Context(), u, client.DryRunAll), "refused by a newer rule")
	})
}

// changeSchema edits the schema of spec in every version of a route's CRD until the test ends. The API server
// does not serve the change at once.
func (s *site) changeSchema(f form, edit func(spec map[string]any)) {
	s.t.Helper()
	gvk := kinds[f.resource]
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	crd.SetName(f.resource + "s." + gvk.Group)
	require.NoError(s.t, env.Client(s.t).Get(s.t.Context(), client.ObjectKeyFromObject(crd), crd))
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	require.NoError(s.t, err)
	original := marshal(s.t, map[string]any{"spec": map[string]any{"versions": versions}})
	for _, version := range versions {
		fields := []string{"schema", "openAPIV3Schema", "properties", "spec"}
		spec, _, err := unstructured.NestedMap(version.(map[string]any), fields...)
		require.NoError(s.t, err)
		edit(spec)
		require.NoError(s.t, unstructured.SetNestedMap(version.(map[string]any), spec, fields...))
	}
	s.patch(crd, client.RawPatch(types.MergePatchType, []byte(marshal(s.t, map[string]any{"spec": map[string]any{"versions": versions}}))))
	ctx := context.WithoutCancel(s.t.Context())
	s.t.Cleanup(func() {
		assert.NoError(s.t, env.Client(s.t).Patch(ctx, crd, client.RawPatch(types.MergePatchType, []byte(original))))
	})
}

// TestNewerFields installs a version of a route's CRD that accepts fields unknown today, everywhere in the
// spec, and a new type of filter: both survive parking and restoring, in the mirror and beside it. The test
// is not parallel: it changes the CRD for all tests.
func TestNewerFields(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			s := newSite(t)
			s.changeSchema(f, takeNewFields)
			u := object(t, f.with(25))
			count := addNewFields(u.Object["spec"])
			require.Greater(t, count, 5)
			manifest := text(t, u)
			var want any
			until(t, func(c *assert.CollectT) {
				want = declared(t, manifest)
				assert.Equal(c, count, strings.Count(asText(want), newField), "the API server does not serve the newer version")
			})
			// A client-side apply would round the large number even without mirrorgate.
			for _, args := range [][]string{{"apply", "--server-side", "-f", "-"}, {"replace", "-f", "-"}} {
				s.kubectl(manifest, args...)
				u := s.wait(f.resource, "httpbin", isParked)
				assert.Contains(t, parked(u), newField, "%q: the parked mirror contains the new fields too", args)
				assert.Equal(t, count, strings.Count(asText(spec(u))+parked(u), newField), "%q", args)
				s.come()
				u = s.wait(f.resource, "httpbin", active)
				assert.Equal(t, want, spec(u), "%q", args)
				assert.Empty(t, parked(u), "%q", args)
				s.kubectl(manifest, args...)
				assert.Equal(t, want, spec(s.wait(f.resource, "httpbin", active)), "%q, again", args)
				s.leave()
				s.wait(f.resource, "httpbin", isParked)
			}
			s.kubectl("", "delete", f.resource, "httpbin")
		})
	}
}

// newField is the name of a field that no CRD has, newFilter a type of filter that no CRD has.
const (
	newField  = "fieldOfTheFuture"
	newFilter = "FilterOfTheFuture"
)

// takeNewFields makes a schema keep unknown fields at every level and accept a new type of filter.
func takeNewFields(s map[string]any) {
	if types, ok := s["enum"].([]any); ok && slices.Contains(types, any("RequestMirror")) {
		s["enum"] = append(types, newFilter)
	}
	if items, ok := s["items"].(map[string]any); ok {
		takeNewFields(items)
	}
	properties, ok := s["properties"].(map[string]any)
	if !ok {
		return
	}
	s["x-kubernetes-preserve-unknown-fields"] = true
	for _, property := range properties {
		takeNewFields(property.(map[string]any))
	}
}

// addNewFields adds a field to every object in a value, and a filter of the new type at both ends of every
// list of filters. It returns how many fields it added.
func addNewFields(v any) (count int) {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			count += addNewFields(element)
		}
	case map[string]any:
		if filters, ok := v["filters"].([]any); ok {
			added := map[string]any{"type": newFilter}
			v["filters"] = slices.Concat([]any{added}, filters, []any{maps.Clone(added)})
		}
		for _, value := range v {
			count += addNewFields(value)
		}
		v[newField] = map[string]any{"list": []any{int64(9007199254740993), 0.5, "x", map[string]any{}}, "off": false}
		count++
	}
	return count
}

// TestRouteBeingDeletedIsNotValidated keeps a route with a finalizer after its deletion: its mirrors do not
// move, and every write passes.
func TestRouteBeingDeletedIsNotValidated(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			u := object(t, f.with(25))
			u.SetFinalizers([]string{"example.com/x"})
			s.create(text(t, u))
			s.wait(f.resource, "httpbin", isParked)
			// Both annotations are invalid: the parked record cannot be read.
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
