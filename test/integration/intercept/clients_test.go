package intercept

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/ssa"
	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	product "github.com/mirrorgate/mirrorgate/internal/intercept"
)

// author is a client that writes the Service with a tool.
type author struct {
	// owner is the field manager of the tool.
	owner string
	write func(s *site, before, after string)
	// diff shows whether the tool would change something.
	diff func(s *site, now string)
}

var authors = map[string]author{
	"kubectl apply --server-side": {
		owner: "kubectl",
		write: func(s *site, _, after string) { s.kubectl(after, "apply", "--server-side", "-f=-") },
		diff:  func(s *site, now string) { s.kubectl(now, "diff", "--server-side", "-f=-") },
	},
	"kubectl apply": {
		owner: "kubectl-client-side-apply",
		write: func(s *site, _, after string) { s.kubectl(after, "apply", "-f=-") },
		diff:  func(s *site, now string) { s.kubectl(now, "diff", "-f=-") },
	},
	"Flux": {
		owner: "flux",
		write: func(s *site, _, after string) {
			_, err := flux(s).Apply(s.t.Context(), s.object(after), ssa.DefaultApplyOptions())
			require.NoError(s.t, err)
		},
		diff: func(s *site, now string) {
			entry, _, _, err := flux(s).Diff(s.t.Context(), s.object(now), ssa.DefaultDiffOptions())
			require.NoError(s.t, err)
			assert.Equal(s.t, ssa.UnchangedAction, entry.Action)
		},
	},
	// As Helm does without server-side apply: it merges the last manifest, this one and the stored object for
	// the keys that differ.
	"Helm's three-way merge": {
		owner: "helm",
		write: func(s *site, before, after string) {
			stored, err := env.Kubectl(s.t.Context(), "", "-n", s.ns, "get", "service", "httpbin", "-o=json")
			if err != nil {
				s.kubectl(after, "create", "--field-manager=helm", "-f=-")
				return
			}
			s.kubectl("", "patch", "service", "httpbin", "--type=merge", "--field-manager=helm", "-p", threeWay(s.t, before, after, stored))
		},
		diff: func(*site, string) {},
	},
}

func (s *site) object(text string) *unstructured.Unstructured {
	s.t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(s.t, yaml.Unmarshal([]byte(text), &u.Object))
	u.SetNamespace(s.ns)
	return u
}

func flux(s *site) *ssa.ResourceManager {
	s.t.Helper()
	log.SetLogger(logr.Discard())
	c, err := client.New(env.Config(s.t), client.Options{})
	require.NoError(s.t, err)
	return ssa.NewResourceManager(c, nil, ssa.Owner{Field: "flux", Group: "flux.test"})
}

// threeWay is the merge patch of the selector and the ports.
func threeWay(t *testing.T, before, after, stored string) string {
	t.Helper()
	selector := func(text string) map[string]string {
		u := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(text), &u.Object))
		m, _, err := unstructured.NestedStringMap(u.Object, "spec", "selector")
		require.NoError(t, err)
		return m
	}
	was, is, have := selector(before), selector(after), selector(stored)
	var parts []string
	for key := range was {
		if _, stays := is[key]; !stays {
			parts = append(parts, fmt.Sprintf("%q:null", key))
		}
	}
	for key, value := range is {
		if have[key] != value {
			parts = append(parts, fmt.Sprintf("%q:%q", key, value))
		}
	}
	return `{"spec":{"selector":{` + strings.Join(parts, ",") + `}}}`
}

type selector = map[string]string

// For every author, in every mode: applying again changes nothing, an edit of the selector becomes the
// author's meaning, no diff shows anything, and the author stays the only owner.
func TestAuthorsAndModes(t *testing.T) {
	serve(t)
	for name, a := range authors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			written := ""
			now := manifest("app: httpbin")
			write := func(text string) {
				a.write(s, written, text)
				written = text
			}
			write(now)
			for _, mode := range []product.Mode{product.Own, product.Bypass, product.Proxied, product.Bypass, product.Own} {
				s.mode(mode, selector{"app": "httpbin"})
				write(now)
				before := s.service()
				write(now)
				after := s.service()
				assert.Equal(t, before.ResourceVersion, after.ResourceVersion, "%s: applied again", mode)
				assert.Equal(t, mode, leads(after))
				a.diff(s, now)
				for _, field := range []string{"f:selector", "f:ports"} {
					assert.Equal(t, []string{a.owner}, owners(t, after, field), "%s: %s", mode, field)
				}
			}
			edit := func(mode product.Mode, text string, want selector) {
				write(manifest(text))
				assert.Equal(t, want, means(t, s.service()), "right after %s", text)
				s.becomes(mode, want)
				a.diff(s, manifest(text))
			}
			s.mode(product.Proxied, selector{"app": "httpbin"})
			edit(product.Proxied, "app: httpbin, tier: web", selector{"app": "httpbin", "tier": "web"})
			edit(product.Proxied, "app: httpbin, tier: db", selector{"app": "httpbin", "tier": "db"})
			edit(product.Proxied, "app: httpbin", selector{"app": "httpbin"})
			s.mode(product.Bypass, selector{"app": "httpbin"})
			// docs/design/intercept.md says which edits cannot be detected in bypass.
			edit(product.Bypass, "app: httpbin, tier: web", selector{"app": "httpbin", "tier": "web"})
			edit(product.Bypass, "app: httpbin, tier: db", selector{"app": "httpbin", "tier": "db"})
			edit(product.Bypass, "app: other, tier: db", selector{"app": "other", "tier": "db"})
			s.mode(product.Proxied, selector{"app": "other", "tier": "db"})
			edit(product.Proxied, "app: httpbin", selector{"app": "httpbin"})
			assert.Equal(t, []string{a.owner}, owners(t, s.service(), "f:selector"))
			s.mode(product.Own, selector{"app": "httpbin"})
			assert.NotContains(t, s.kubectl("", "get", "service", "httpbin", "-o=yaml"), "mirrorgate", "no trace")
		})
	}
}

// A port that is added is served once proxies listen on it, and not earlier.
func TestPortIsAdded(t *testing.T) {
	serve(t)
	s := newSite(t)
	s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	s.mode(product.Proxied, selector{"app": "httpbin"})
	two := manifest("app: httpbin", "{name: more, port: 9000, targetPort: named, protocol: TCP}")
	s.kubectl(two, "apply", "--server-side", "-f=-")
	assert.Equal(t, product.Bypass, leads(s.service()), "in the same write")
	s.becomes(product.Proxied, selector{"app": "httpbin"})
	ports := s.kubectl("", "get", "deployment", "httpbin-mirrorgate-proxy", "-o=jsonpath={.spec.template.spec.containers[0].ports[*].name}")
	assert.Equal(t, "named", ports)
}

// The dry run of a write returns the same result as the write.
func TestDryRunOfAService(t *testing.T) {
	serve(t)
	s := newSite(t)
	s.kubectl(manifest("app: httpbin"), "apply", "--server-side", "-f=-")
	for _, mode := range []product.Mode{product.Proxied, product.Bypass} {
		s.mode(mode, selector{"app": "httpbin"})
		labelled := strings.Replace(manifest("app: httpbin"), "labels: {", "labels: {mode: "+string(mode)+", ", 1)
		promised := s.kubectl(labelled, "apply", "--server-side", "--dry-run=server", "-o=jsonpath={.spec.selector} {.metadata.annotations}", "-f=-")
		stored := s.kubectl(labelled, "apply", "--server-side", "-o=jsonpath={.spec.selector} {.metadata.annotations}", "-f=-")
		assert.Equal(t, promised, stored)
	}
}
