package dataplane

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// primaryOf returns the label app in the selector of a parent's primary, "" for none.
func primaryOf(w *world, parent string) string {
	return w.Parent(name(parent)).Primary["app"]
}

func TestPrimaryOfAParent(t *testing.T) {
	base := []string{
		serviceOf("web", wellknown.Enabled, "http:8000->80 9000->90"),
		serviceOf("v1", "", "80", "selector: {app: v1}"), serviceOf("v2", "", "80", "selector: {app: v2}"),
		serviceOf("other", "", "80->8080", "selector: {app: other}"), serviceOf("far/v1", "", "80", "selector: {app: far}"),
	}
	for title, c := range map[string]struct{ rules, want string }{
		"the only one":                  {`{backendRefs: [{name: v1, port: 80}]}`, "v1"},
		"of most weight":                {`{backendRefs: [{name: v2, port: 80, weight: 1}, {name: v1, port: 80, weight: 9}]}`, "v1"},
		"of no weight":                  {`{backendRefs: [{name: v2, port: 80, weight: 0}]}`, ""},
		"of the rule for all requests":  {`{matches: [{headers: [{name: x, value: "1"}]}], backendRefs: [{name: v2, port: 80}]}, {backendRefs: [{name: v1, port: 80}]}`, "v1"},
		"the parent itself":             {`{backendRefs: [{name: web, port: 8000}]}`, ""},
		"with other target ports":       {`{backendRefs: [{name: other, port: 80}]}`, ""},
		"of another namespace":          {`{backendRefs: [{name: v1, namespace: far, port: 80}]}`, ""},
		"that is not there":             {`{backendRefs: [{name: nobody, port: 80}]}`, ""},
		"a port that is not there":      {`{backendRefs: [{name: v1, port: 81}]}`, ""},
		"only for some requests":        {`{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: v1, port: 80}]}`, "v1"},
		"the default path, spelled out": {`{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: v2, port: 80}]}, {matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: v1, port: 80}]}`, "v1"},
		"a mirror is no primary at all": {`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}], backendRefs: [{name: v1, port: 80}]}`, "v1"},
	} {
		t.Run(title, func(t *testing.T) {
			w := newWorld(t, append(base, routeOf("r", "{group: '', kind: Service, name: web, port: 8000}", c.rules))...)
			require.True(t, w.Parent(name("web")).Routed)
			assert.Equal(t, c.want, primaryOf(w, "web"))
		})
	}
}

func TestParentFollowsItsParts(t *testing.T) {
	w := newWorld(t, serviceOf("web", "", "80"), serviceOf("v1", "", "80", "selector: {app: v1}"))
	state := func() Parent { return w.Parent(name("web")) }
	require.Equal(t, Parent{Exists: true}, state())
	w.apply(routeOf("r", "{group: '', kind: Service, name: web}", "{backendRefs: [{name: v1, port: 80}, {name: v1, namespace: far, port: 80}]}"))
	require.Equal(t, Parent{Exists: true, Named: true}, state(), "not enabled")
	require.Equal(t, []Name{name("web")}, w.ParentsOf(routeName("r")))
	require.Empty(t, w.Parents())

	w.EnableNamespace("shop", true)
	require.True(t, state().Routed && state().Namespace)
	require.Equal(t, "v1", primaryOf(w, "web"))
	require.Equal(t, []Name{name("web")}, w.Parents())
	w.apply(serviceOf("v1", "", "80", "selector: {app: v1b}"))
	require.Contains(t, w.changes[0].Parents, name("web"), "the new selector of the primary is announced")
	require.Equal(t, "v1b", primaryOf(w, "web"))

	require.Empty(t, state().Foreign, "nothing is granted")
	w.apply(grantOf("far/g", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", "{group: '', kind: Service}"))
	require.Equal(t, []string{"far"}, state().Foreign)

	w.apply(serviceOf(wellknown.OriginName("web"), "", "80", "selector: {app: mine}"))
	require.Equal(t, "mine", state().Origin["app"])

	w.apply(serviceOf("web", "", "80", "clusterIP: None"))
	require.False(t, state().Routed)
	require.Contains(t, state().Refused, "headless")
	require.Equal(t, []Name{name("web")}, w.Parents(), "a refused Service needs an Event")
	w.apply(serviceOf("web", "disabled", "80"))
	require.Empty(t, w.Parents())
	w.apply(serviceOf("web", "disabled", "80", "selector: {app: "+wellknown.Sentinel("web")+"}"))
	require.Equal(t, []Name{name("web")}, w.Parents(), "its selector is the sentinel")
	w.Delete(KindService, "shop", "web")
	require.False(t, state().Exists)
}

// A new leader finds a parent by its origin, which the leader before it would have deleted last.
func TestParentsWithAnOrigin(t *testing.T) {
	w := newWorld(t, serviceOf("web", "", "80"))
	require.Empty(t, w.Parents())
	require.NoError(t, w.Upsert(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: wellknown.OriginName("web"), Labels: map[string]string{wellknown.ParentLabel: wellknown.ParentValue("web")}},
	}))
	require.Equal(t, []Name{name("web")}, w.Parents())
}

// What has an effect on the objects in front of a parent is announced, though it changes no table; the same of other
// Services is not, and neither is what has none.
func TestParentAsksForOtherObjects(t *testing.T) {
	const labelled = `
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: %s, labels: {mirrorgate.dev/proxy: enabled%s}, annotations: {%s}}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80}]%s}
`
	service := func(name, labels, annotations, more string) string {
		return fmt.Sprintf(labelled, name, labels, annotations, more)
	}
	w := newWorld(t, service("web", "", "", ""), service("other", "", "", ""), routeOf("r", "{group: '', kind: Service, name: web}", "{}"))
	announced := func(text string) bool {
		w.changes = nil
		w.apply(text)
		return len(w.changes) == 1 && slices.Equal(w.changes[0].Parents, []Name{name("web")}) && len(w.changes[0].Tables) == 0
	}
	assert.True(t, announced(service("web", ", team: a", "", "")), "a label")
	assert.True(t, announced(service("web", "", "", "")), "and gone")
	assert.True(t, announced(service("web", "", "mirrorgate.dev/proxy-replicas: '3'", "")), "a setting")
	assert.True(t, announced(service("web", "", "prometheus.io/scrape: 'true'", "")), "what is scraped")
	assert.True(t, announced(service("web", "", "prometheus.io/scrape: 'true'", ", trafficDistribution: PreferSameZone")), "where endpoints should be")
	assert.False(t, announced(service("web", "", "prometheus.io/scrape: 'true', x: 'y'", ", trafficDistribution: PreferSameZone")), "an annotation of somebody else")
	assert.Empty(t, w.changes)
	assert.False(t, announced(service("other", ", team: a", "", "")), "a Service without a route")
	assert.Empty(t, w.changes)
}
