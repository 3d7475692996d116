package crds

// The CustomResourceDefinitions of MirrorLimits and MirrorPolicies, as an API server reads them.

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

const limit = `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorLimit
metadata: {name: production}
spec:
  namespaceSelector: {matchLabels: {env: prod}}
  maxPercent: 0.5
  maxMirrors: 2
  targets: {namespaces: [shadow, same]}
  methods: [GET, HEAD]
`

const ramp = `
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: {name: web}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web, sectionName: checkout}]
  after: 72h
  ramp: {steps: [{percent: 1, for: 10m}, {percent: 10, for: 1h}, {percent: 100}]}
`

func TestPolicyIsValidated(t *testing.T) {
	env.InstallPolicyKinds(t)
	ns := env.Namespace(t)
	env.MustKubectl(t, limit, "apply", "-f", "-")
	env.MustKubectl(t, ramp, "-n", ns, "apply", "-f", "-")
	assert.Equal(t, "Limit", env.MustKubectl(t, "", "get", "mirrorlimit", "production", "-o", "jsonpath={.spec.action}"), "the default")

	for name, c := range map[string]struct{ manifest, old, replacement, want string }{
		"percentage above 100":     {limit, "maxPercent: 0.5", "maxPercent: 101", "should be less than or equal to 100"},
		"percentage as text":       {limit, "maxPercent: 0.5", `maxPercent: "5%"`, "spec.maxPercent in body must be of type number"},
		"unknown action":           {limit, "maxMirrors: 2", "action: Refuse", `supported values: "Limit", "Deny", "Warn"`},
		"unknown method":           {limit, "GET", "get", "Unsupported value"},
		"no target namespace":      {limit, "[shadow, same]", "[]", "should have at least 1 items"},
		"target in no namespace":   {limit, "shadow,", `"*",`, "should match"},
		"two ends":                 {ramp, "after: 72h", "after: 72h\n  expires: 2026-12-24T00:00:00Z", "expires and after are both set; keep one"},
		"no duration":              {ramp, "after: 72h", "after: soon", "should match"},
		"duration below a second":  {ramp, "after: 72h", "after: 10ms", "must be at least 1s"},
		"step without time":        {ramp, ", for: 10m", "", "every step but the last needs for"},
		"equal step without time":  {ramp, "steps: [{percent: 1, for: 10m}, {percent: 10, for: 1h},", "steps: [{percent: 100},", "every step but the last needs for"},
		"steps that fall":          {ramp, "percent: 10,", "percent: 0.5,", "percentages must not fall"},
		"step above 100":           {ramp, "{percent: 100}", "{percent: 100.5}", "should be less than or equal to 100"},
		"no steps":                 {ramp, "[{percent: 1, for: 10m}, {percent: 10, for: 1h}, {percent: 100}]", "[]", "should have at least 1 items"},
		"group of another kind":    {ramp, "kind: HTTPRoute", "kind: VirtualService", "networking.istio.io for a VirtualService"},
		"kind that has no mirrors": {ramp, "kind: HTTPRoute", "kind: TCPRoute", "Unsupported value"},
		"no target":                {ramp, "[{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web, sectionName: checkout}]", "[]", "should have at least 1 items"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, c.manifest, c.old)
			_, stderr, err := env.Try(t, strings.Replace(c.manifest, c.old, c.replacement, 1), "-n", ns, "apply", "--dry-run=server", "-f", "-")
			require.Error(t, err)
			assert.Contains(t, stderr, c.want)
		})
	}
}

// A tenant cannot make the API server keep, and mirrorgate read, what nobody needs.
func TestPolicyOfAnySizeIsRefused(t *testing.T) {
	env.InstallPolicyKinds(t)
	ns := env.Namespace(t)
	many := strings.Repeat("{percent: 1, for: 10m}, ", 10_000)
	long := strings.Repeat("x", 1_000_000)
	for name, manifest := range map[string]string{
		"10,000 steps":   strings.Replace(ramp, "{percent: 1, for: 10m}, ", many, 1),
		"17 targets":     strings.Replace(ramp, "[{group", "["+targets(16)+"{group", 1),
		"a target twice": strings.Replace(ramp, "[{group", "[{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web, sectionName: checkout}, {group", 1),
		"a long name":    strings.Replace(ramp, "name: web, sec", "name: "+long+", sec", 1),
		"a long time":    strings.Replace(ramp, "after: 72h", "after: 72h"+long, 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, err := env.Try(t, manifest, "-n", ns, "create", "-f", "-")
			require.Error(t, err)
			assert.Contains(t, stderr, "is invalid")
		})
	}
	env.MustKubectl(t, strings.Replace(ramp, "[{group", "["+targets(15)+"{group", 1), "-n", ns, "create", "-f", "-")
}

func targets(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "{group: networking.istio.io, kind: VirtualService, name: web-%d}, ", i)
	}
	return out.String()
}

func TestPolicyIsExplainedAndPrinted(t *testing.T) {
	env.InstallPolicyKinds(t)
	ns := env.Namespace(t)
	env.MustKubectl(t, limit, "apply", "-f", "-")
	env.MustKubectl(t, ramp, "-n", ns, "apply", "-f", "-")
	status := `{"status": {"targets": [{"targetRef": {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"},
		"step": 1, "percent": "10%", "expiresAt": "2026-12-24T00:00:00Z"}]}}`
	env.MustKubectl(t, "", "-n", ns, "patch", "mirrorpolicy", "web", "--subresource=status", "--type=merge", "-p", status)

	explained := ""
	harness.Eventually(t, func() bool { // discovery of the API server's OpenAPI lags behind
		out, _, err := env.Try(t, "", "explain", "mirrorlimit.spec.maxPercent")
		explained = out
		return err == nil
	}, "kubectl explain")
	assert.Contains(t, explained, "Example: 10.")
	assert.Equal(t, [][]string{{"NAME", "ACTION", "PERCENT", "MIRRORS", "AGE"}, {"production", "Limit", "0.5", "2"}},
		columns(env.MustKubectl(t, "", "get", "mirrorlimits")))
	assert.Equal(t, [][]string{{"NAME", "TARGETS", "STEP", "SHARE", "EXPIRES", "AGE"}, {"web", "web", "1", "10%", "2026-12-24T00:00:00Z"}},
		columns(env.MustKubectl(t, "", "-n", ns, "get", "mirrorpolicies")))
}

// columns returns the words of a table without the ages.
func columns(table string) (rows [][]string) {
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		words := strings.Fields(line)
		if i > 0 {
			words = words[:len(words)-1]
		}
		rows = append(rows, words)
	}
	return rows
}
