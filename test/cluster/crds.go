// The CustomResourceDefinitions that a test can install, as their projects publish them: the files come from
// the modules that components/crds pins.

package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// crdSet is a set of CRDs, in YAML files of a module or of this package.
type crdSet struct {
	name   string
	module string // pinned in components/crds; empty for this package's own
	files  string // a pattern below the module's folder
	ours   []byte
}

//go:embed crds/argo-rollouts.yaml
var argoRollouts []byte

//go:embed crds/flagger.yaml
var flagger []byte

var crdSets = []crdSet{
	{name: "gateway-api", module: "sigs.k8s.io/gateway-api", files: "config/crd/standard/*.yaml"},
	{name: "istio", module: "istio.io/api", files: "kubernetes/customresourcedefinitions.gen.yaml"},
	{name: "cert-manager", module: "github.com/cert-manager/cert-manager", files: "deploy/crds/*.yaml"},
	{name: "servicemonitors", module: "github.com/prometheus-operator/prometheus-operator", files: "example/prometheus-operator-crd/*_servicemonitors.yaml"},
	{name: "prometheusrules", module: "github.com/prometheus-operator/prometheus-operator", files: "example/prometheus-operator-crd/*_prometheusrules.yaml"},
	{name: "argo-rollouts", ours: argoRollouts},
	{name: "flagger", ours: flagger},
}

// DefaultCRDs are the sets that Start installs when Options.CRDs is nil.
func DefaultCRDs() []string { return []string{"gateway-api", "istio"} }

// KnownCRDs returns all sets that can be installed: gateway-api (the standard channel, with its
// ValidatingAdmissionPolicy), istio, cert-manager, servicemonitors and prometheusrules (of the Prometheus
// operator), and argo-rollouts and flagger (this package's own schemas, which accept any spec).
func KnownCRDs() []string {
	var names []string
	for _, set := range crdSets {
		names = append(names, set.name)
	}
	return names
}

// BuildCRDs downloads the named sets (all if none is named) unless they are already kept beside the built
// components.
func BuildCRDs(ctx context.Context, progress io.Writer, names ...string) error {
	source, cache, err := folders()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = KnownCRDs()
	}
	for _, name := range names {
		if _, err := crdYAML(ctx, source, cache, progress, name); err != nil {
			return err
		}
	}
	return nil
}

// InstallCRDs installs sets of CRDs, or updates them, and returns when every one is established and in the
// API server's discovery, so that a client started afterwards knows their resources.
func (c *Cluster) InstallCRDs(ctx context.Context, names ...string) error {
	errs := make([]error, len(names))
	var sets sync.WaitGroup
	for i, name := range names {
		// The sets are installed in parallel: the API server takes two seconds of one processor to check one.
		sets.Go(func() { errs[i] = c.installSet(ctx, name) })
	}
	sets.Wait()
	return errors.Join(errs...)
}

func (c *Cluster) installSet(ctx context.Context, name string) error {
	yaml, err := crdYAML(ctx, c.source, c.cache, c.options.Progress, name)
	if err != nil {
		return err
	}
	applied, err := c.Kubectl(ctx, string(yaml), "apply", "--server-side", "--force-conflicts", "-o=name", "-f=-")
	if err == nil {
		err = c.waitServed(ctx, crdNames(applied))
	}
	if err != nil {
		return fmt.Errorf("install CRDs %s: %w", name, err)
	}
	return nil
}

// UninstallCRDs deletes sets of CRDs with all their objects and returns when they are gone. Sets that are not
// installed are no error.
func (c *Cluster) UninstallCRDs(ctx context.Context, names ...string) error {
	for _, name := range names {
		yaml, err := crdYAML(ctx, c.source, c.cache, c.options.Progress, name)
		if err != nil {
			return err
		}
		deleted, err := c.Kubectl(ctx, string(yaml), "delete", "--ignore-not-found", "--wait=false", "-o=name", "-f=-")
		for _, crd := range crdNames(deleted) {
			err = errors.Join(err, c.waitGone(ctx, crd))
		}
		if err != nil {
			return fmt.Errorf("uninstall CRDs %s: %w", name, err)
		}
	}
	return nil
}

// waitGone waits until a deleted CRD is gone. When the API server is short of processor time, its finalizer
// can drop a CRD (on a conflict with its own last write) and process it again only at a resync, five minutes
// later. A change of the object triggers it, so waitGone changes the object every two seconds.
func (c *Cluster) waitGone(ctx context.Context, name string) error {
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
	bounded, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	tries := 0
	return poll(bounded, func() error {
		err := c.api.get(bounded, path+name, nil)
		var answer *apiError
		if errors.As(err, &answer) && answer.status == http.StatusNotFound {
			return nil
		}
		if tries++; err == nil && tries%20 == 0 {
			wake := object{"metadata": object{"annotations": object{"cluster.test/wake": fmt.Sprint(tries)}}}
			err = c.api.do(bounded, http.MethodPatch, path+name, "application/merge-patch+json", wake, nil)
		}
		return errors.Join(fmt.Errorf("%s is still there", name), err)
	})
}

// crdNames returns the CRDs in the output of `kubectl apply -o=name`.
func crdNames(applied string) []string {
	var names []string
	for line := range strings.Lines(applied) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "customresourcedefinition.apiextensions.k8s.io/"); ok {
			names = append(names, name)
		}
	}
	return names
}

// crdYAML returns the documents of one set.
func crdYAML(ctx context.Context, source, cache string, progress io.Writer, name string) ([]byte, error) {
	i := slices.IndexFunc(crdSets, func(s crdSet) bool { return s.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no CRDs are called %q; there are %s", name, strings.Join(KnownCRDs(), ", "))
	}
	set := crdSets[i]
	if set.ours != nil {
		return set.ours, nil
	}
	moduleDir := filepath.Join(source, "components", "crds")
	key, version, err := cacheKey(moduleDir, set.name, set.module, set.files)
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(cache, "crds", key+".yaml")
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return nil, err
	}
	err = once(ctx, kept, progress, func() error {
		return set.download(ctx, moduleDir, kept, version, progress)
	})
	if err != nil {
		return nil, fmt.Errorf("CRDs %s: %w", name, err)
	}
	return os.ReadFile(kept)
}

// download writes the set's files, one after the other, to kept. The go command checks the module against
// go.sum.
func (s crdSet) download(ctx context.Context, moduleDir, kept, version string, progress io.Writer) error {
	answer, err := goCommand(ctx, moduleDir, s.name+" CRDs "+version, progress, "mod", "download", "-json", s.module)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(answer, &module); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(module.Dir, filepath.FromSlash(s.files)))
	if err != nil || len(files) == 0 {
		return errors.Join(fmt.Errorf("%s has no %s", s.module, s.files), err)
	}
	var all bytes.Buffer
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "---\n%s\n", text)
	}
	if err := os.WriteFile(kept+".tmp", all.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(kept+".tmp", kept)
}

// crd is the part of a CustomResourceDefinition that lists the versions to be served.
type crd struct {
	Metadata struct{ Name string }
	Spec     struct {
		Group    string
		Names    struct{ Plural string }
		Versions []struct {
			Name   string
			Served bool
		}
	}
	Status struct{ Conditions []condition }
}

// waitServed waits until the named CRDs are established and all their versions are in discovery, which
// follows shortly after.
func (c *Cluster) waitServed(ctx context.Context, names []string) error {
	bounded, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	return poll(bounded, func() error {
		var list struct{ Items []crd }
		if err := c.api.get(bounded, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &list); err != nil {
			return err
		}
		var groups discovery
		if err := c.api.get(bounded, "/apis", &groups); err != nil {
			return err
		}
		found := 0
		for _, crd := range list.Items {
			if !slices.Contains(names, crd.Metadata.Name) {
				continue
			}
			if err := crd.served(groups); err != nil {
				return err
			}
			found++
		}
		if found < len(names) {
			return fmt.Errorf("%d of %d CRDs exist", found, len(names))
		}
		return nil
	})
}

// served returns an error that names what is missing before clients can use the CRD's resources.
func (c crd) served(groups discovery) error {
	if !isTrue(c.Status.Conditions, "Established") {
		return fmt.Errorf("%s is not established", c.Metadata.Name)
	}
	for _, version := range c.Spec.Versions {
		if version.Served && !groups.has(c.Spec.Group, version.Name, c.Spec.Names.Plural) {
			return fmt.Errorf("%s %s is not in discovery", c.Metadata.Name, version.Name)
		}
	}
	return nil
}

// discovery is the API server's aggregated discovery document.
type discovery struct {
	Items []struct {
		Metadata struct{ Name string } // the group
		Versions []struct {
			Version   string
			Resources []struct{ Resource string }
		}
	}
}

func (d discovery) has(group, version, resource string) bool {
	for _, g := range d.Items {
		for _, v := range g.Versions {
			for _, r := range v.Resources {
				if g.Metadata.Name == group && v.Version == version && r.Resource == resource {
					return true
				}
			}
		}
	}
	return false
}
