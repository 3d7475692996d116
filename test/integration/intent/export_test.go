package intent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// export returns the output of kubectl get -o yaml, annotations and placeholders included, without the fields
// that tie it to one stored object.
func (s *site) export(f form) *unstructured.Unstructured {
	s.t.Helper()
	u := object(s.t, s.kubectl("", "get", f.resource, "httpbin", "-o", "yaml"))
	u.SetResourceVersion("")
	u.SetUID("")
	return u
}

// strip removes mirrorgate's annotations and keeps the placeholders.
func strip(u *unstructured.Unstructured) *unstructured.Unstructured {
	u = u.DeepCopy()
	annotations := u.GetAnnotations()
	delete(annotations, route.ParkedAnnotation)
	delete(annotations, route.VariantsAnnotation)
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	u.SetAnnotations(annotations)
	return u
}

// TestExport writes back, with every tool, a route that was read from the cluster while its mirror was
// parked: it still means a parked mirror, in whatever state it is written.
func TestExport(t *testing.T) {
	env.Serve(t)
	tools := map[string][]string{
		"apply":               {"apply", "-f", "-"},
		"apply --server-side": {"apply", "-f", "-", "--server-side", "--force-conflicts"},
		"replace":             {"replace", "-f", "-"},
	}
	for _, f := range forms {
		for tool, args := range tools {
			t.Run(f.name+"/"+tool, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.kubectl(f.with(25), "apply", "-f", "-")
				before := s.wait(f.resource, "httpbin", isParked)
				full := s.export(f)
				bare := text(t, strip(full))

				s.kubectl(bare, args...)
				u := s.wait(f.resource, "httpbin", isParked)
				assert.Equal(t, spec(before), spec(u))
				assert.Equal(t, parked(before), parked(u), "the record comes from the stored route")
				s.kubectl(text(t, full), args...)
				assert.Equal(t, spec(before), spec(s.wait(f.resource, "httpbin", isParked)))

				s.come()
				s.wait(f.resource, "httpbin", active)
				s.kubectl(text(t, full), args...)
				u = s.wait(f.resource, "httpbin", active)
				assert.Equal(t, declared(t, f.with(25)), spec(u))
				assert.Empty(t, parked(u))

			})
		}
	}
}

// TestExportToNewRoute creates a route from an export, as a backup does.
func TestExportToNewRoute(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.kubectl(f.with(25), "apply", "-f", "-")
			s.wait(f.resource, "httpbin", isParked)
			full := s.export(f)
			s.kubectl("", "delete", f.resource, "httpbin")
			s.kubectl(text(t, full), "create", "-f", "-")
			assert.Equal(t, spec(full), spec(s.wait(f.resource, "httpbin", isParked)))
			s.come()
			assert.Equal(t, declared(t, f.with(25)), spec(s.wait(f.resource, "httpbin", active)))

			// A new route is made from the rest: the mirror behind the placeholder is lost. A warning reports
			// this, and the next real manifest removes the placeholder.
			s.kubectl("", "delete", f.resource, "httpbin")
			_, warnings, err := env.Try(t, text(t, strip(full)), "-n", s.ns, "create", "-f", "-")
			require.NoError(t, err)
			assert.Contains(t, warnings, "OrphanedMark")
			u := s.touch(s.wait(f.resource, "httpbin"))
			assert.Equal(t, spec(full), spec(u))
			s.kubectl(f.with(25), "apply", "-f", "-")
			assert.Equal(t, declared(t, f.with(25)), spec(s.wait(f.resource, "httpbin", active)))
		})
	}
}

// TestRulesMove edits the stored route while its mirror is parked, as kubectl edit does: the parked mirror
// moves with its rule, is restored once for each copy of the rule, and is removed with its rule.
func TestRulesMove(t *testing.T) {
	env.Serve(t)
	cases := []struct {
		name string
		edit func(u *unstructured.Unstructured, rules []any) []any
		want int // mirrors
	}{
		{"insert in front", editors["inserts a rule in front"], 1},
		{"copy", editors["copies a rule"], 2},
		{"reverse", func(_ *unstructured.Unstructured, rules []any) []any { return reversed(rules) }, 1},
		{"delete the rule", func(_ *unstructured.Unstructured, rules []any) []any { return without(rules, "parked-") }, 0},
		{"delete another rule", func(_ *unstructured.Unstructured, rules []any) []any { return only(rules, "parked-") }, 1},
	}
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for _, c := range cases {
				u := s.create(f.with(25))
				s.come()
				s.wait(f.resource, "httpbin", active)
				want := object(t, f.with(25))
				want.Object["spec"] = declared(t, f.with(25))
				rulesOf(t, want, func(rules []any) []any {
					marked := markMirrors(rules)
					return unmark(c.edit(want, marked))
				})
				s.leave()
				edited := s.wait(f.resource, "httpbin", isParked)
				rulesOf(t, edited, func(rules []any) []any { return c.edit(edited, rules) })
				if rules := rulesOf(t, edited, nil); len(rules) > 0 {
					s.edit(f.resource, edited)
					s.come()
					after := s.wait(f.resource, "httpbin", repeat(active, c.want)...)
					s.touch(after)
					assert.Equal(t, spec(want), spec(s.get(f.resource, "httpbin")), c.name)
					s.leave()
				}
				require.NoError(t, env.Client(t).Delete(t.Context(), u))
			}
		})
	}
}

// rulesOf edits a route's rules and returns them.
func rulesOf(t *testing.T, u *unstructured.Unstructured, edit func([]any) []any) []any {
	t.Helper()
	rules, _, err := unstructured.NestedSlice(u.Object, "spec", listOf(u))
	require.NoError(t, err)
	if edit != nil {
		rules = edit(rules)
		require.NoError(t, unstructured.SetNestedSlice(u.Object, rules, "spec", listOf(u)))
	}
	return rules
}

// markMirrors gives rules with an active mirror the same text that parked ones have, so that only finds both.
func markMirrors(rules []any) []any {
	for _, rule := range rules {
		if text := asText(rule); strings.Contains(text, "irror") {
			rule.(map[string]any)["mark"] = "parked-"
		}
	}
	return rules
}

func unmark(rules []any) []any {
	for _, rule := range rules {
		delete(rule.(map[string]any), "mark")
	}
	return rules
}

func reversed(rules []any) []any {
	var out []any
	for i := range rules {
		out = append(out, rules[len(rules)-1-i])
	}
	return out
}

func only(rules []any, with string) (out []any) {
	for _, rule := range rules {
		if strings.Contains(asText(rule), with) {
			out = append(out, rule)
		}
	}
	return out
}

func without(rules []any, with string) (out []any) {
	for _, rule := range rules {
		if !strings.Contains(asText(rule), with) {
			out = append(out, rule)
		}
	}
	return out
}

func repeat(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}
