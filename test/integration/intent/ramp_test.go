package intent

// Ramps of a MirrorPolicy in Git: no tool sees a difference after any step.

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// fiveSteps are long, so that the test takes them, by the status that the leader goes on from.
const fiveSteps = `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: {name: ramp}
spec:
  targetRefs: [{group: %s, kind: %s, name: httpbin}]
  ramp: {steps: [{percent: 1, for: 99h}, {percent: 2.5, for: 99h}, {percent: 10, for: 99h}, {percent: 33.3333, for: 99h}, {percent: 100}]}
`

// ramp is a site with a route that Flux applies, and a policy for it.
type ramp struct {
	*site
	form
}

func newRamp(t *testing.T, f form) ramp {
	t.Helper()
	s := newSite(t)
	s.come()
	r := ramp{s, f}
	group := "gateway.networking.k8s.io"
	if f.resource == "virtualservice" {
		group = "networking.istio.io"
	}
	s.kubectl(fmt.Sprintf(fiveSteps, group, kinds[f.resource].Kind), "apply", "-f", "-")
	t.Cleanup(func() {
		_, _ = env.Kubectl(context.WithoutCancel(t.Context()), "", "-n", s.ns, "delete", "mirrorpolicy", "ramp", "--ignore-not-found")
	})
	return r
}

// step moves the policy to a step, from 0, and waits until the mirror is stored with its share.
func (r ramp) step(n int) {
	r.t.Helper()
	until(r.t, func(c *assert.CollectT) { // the leader writes the status too
		_, err := env.Kubectl(r.t.Context(), "", "-n", r.ns, "patch", "mirrorpolicy", "ramp", "--subresource=status", "--type=json", "-p",
			fmt.Sprintf(`[{"op": "replace", "path": "/status/targets/0/step", "value": %d}]`, n))
		assert.NoError(c, err)
	})
}

// stored waits until the mirror of the route stands with a number in it, as its kind writes shares.
func (r ramp) stored(number string) {
	r.t.Helper()
	until(r.t, func(c *assert.CollectT) {
		u, err := r.find(r.resource, "httpbin")
		if assert.NoError(c, err) && assert.NotNil(c, u) {
			assert.Contains(c, asText(spec(u)), number)
		}
	})
}

// quiet requires that no tool sees a difference: Flux, whose manifest it is, kubectl in both ways, and Argo CD's dry run.
func (r ramp) quiet(manifest string) {
	r.t.Helper()
	before := r.get(r.resource, "httpbin")
	fluxDiff(r.site, r.form, manifest)
	assert.Empty(r.t, r.kubectl(manifest, "diff", "--server-side", "--field-manager=flux", "-f", "-"))
	argoDiff(r.site, r.form, manifest)
	flux(r.site, r.form, "", manifest)
	after := r.get(r.resource, "httpbin")
	sameRoute(r.t, before, after)
	assert.Equal(r.t, []string{"flux"}, owners(r.t, after), "the applier alone owns the rules")
}

// share returns the text of a percentage in the stored form of the kind.
func (r ramp) share(percent float64) string {
	if r.resource == "virtualservice" {
		return fmt.Sprintf(`"value":%v`, percent)
	}
	return fmt.Sprintf(`"numerator":%.0f`, percent*10_000)
}

// TestARampInGit takes five steps from Git to all that the route declares; after each of them nobody sees a difference. Git
// declares another share in the middle.
func TestARampInGit(t *testing.T) {
	env.InstallPolicyKinds(t)
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := newRamp(t, f)
			inGit := f.with(60)
			flux(r.site, f, "", inGit)
			for n, percent := range []float64{1, 2.5, 10, 33.3333} {
				if n > 0 {
					r.step(n)
				}
				r.stored(r.share(percent))
				r.quiet(inGit)
				if n == 2 {
					inGit = f.with(70)
					flux(r.site, f, "", inGit)
					r.stored(r.share(percent))
					r.quiet(inGit)
				}
			}
			r.step(4)
			until(t, func(c *assert.CollectT) { assert.Equal(c, declared(t, inGit), spec(r.get(f.resource, "httpbin"))) })
			r.quiet(inGit)
		})
	}
}

// TestAMirrorIsDeletedInARamp: it is gone, and no later step, touch or apply brings it back.
func TestAMirrorIsDeletedInARamp(t *testing.T) {
	env.InstallPolicyKinds(t)
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := newRamp(t, f)
			flux(r.site, f, "", f.with(60))
			r.step(1)
			r.stored(r.share(2.5))
			flux(r.site, f, "", f.without())
			gone := func() {
				t.Helper()
				assert.Equal(t, declared(t, f.without()), spec(r.get(f.resource, "httpbin")))
				assert.NotContains(t, asText(r.get(f.resource, "httpbin").Object["spec"]), "x-mirrorgate")
			}
			gone()
			r.step(3)
			r.leave()
			r.come()
			r.touch(r.get(f.resource, "httpbin"))
			gone()
			r.quiet(f.without())
			gone()
		})
	}
}

// TestAPolicyIsDeletedInARamp: what is declared is back.
func TestAPolicyIsDeletedInARamp(t *testing.T) {
	env.InstallPolicyKinds(t)
	env.Serve(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := newRamp(t, f)
			flux(r.site, f, "", f.with(60))
			r.step(2)
			r.stored(r.share(10))
			r.kubectl("", "delete", "mirrorpolicy", "ramp")
			until(t, func(c *assert.CollectT) { assert.Equal(c, declared(t, f.with(60)), spec(r.get(f.resource, "httpbin"))) })
			r.quiet(f.with(60))
		})
	}
}

// TestAPolicyOfAnotherNamespace reaches no route but those of its own.
func TestAPolicyOfAnotherNamespace(t *testing.T) {
	env.InstallPolicyKinds(t)
	env.Serve(t)
	f := forms[0]
	mine, theirs := newRamp(t, f), newSite(t)
	theirs.come()
	flux(theirs, f, "", f.with(60))
	flux(mine.site, f, "", f.with(60))
	mine.stored(mine.share(1))
	assert.Equal(t, declared(t, f.with(60)), spec(theirs.get(f.resource, "httpbin")))
	assert.Contains(t, theirs.refused(strings.Replace(fmt.Sprintf(fiveSteps, "gateway.networking.k8s.io", "HTTPRoute"), "name: httpbin}", "name: httpbin, namespace: "+mine.ns+"}", 1),
		"apply", "-f", "-"), "namespace")
}
