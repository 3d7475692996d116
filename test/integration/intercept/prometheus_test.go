package intercept

// Prometheus' own discovery and relabeling, with the steps that Prometheus Operator makes of a ServiceMonitor: by the
// labels of a Service, to the pods of its Endpoints or EndpointSlices.

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	product "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var roles = []kubernetes.Role{kubernetes.RoleEndpoint, kubernetes.RoleEndpointSlice}

// step is a step of relabeling, as the operator spells it.
type step struct {
	SourceLabels                            model.LabelNames
	Regex, TargetLabel, Replacement, Action string
}

// config is the step as Prometheus reads it.
func (s *step) config(t *testing.T) *relabel.Config {
	t.Helper()
	c := relabel.DefaultRelabelConfig
	c.SourceLabels, c.TargetLabel = s.SourceLabels, s.TargetLabel
	if s.Regex != "" {
		c.Regex = relabel.MustNewRegexp(s.Regex)
	}
	if s.Replacement != "" {
		c.Replacement = s.Replacement
	}
	if s.Action != "" {
		c.Action = relabel.Action(s.Action)
	}
	require.NoError(t, c.Validate(model.LegacyValidation))
	return &c
}

// monitored are the steps of a ServiceMonitor with a label, a port by name and nothing else.
func monitored(role kubernetes.Role) []step {
	from := func(names ...model.LabelName) model.LabelNames { return names }
	const meta = "__meta_kubernetes_"
	at := model.LabelName(meta + strings.TrimSuffix(string(role), "s"))
	return []step{
		{from(meta+"service_label_app", meta+"service_labelpresent_app"), "(httpbin);true", "", "", "keep"},
		{from(at + "_port_name"), "http", "", "", "keep"},
		{from(at+"_address_target_kind", at+"_address_target_name"), "Pod;(.*)", "pod", "", ""},
		{from(meta + "namespace"), "", "namespace", "", ""},
		{from(meta + "service_name"), "", "service", "", ""},
		{from(meta + "pod_name"), "", "pod", "", ""},
		{from(meta + "pod_container_name"), "", "container", "", ""},
		{from(meta + "pod_phase"), "(Failed|Succeeded)", "", "", "drop"},
		{from(meta + "service_name"), "", "job", "", ""},
		{nil, "", "endpoint", "http", ""},
	}
}

var documented = regexp.MustCompile("(?s)```yaml\n(scrapeClasses:.*?)```")

// advised are the steps that docs/nomesh.md advises.
func advised(t *testing.T) []step {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "nomesh.md"))
	require.NoError(t, err)
	found := documented.FindSubmatch(page)
	require.NotNil(t, found)
	var prometheus struct {
		ScrapeClasses []struct {
			Name        string
			Default     bool
			Relabelings []step
		}
	}
	require.NoError(t, yaml.UnmarshalStrict(found[1], &prometheus))
	require.True(t, prometheus.ScrapeClasses[0].Default)
	require.NotEmpty(t, prometheus.ScrapeClasses[0].Relabelings)
	return prometheus.ScrapeClasses[0].Relabelings
}

// targets are what discovery has found.
type targets struct {
	mu     sync.Mutex
	groups map[kubernetes.Role]map[string]*targetgroup.Group
}

// discover follows a namespace in each role.
func discover(t *testing.T, namespace string) *targets {
	t.Helper()
	found := &targets{groups: map[kubernetes.Role]map[string]*targetgroup.Group{}}
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // for the end of the test's context
	for _, role := range roles {
		config := kubernetes.DefaultSDConfig
		config.Role, config.KubeConfig, config.NamespaceDiscovery.Names = role, env.Kubeconfig, []string{namespace}
		registry := prometheus.NewRegistry()
		d, err := config.NewDiscoverer(discovery.DiscovererOptions{
			Logger: slog.New(slog.DiscardHandler), Metrics: config.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry)),
		})
		require.NoError(t, err)
		found.groups[role] = map[string]*targetgroup.Group{}
		updates := make(chan []*targetgroup.Group)
		running.Go(func() { d.Run(t.Context(), updates) })
		running.Go(func() {
			for {
				select {
				case <-t.Context().Done():
					return
				case groups := <-updates:
					found.update(role, groups)
				}
			}
		})
	}
	return found
}

func (f *targets) update(role kubernetes.Role, groups []*targetgroup.Group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, group := range groups {
		f.groups[role][group.Source] = group
	}
}

// of returns the labels of the targets that a ServiceMonitor gets, with more steps at its end.
func (f *targets) of(t *testing.T, role kubernetes.Role, more []step) (found []string) {
	t.Helper()
	var steps []*relabel.Config
	for _, s := range slices.Concat(monitored(role), more) {
		steps = append(steps, s.config(t))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, group := range f.groups[role] {
		for _, target := range group.Targets {
			b := labels.NewBuilder(labels.EmptyLabels())
			for _, set := range []model.LabelSet{group.Labels, target} {
				for name, value := range set {
					b.Set(string(name), string(value))
				}
			}
			if !relabel.ProcessBuilder(b, steps...) {
				continue
			}
			b.Set(model.InstanceLabel, b.Get(model.AddressLabel))
			b.Range(func(l labels.Label) {
				if strings.HasPrefix(l.Name, "__") {
					b.Del(l.Name)
				}
			})
			found = append(found, b.Labels().String())
		}
	}
	slices.Sort(found)
	return found
}

// A ServiceMonitor goes on with the same series of the application's pods when proxies come and go, with the steps that
// docs/nomesh.md advises. Without them it scrapes the proxies as well.
func TestServiceMonitorKeepsItsTargets(t *testing.T) {
	serve(t)
	s := newSite(t)
	for _, variant := range []string{"v1", "v2"} {
		s.kubectl(strings.Replace(harness.Deployment(variant), "image: httpbin}", "image: httpbin, ports: [{containerPort: 80}]}", 1), "apply", "-f=-")
	}
	s.kubectl(manifest("app: httpbin"), "apply", "-f=-")
	p := discover(t, s.ns)
	before, steps := map[kubernetes.Role][]string{}, advised(t)
	for _, role := range roles {
		harness.Eventually(t, func() bool {
			before[role] = p.of(t, role, nil)
			return len(before[role]) == 2
		}, "Prometheus does not find the pods by %s", role)
		for _, target := range before[role] {
			assert.Contains(t, target, `job="httpbin"`)
		}
		assert.Equal(t, before[role], p.of(t, role, steps))
	}
	// become waits until the advised targets are those of before or none, and the plain ones as many as wanted.
	become := func(when string, same bool, plain int) {
		t.Helper()
		for role, want := range before {
			if !same {
				want = nil
			}
			var ours, all []string
			harness.Eventually(t, func() bool {
				ours, all = p.of(t, role, steps), p.of(t, role, nil)
				return slices.Equal(ours, want) && len(all) == plain
			}, "%s, by %s", when, role)
		}
	}
	s.mode(product.Proxied, selector{"app": "httpbin"})
	become("with proxies", true, 2+2)
	s.kubectl("", "label", "service", "httpbin", "app=other", "--overwrite")
	become("with another label", false, 0)
	s.kubectl("", "label", "service", "httpbin", "app=httpbin", "--overwrite")
	become("with the label again", true, 2+2)
	s.mode(product.Own, selector{"app": "httpbin"})
	become("without proxies", true, 2)
}
