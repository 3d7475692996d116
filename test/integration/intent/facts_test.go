package intent

import (
	"errors"
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestMirrorWrittenBesideItsPlaceholderReplacesIt writes the mirror again beside its placeholder, as a user
// may who edits the stored route: the written mirror replaces the parked one.
func TestMirrorWrittenBesideItsPlaceholderReplacesIt(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.kubectl(f.with(25), "create", "-f", "-")
			u := s.wait(f.resource, "httpbin", isParked)
			inline := rulesOf(t, object(t, f.with(75)), nil)
			rules := rulesOf(t, u, func(stored []any) []any {
				for i, rule := range stored {
					addMirror(rule.(map[string]any), inline[i].(map[string]any))
				}
				return stored
			})
			require.Contains(t, asText(rules), "75")
			s.edit(f.resource, u)
			u = s.wait(f.resource, "httpbin", isParked)
			assert.Contains(t, parked(u), "75")
			assert.NotContains(t, parked(u), "25")
			s.come()
			u = s.wait(f.resource, "httpbin", active)
			assert.Contains(t, asText(spec(u)), "75")
			assert.NotContains(t, asText(spec(u)), "x-mirrorgate-parked-")
		})
	}
}

// addMirror copies the mirror of one rule into another.
func addMirror(to, from map[string]any) {
	for _, key := range []string{"mirror", "mirrors", "mirrorPercentage"} {
		if value, ok := from[key]; ok {
			to[key] = value
		}
	}
	add := func(to, from map[string]any) {
		filters, _ := from["filters"].([]any)
		for _, filter := range filters {
			if filter.(map[string]any)["type"] == "RequestMirror" {
				old, _ := to["filters"].([]any)
				to["filters"] = append(old, filter)
			}
		}
	}
	add(to, from)
	refs, _ := from["backendRefs"].([]any)
	for i, ref := range refs {
		add(to["backendRefs"].([]any)[i].(map[string]any), ref.(map[string]any))
	}
}

// TestWritesRaceFlips lets an author write and delete a mirror while its variant appears and disappears: the
// last write decides, whenever a touch happens.
func TestWritesRaceFlips(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			write := func(manifest string) error {
				u := object(t, manifest)
				u.SetNamespace(s.ns)
				return env.Client(t).Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("author"), client.ForceOwnership)
			}
			for round := range 3 {
				done := make(chan error, 1)
				go func() {
					var err error
					for i := range 20 {
						err = errors.Join(err, write(f.with(1+i)), write(f.without()))
					}
					done <- err
				}()
				s.come()
				s.leave()
				s.come()
				require.NoError(t, <-done)
				u := s.touch(s.wait(f.resource, "httpbin"))
				assert.Equal(t, declared(t, f.without()), spec(u), "round %d", round)
				assert.Empty(t, parked(u))

				require.NoError(t, write(f.with(99)))
				s.leave()
				s.wait(f.resource, "httpbin", isParked)
			}
			s.come()
			u := s.wait(f.resource, "httpbin", active)
			assert.Equal(t, declared(t, f.with(99)), spec(u))
			assert.Equal(t, []string{"author"}, owners(t, u))
		})
	}
}

// TestRouteMovesToAnotherTool hands a parked mirror from one applying tool to another. The new tool becomes
// the only owner of the rules, and the mirror is kept.
func TestRouteMovesToAnotherTool(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.kubectl(f.with(25), "apply", "-f", "-")
			before := s.wait(f.resource, "httpbin", isParked)

			assert.Contains(t, s.refused(f.with(25), "apply", "-f", "-", "--server-side"), "conflict")
			s.kubectl(f.with(25), "apply", "-f", "-", "--server-side", "--force-conflicts")
			u := s.wait(f.resource, "httpbin", isParked)
			assert.Equal(t, spec(before), spec(u))
			assert.Equal(t, []string{"kubectl"}, owners(t, u))

			// As kustomize-controller does with routes that kubectl has applied.
			manifest := object(t, f.with(25))
			manifest.SetNamespace(s.ns)
			opts := ssa.DefaultApplyOptions()
			opts.Cleanup = ssa.ApplyCleanupOptions{
				Annotations:   []string{"kubectl.kubernetes.io/last-applied-configuration"},
				FieldManagers: []ssa.FieldManager{{Name: "kubectl", OperationType: "Apply"}, {Name: "kubectl", OperationType: "Update"}},
			}
			_, err := fluxManager(t).Apply(t.Context(), manifest, opts)
			require.NoError(t, err)
			u = s.wait(f.resource, "httpbin", isParked)
			assert.Equal(t, spec(before), spec(u))
			assert.Equal(t, []string{"flux"}, owners(t, u))
			s.come()
			u = s.wait(f.resource, "httpbin", active)
			assert.Equal(t, declared(t, f.with(25)), spec(u))
			assert.Equal(t, []string{"flux"}, owners(t, u))
		})
	}
}

// TestKnownLimitations pins down the limitations of a parked mirror that docs/gitops.md lists: behaviour that
// is not supported, and must not get worse.
func TestKnownLimitations(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			second := []string{"apply", "-f", "-", "--server-side", "--field-manager=second"}
			s.kubectl(f.with(25), "apply", "-f", "-", "--server-side", "--field-manager=first")
			u := s.wait(f.resource, "httpbin", isParked)
			assert.Regexp(t, `conflicts? with "first"`, s.refused(f.with(25), second...))
			s.refused("", "patch", f.resource, "httpbin", "--type=json", "-p", `[{"op":"remove","path":"`+mirrorPath(f)+`"}]`)
			s.come()
			s.wait(f.resource, "httpbin", active)
			s.leave()
			assert.Equal(t, spec(u), spec(s.wait(f.resource, "httpbin", isParked)))

			assert.Contains(t, s.refused("", "patch", f.resource, "httpbin", "--type=strategic", "-p", `{"metadata":{"labels":{"a":"b"}}}`),
				"application/strategic-merge-patch+json is not supported")
		})
	}
	t.Run("kubectl apply prints configured", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		f := forms[1]
		s.kubectl(f.with(25), "apply", "-f", "-")
		before := s.wait(f.resource, "httpbin", isParked)
		for range 2 {
			assert.Contains(t, s.kubectl(f.with(25), "apply", "-f", "-"), "configured")
			assert.Equal(t, before, s.get(f.resource, "httpbin"))
		}
		s.come()
		before = s.wait(f.resource, "httpbin", active)
		assert.Contains(t, s.kubectl(f.with(25), "apply", "-f", "-"), "unchanged")
		assert.Equal(t, before, s.get(f.resource, "httpbin"))
	})
}

// mirrorPath is the path at which a script would look for the mirror.
func mirrorPath(f form) string {
	switch f.name {
	case "VirtualService, mirror":
		return "/spec/http/1/mirror"
	case "VirtualService, mirrors":
		return "/spec/http/0/mirrors"
	case "GRPCRoute, under a backendRef":
		return "/spec/rules/0/backendRefs/1/filters/0/requestMirror"
	case "HTTPRoute, defaults omitted":
		return "/spec/rules/0/filters/0/requestMirror"
	default:
		return "/spec/rules/1/filters/1/requestMirror"
	}
}
