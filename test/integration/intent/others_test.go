package intent

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// TestOtherWrites has another client write the route's metadata, its status and every field outside the
// rules, while mirrors are parked and active: the mirrors do not change, nor do the generation and the owner
// of the rules.
func TestOtherWrites(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.kubectl(f.with(25), "apply", "-f", "-")
			s.wait(f.resource, "httpbin", isParked)
			s.disturb(f)
			s.come()
			s.wait(f.resource, "httpbin", active)
			s.disturb(f)
		})
	}
}

// disturb makes every kind of write that does not concern mirrors.
func (s *site) disturb(f form) {
	s.t.Helper()
	before := s.get(f.resource, "httpbin")
	for _, args := range [][]string{
		{"label", f.resource, "httpbin", "team=a", "--overwrite"},
		{"annotate", f.resource, "httpbin", "note=b", "--overwrite"},
		{"apply", "set-last-applied", "-f", "-"},
		{"patch", f.resource, "httpbin", "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/x"]}}`},
		{"patch", f.resource, "httpbin", "--type=json", "-p", `[{"op":"remove","path":"/metadata/finalizers"}]`},
		{"patch", f.resource, "httpbin", "--type=merge", "-p", `{"status":` + statusOf[f.resource] + `}`, "--subresource=status"},
		// One of mirrorgate's annotations is removed while its placeholder stays.
		{"annotate", f.resource, "httpbin", route.ParkedAnnotation + "-"},
		{"annotate", f.resource, "httpbin", route.VariantsAnnotation + "-"},
	} {
		s.kubectl(f.with(25), args...)
		s.undisturbed(f, before, args)
	}
	label := &unstructured.Unstructured{}
	label.SetGroupVersionKind(kinds[f.resource])
	label.SetNamespace(s.ns)
	label.SetName("httpbin")
	label.SetLabels(map[string]string{"other": "manager"})
	require.NoError(s.t, env.Client(s.t).Apply(s.t.Context(), client.ApplyConfigurationFromUnstructured(label), client.FieldOwner("other")))
	s.undisturbed(f, before, []string{"(server-side apply of a label)"})
	edited := s.get(f.resource, "httpbin")
	edited.SetLabels(map[string]string{"app": "httpbin", "edited": "yes"})
	s.edit(f.resource, edited)
	s.undisturbed(f, before, []string{"edit"})
}

var statusOf = map[string]string{
	"httproute":      `{"parents":[]}`,
	"grpcroute":      `{"parents":[]}`,
	"virtualservice": `{"conditions":[]}`,
}

func (s *site) undisturbed(f form, before *unstructured.Unstructured, args []string) {
	s.t.Helper()
	after := s.get(f.resource, "httpbin")
	assert.Equal(s.t, spec(before), spec(after), "kubectl %q", args)
	assert.Equal(s.t, parked(before), parked(after), "kubectl %q", args)
	assert.Equal(s.t, before.GetGeneration(), after.GetGeneration(), "kubectl %q", args)
	assert.Equal(s.t, []string{"kubectl-client-side-apply"}, owners(s.t, after), "kubectl %q", args)
}
