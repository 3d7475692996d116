package dataplane

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

func policyJSON(name, created, section, copySettings string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "mirrorgate.dev/v1alpha1", "kind": "MirrorPolicy", "metadata": {"namespace": "shop", "name": %q, "creationTimestamp": %q},
		"spec": {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"%s}], "copy": %s}}`, name, created, section, copySettings)
}

// The settings of the oldest policy reach the mirrors of its route or rule, those of another route or namespace do not, and
// a policy that goes leaves mirrors as the route has them.
func TestCopySettingsReachMirrors(t *testing.T) {
	x := newWorld(t, serviceOf("web", "enabled", "http:80"), serviceOf("v2", "", "http:80"))
	put := func(raw []byte) {
		t.Helper()
		require.NoError(t, x.Upsert(raw))
	}
	mirror := `"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}}}], "backendRefs": [{"name": "web", "port": 80}]`
	put([]byte(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "shop", "name": "web", "generation": 1},
		"spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [{"name": "checkout", ` + mirror + `}, {` + mirror + `}]}}`))
	settings := func() (out []spec.Mirror) {
		t.Helper()
		for _, l := range x.Table(name("web")).Listeners {
			for _, r := range l.Routes {
				for _, rule := range r.Rules {
					for _, f := range rule.Filters {
						if f.RequestMirror != nil {
							out = append(out, f.RequestMirror.Mirrorgate)
						}
					}
				}
			}
		}
		return out
	}
	plain := []spec.Mirror{{}, {}}
	require.Equal(t, plain, settings())
	x.changes = nil
	put(policyJSON("a", "2026-01-02T00:00:00Z", "", `{"methods": ["GET"], "maxPerSecond": 200, "maxBody": "64Ki", "timeout": "2s", "hostSuffix": false,
		"keyed": {"header": "x-user"}, "headers": {"set": [{"name": "x-copy", "value": "1"}], "remove": ["authorization"]}}`))
	require.Len(t, x.changes, 1)
	assert.Equal(t, []Name{name("web")}, x.changes[0].Tables)
	whole := spec.Mirror{
		Methods: []string{"GET"}, MaxPerSecond: new(200), MaxBody: "64Ki", Timeout: "2s", ShadowHost: new(false), Keyed: &spec.Keyed{Header: "x-user"},
		Headers: &spec.HeaderModifier{Set: []spec.Header{{Name: "x-copy", Value: "1"}}, Remove: []string{"authorization"}},
	}
	assert.Equal(t, []spec.Mirror{whole, whole}, settings())
	put(policyJSON("b", "2026-01-01T00:00:00Z", "", `{"methods": ["HEAD"]}`))
	older := spec.Mirror{Methods: []string{"HEAD"}}
	assert.Equal(t, []spec.Mirror{older, older}, settings(), "the oldest holds")
	put(policyJSON("c", "2026-01-03T00:00:00Z", `, "sectionName": "checkout"`, `{"methods": ["PUT"]}`))
	assert.Equal(t, []spec.Mirror{{Methods: []string{"PUT"}}, older}, settings(), "one for a rule holds against one for the route")
	put(policyJSON("c", "2026-01-03T00:00:00Z", `, "sectionName": "checkout"`, `{"headers": {"remove": ["host"]}}`))
	assert.Equal(t, []spec.Mirror{older}, settings(), "what cannot be held makes no copy")
	x.Delete(KindMirrorPolicy, "shop", "c")
	x.Delete(KindMirrorPolicy, "shop", "b")
	assert.Equal(t, []spec.Mirror{whole, whole}, settings())
	x.Delete(KindMirrorPolicy, "shop", "a")
	assert.Equal(t, plain, settings())
	assert.Empty(t, x.byRoute)
}

func TestCopySettingsThatNoProxyCanUse(t *testing.T) {
	require.NoError(t, CheckCopy(nil))
	require.NoError(t, CheckCopy(&v1alpha1.Copy{Headers: &v1alpha1.CopyHeaders{Remove: []v1alpha1.HeaderName{"cookie"}}}))
	for want, c := range map[string]*v1alpha1.Copy{
		"copy.headers":      {Headers: &v1alpha1.CopyHeaders{Set: []v1alpha1.CopyHeader{{Name: "content-length", Value: "1"}}}},
		"copy.maxBody":      {MaxBody: "much"},
		"copy.maxPerSecond": {MaxPerSecond: new(int32(0))},
		"copy.methods[0]":   {Methods: []v1alpha1.Method{"get it"}},
		"copy.keyed":        {Keyed: &v1alpha1.CopyKey{}},
	} {
		assert.ErrorContains(t, CheckCopy(c), want)
	}
}
