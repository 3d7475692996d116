package intent

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// TestDryRun compares, for every way to write and in both states, the result of a dry run with the result of
// the same write; the dry run itself stores nothing.
func TestDryRun(t *testing.T) {
	env.Serve(t)
	writes := []struct {
		name string
		args func(f form, manifest string) []string
	}{
		{"apply", func(form, string) []string { return []string{"apply", "-f", "-"} }},
		{"apply --server-side", func(form, string) []string { return []string{"apply", "-f", "-", "--server-side", "--force-conflicts"} }},
		{"replace", func(form, string) []string { return []string{"replace", "-f", "-"} }},
		{"patch", func(f form, manifest string) []string {
			return []string{"patch", f.resource, "httpbin", "--type=merge", "-p", marshal(t, map[string]any{"spec": spec(object(t, manifest))})}
		}},
	}
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			dry := func(manifest string, args ...string) any {
				return spec(object(t, s.kubectl(manifest, append(args, "--dry-run=server", "-o", "yaml")...)))
			}
			first := dry(f.with(25), "create", "-f", "-")
			assert.Equal(t, first, dry(f.with(25), "apply", "-f", "-"))
			assert.Equal(t, first, dry(f.with(25), "apply", "-f", "-", "--server-side"))
			u, err := s.find(f.resource, "httpbin")
			require.NoError(t, err)
			require.Nil(t, u, "a dry run has created the route")
			s.kubectl(f.with(25), "create", "-f", "-")
			assert.Equal(t, first, spec(s.wait(f.resource, "httpbin", isParked)))

			percent := 25
			for _, state := range []string{isParked, active} {
				if state == active {
					s.come()
					s.wait(f.resource, "httpbin", active)
				}
				for _, w := range writes {
					percent++
					before := s.get(f.resource, "httpbin")
					promised := dry(f.with(percent), w.args(f, f.with(percent))...)
					assert.Equal(t, before, s.get(f.resource, "httpbin"), "dry run of %s", w.name)
					s.kubectl(f.with(percent), w.args(f, f.with(percent))...)
					assert.Equal(t, promised, spec(s.wait(f.resource, "httpbin", state)), w.name)
				}
			}
		})
	}
}

// TestSamePlaceholder asks for the same decision from two replicas, and from a third after they have ended.
func TestSamePlaceholder(t *testing.T) {
	first, second := env.Serve(t), env.Serve(t)
	s := newSite(t)
	stored := map[string]string{}
	answers := map[string]string{}
	for _, f := range forms {
		u := s.create(strings.Replace(f.with(25), "{name: httpbin,", "{name: "+nameOfForm(f)+",", 1))
		u = s.wait(f.resource, u.GetName(), isParked)
		stored[f.name] = asText(spec(u))
		answers[f.name] = review(t, first, s.ns, f, false)
		assert.Contains(t, answers[f.name], "x-mirrorgate-parked-")
		assert.Equal(t, answers[f.name], review(t, second, s.ns, f, false), "the other replica")
		assert.Equal(t, answers[f.name], review(t, second, s.ns, f, true), "dry run")
	}
	first.Stop(t)
	second.Stop(t)
	third := env.Serve(t)
	for _, f := range forms {
		assert.Equal(t, answers[f.name], review(t, third, s.ns, f, false), "after a restart")
		u := s.touch(s.get(f.resource, nameOfForm(f)))
		assert.Equal(t, stored[f.name], asText(spec(u)), "after a restart")
	}
}

func nameOfForm(f form) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(f.name))
}

// review sends one replica the request that the API server sends for a new route, and returns the replica's
// patch.
func review(t *testing.T, server *harness.Server, namespace string, f form, dryRun bool) string {
	t.Helper()
	u := object(t, f.with(25))
	u.SetNamespace(namespace)
	raw, err := u.MarshalJSON()
	require.NoError(t, err)
	gvk := kinds[f.resource]
	body := marshal(t, admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "x", Operation: admissionv1.Create, DryRun: new(dryRun), Namespace: namespace, Name: "httpbin",
			Kind:     metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind},
			Resource: metav1.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: f.resource + "s"},
			Object:   runtime.RawExtension{Raw: raw},
			Options:  runtime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
		},
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/mutate", strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	// The client does not verify the replica's own certificate; the API server does.
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := insecure.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer admissionv1.AdmissionReview
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.NotNil(t, answer.Response)
	return string(answer.Response.Patch)
}
