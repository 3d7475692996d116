package webhook

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/patch"
)

// fakeFronts answers with one view for every Service, or fails.
type fakeFronts struct {
	view  intercept.View
	err   error
	panic string
}

func (f *fakeFronts) View(*corev1.Service) (intercept.View, error) {
	if f.panic != "" {
		panic(f.panic)
	}
	return f.view, f.err
}

const httpbin = `
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: shop}
spec: {ports: [{port: 8000, targetPort: 80, fieldOfTomorrow: kept}], selector: {app: httpbin}}
`

// admit plays the write of a Service and returns what would be stored.
func admit(t *testing.T, s *Services, object, old string) (stored []byte, resp admission.Response) {
	t.Helper()
	raw := func(text string) []byte {
		out, err := yaml.YAMLToJSON([]byte(text))
		require.NoError(t, err)
		return out
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Namespace: "shop", Name: "httpbin", Operation: admissionv1.Create}}
	req.Object.Raw = raw(object)
	if old != "" {
		req.Operation, req.OldObject.Raw = admissionv1.Update, raw(old)
	}
	resp = s.Mutator().Handle(t.Context(), req)
	require.True(t, resp.Allowed, "%+v", resp)
	stored, err := patch.Apply(req.Object.Raw, resp.Patches)
	require.NoError(t, err)
	return stored, resp
}

func serving() intercept.View {
	s := &corev1.Service{}
	_ = yaml.Unmarshal([]byte(httpbin), s)
	return intercept.View{Wanted: true, Primary: map[string]string{"app": "httpbin", "version": "v1"}, Proxies: []intercept.Proxy{{
		Labels: map[string]string{"app": wellknown.Sentinel("httpbin")}, Serves: intercept.ServesOf(s.Spec.Selector, objects.Read(s).Ports),
	}}}
}

func TestServiceFollowsItsProxies(t *testing.T) {
	fronts := &fakeFronts{view: serving()}
	s := NewServices(fronts, nil)
	proxied, _ := admit(t, s, httpbin, "")
	assert.Contains(t, string(proxied), `"selector":{"app":"mirrorgate-httpbin"}`)
	assert.Contains(t, string(proxied), `"fieldOfTomorrow":"kept"`)
	assert.Contains(t, string(proxied), `"mirrorgate.dev/selector":"{\"original\":{\"app\":\"httpbin\"}`)
	again, resp := admit(t, s, string(proxied), string(proxied))
	assert.Empty(t, resp.Patches, "another round changes nothing")
	assert.Equal(t, proxied, again)
	applied, _ := admit(t, s, httpbin, string(proxied))
	assert.JSONEq(t, string(proxied), string(applied), "applied again")

	fronts.view.Proxies = nil
	bypassed, _ := admit(t, s, string(proxied), string(proxied))
	assert.Contains(t, string(bypassed), `"selector":{"app":"httpbin","version":"v1"}`)
	fronts.view.Wanted = false
	back, _ := admit(t, s, string(bypassed), string(bypassed))
	assert.Contains(t, string(back), `"selector":{"app":"httpbin"}`)
	assert.NotContains(t, string(back), "mirrorgate")
}

func TestServiceKeepsOtherAnnotations(t *testing.T) {
	s := NewServices(&fakeFronts{view: serving()}, nil)
	noted := strings.Replace(httpbin, "namespace: shop", "namespace: shop, annotations: {theirs: stays}", 1)
	proxied, _ := admit(t, s, noted, "")
	assert.Contains(t, string(proxied), `"theirs":"stays"`)
	// What is stripped comes back from the stored object.
	again, _ := admit(t, s, strings.Replace(noted, "app: httpbin", "app: mirrorgate-httpbin", 1), string(proxied))
	assert.JSONEq(t, string(proxied), string(again))
}

func TestServiceWebhookFailsOpen(t *testing.T) {
	for name, c := range map[string]struct {
		fronts fakeFronts
		object string
		cause  string
	}{
		"not synced":    {fakeFronts{err: intercept.ErrNotSynced}, httpbin, "caches"},
		"an error":      {fakeFronts{err: errors.New("boom")}, httpbin, "internal error"},
		"a panic":       {fakeFronts{panic: "boom"}, httpbin, "panic"},
		"no Service":    {fakeFronts{}, `{spec: {ports: 1}}`, "internal error"},
		"without spec":  {fakeFronts{view: serving()}, `{metadata: {name: httpbin}}`, ""},
		"without names": {fakeFronts{view: serving()}, `{metadata: {generateName: x}, spec: {selector: {app: x}}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewPedanticRegistry()
			m := NewMetrics(registry)
			_, resp := admit(t, NewServices(&c.fronts, m), c.object, "")
			if c.cause == "" {
				return
			}
			assert.Empty(t, resp.Patches)
			require.Len(t, resp.Warnings, 1)
			assert.Contains(t, resp.Warnings[0], "stored as written")
			assert.InEpsilon(t, 1.0, testutil.ToFloat64(m.errors.WithLabelValues(stageService, c.cause)), 0)
		})
	}
}

func TestServiceWhoseSelectorIsLostIsLeftAlone(t *testing.T) {
	_, resp := admit(t, NewServices(&fakeFronts{view: serving()}, nil), strings.Replace(httpbin, "app: httpbin", "app: mirrorgate-httpbin", 1), "")
	assert.Empty(t, resp.Patches)
	require.Len(t, resp.Warnings, 1)
	assert.Contains(t, resp.Warnings[0], "recorded nowhere")
}

func TestServiceThatIsDeletedIsLeftAlone(t *testing.T) {
	deleted := strings.Replace(httpbin, "namespace: shop", `namespace: shop, deletionTimestamp: "2026-01-01T00:00:00Z"`, 1)
	_, resp := admit(t, NewServices(&fakeFronts{view: serving()}, nil), deleted, "")
	assert.Empty(t, resp.Patches)
}
