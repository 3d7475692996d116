package intent

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// TestIntent follows one mirror through all its states, for every form of route and every tool that may write
// it: written, written again, restored, changed, parked, changed while parked, and deleted while parked,
// after which it must never come back.
func TestIntent(t *testing.T) {
	env.Serve(t)
	for _, f := range forms {
		for _, a := range authors {
			t.Run(f.name+"/"+a.name, func(t *testing.T) {
				t.Parallel()
				lead(t, f, a)
			})
		}
	}
}

// TestOlderVersions does the same for authors that still write an older version of the API, while mirrorgate
// reads and touches the newest.
func TestOlderVersions(t *testing.T) {
	env.Serve(t)
	for old, f := range map[string]form{"v1beta1": forms[0], "networking.istio.io/v1beta1": forms[3], "networking.istio.io/v1alpha3": forms[4]} {
		f.manifest = strings.Replace(f.manifest, "/v1\n", "/"+path.Base(old)+"\n", 1)
		for _, a := range []author{authors[0], authors[1], authors[len(authors)-1]} {
			t.Run(f.name+", "+path.Base(old)+"/"+a.name, func(t *testing.T) {
				t.Parallel()
				lead(t, f, a)
			})
		}
	}
}

// lead takes a mirror through all its states.
func lead(t *testing.T, f form, a author) {
	t.Helper()
	l := &life{site: newSite(t), form: f, author: a}
	l.writes(f.with(25))
	l.is(isParked)
	l.same()
	l.repeats()

	l.come()
	l.flips(active)
	l.same()
	l.repeats()
	l.writes(f.with(50))
	l.is(active)

	l.leave()
	l.flips(isParked)
	l.same()
	l.writes(f.with(75))
	l.is(isParked)
	l.repeats()
	l.come()
	l.flips(active)

	l.leave()
	l.flips(isParked)
	l.writes(f.without())
	l.is()
	l.come()
	l.touch(l.live())
	l.is()
	l.repeats()
}

// life is a route that one author writes.
type life struct {
	*site
	form
	author
	manifest string // the last manifest written
}

func (l *life) live() *unstructured.Unstructured { return l.get(l.resource, "httpbin") }

func (l *life) writes(manifest string) {
	l.t.Helper()
	l.write(l.site, l.form, l.manifest, manifest)
	l.manifest = manifest
}

// flips waits until an event, and no author, has moved the mirror.
func (l *life) flips(want string) {
	l.t.Helper()
	l.wait(l.resource, "httpbin", want)
	l.is(want)
}

// is checks that the route means the same as its manifest, and that its mirrors have the wanted state.
func (l *life) is(want ...string) {
	l.t.Helper()
	u := l.wait(l.resource, "httpbin", want...)
	if len(want) > 0 && want[0] == isParked {
		assert.NotEmpty(l.t, parked(u))
	} else {
		assert.Equal(l.t, declared(l.t, l.manifest), spec(u))
		assert.NotContains(l.t, u.GetAnnotations(), route.ParkedAnnotation)
	}
	assert.Equal(l.t, []string{l.owner}, owners(l.t, u), "owners of the rules")
	assertTouchedOnly(l.t, u)
}

// same checks that the author's tool shows no difference.
func (l *life) same() {
	l.t.Helper()
	if l.diff != nil {
		l.diff(l.site, l.form, l.manifest)
	}
}

// assertTouchedOnly checks that mirrorgate owns one annotation and nothing else.
func assertTouchedOnly(t *testing.T, u *unstructured.Unstructured) {
	t.Helper()
	for _, entry := range u.GetManagedFields() {
		if entry.Manager == "mirrorgate" {
			fields := strings.Replace(string(entry.FieldsV1.GetRawBytes()), `".":{},`, "", 1)
			assert.JSONEq(t, `{"f:metadata":{"f:annotations":{"f:mirrorgate.dev/variants":{}}}}`, fields)
		}
	}
}

// repeats checks that writing the same manifest again changes nothing.
func (l *life) repeats() {
	l.t.Helper()
	before := l.live()
	l.writes(l.manifest)
	after := l.live()
	assert.Equal(l.t, spec(before), spec(after))
	assert.Equal(l.t, parked(before), parked(after))
	assert.Equal(l.t, before.GetGeneration(), after.GetGeneration(), "generation")
	assert.Equal(l.t, []string{l.owner}, owners(l.t, after), "owners of the rules")
	if l.quiet {
		// A repeat may reorder managedFields, which are sorted by times of whole seconds; this must end soon.
		stored := []string{before.GetResourceVersion(), after.GetResourceVersion()}
		for len(stored) < 6 && stored[len(stored)-1] != stored[len(stored)-2] {
			l.writes(l.manifest)
			stored = append(stored, l.live().GetResourceVersion())
		}
		assert.Equal(l.t, stored[len(stored)-2], stored[len(stored)-1], "resource versions %v\n%s", stored, text(l.t, l.live()))
	}
}
