package istio

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
	"github.com/mirrorgate/mirrorgate/test/judges/istio/oracle"
)

// grafts is how often each manifest of others is judged with mirrors in it.
const grafts = 3

// faulty are routes that Istio's analyzers are tested with: they have faults on purpose, which mirrorgate denies.
var faulty = map[string]string{
	"default/reviews-mirror":             "MirrorsItself",
	"default/reviews-mirror-bogussubset": "SubsetNotFound",
}

// The VirtualServices in Istio's own repository, samples and tests, are written by other people. Of those that
// Istio accepts none is denied, none without a mirror changes, and with mirrors grafted into their rules they are
// stored in a form that means the same.
func TestManifestsOfOthers(t *testing.T) {
	root := source(t, "istio.io/istio")
	files, routes, mirrored := 0, 0, 0
	require.NoError(t, filepath.WalkDir(root, func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".yaml" {
			return err
		}
		c := manifestsOf(t, file)
		if len(c.Routes) == 0 {
			return nil
		}
		files++
		routes += len(c.Routes)
		t.Run(strings.TrimPrefix(file, root+"/"), func(t *testing.T) {
			untouched(t, c)
			for seed := range uint64(grafts) {
				m := clusters.Seeded(seed)
				grafted := clusters.Cluster{Objects: c.Objects}
				for _, r := range c.Routes {
					r = clusters.Clone(r)
					m.Graft(r)
					if len(clusters.List(r, "spec", "http")) > 0 && !refused(r) {
						grafted.Routes = append(grafted.Routes, r)
						mirrored += strings.Count(string(clusters.JSON(r)), `"mirror`)
					}
				}
				assert.Empty(t, equivalentFor(t, grafted, askersOf(c)), "seed %d", seed)
			}
		})
		return nil
	}))
	t.Logf("%d files, %d routes, %d mirrors", files, routes, mirrored)
	require.Greater(t, routes, 80)
	require.Greater(t, mirrored, 100)
}

// source returns the folder of a module that this one builds with.
func source(t *testing.T, module string) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(dir))
}

// manifestsOf returns the VirtualServices in a file that Istio accepts, and the objects beside them that it can read.
// A file that is a template, or no YAML, has none.
func manifestsOf(t *testing.T, file string) (c clusters.Cluster) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	if !bytes.Contains(text, []byte("kind: VirtualService")) {
		return c
	}
	raws, err := manifest.Objects(text)
	if err != nil {
		return c
	}
	seen := map[string]bool{}
	for _, raw := range raws {
		o := clusters.Parse(raw)
		metadata, _ := o["metadata"].(clusters.Object)
		if metadata == nil {
			continue
		}
		if metadata["namespace"] == nil {
			metadata["namespace"] = "default"
		}
		id := fmt.Sprint(o["kind"], clusters.Name(o))
		_, err := oracle.Read([]clusters.Object{o})
		switch {
		case err != nil, refused(o), seen[id], metadata["name"] == nil:
		case o["kind"] == "VirtualService":
			c.Routes = append(c.Routes, o)
		default:
			c.Objects = append(c.Objects, o)
		}
		seen[id] = true
	}
	return c
}

// untouched requires that no route is denied, and that one without mirrors is stored as it was written.
func untouched(t *testing.T, c clusters.Cluster) {
	t.Helper()
	g, err := gate.New(clusters.Text(c.Objects, c.Routes))
	require.NoError(t, err)
	for _, r := range c.Routes {
		raw := clusters.JSON(r)
		denial, err := g.Validate(t.Context(), raw)
		require.NoError(t, err)
		if why := faulty[clusters.Name(r)]; why != "" && denial != "" {
			assert.Contains(t, denial, why)
		} else {
			assert.Empty(t, denial, "%s is denied", clusters.Name(r))
		}
		stored, err := g.Mutate(t.Context(), raw)
		require.NoError(t, err)
		if !bytes.Contains(raw, []byte(`"mirror`)) {
			assert.JSONEq(t, string(raw), string(stored))
		}
	}
}

// askersOf returns the proxies that see the routes of a cluster: a sidecar in each namespace, and the gateways.
func askersOf(c clusters.Cluster) (askers []asker) {
	names := []string{"80"}
	namespaces := []string{"default", "elsewhere"}
	for _, o := range c.Objects {
		for _, p := range clusters.List(o, "spec", "ports") {
			names = append(names, fmt.Sprint(clusters.At(p, "port"), clusters.At(p, "number")))
		}
	}
	for i, name := range names {
		names[i] = strings.TrimSpace(strings.ReplaceAll(name, "<nil>", ""))
	}
	for _, o := range slices.Concat(c.Objects, c.Routes) {
		namespaces = append(namespaces, clusters.At(o, "metadata", "namespace").(string))
	}
	slices.Sort(names)
	slices.Sort(namespaces)
	for _, namespace := range slices.Compact(namespaces) {
		askers = append(askers, asker{oracle.Proxy{Namespace: namespace}, slices.Compact(names)})
	}
	for _, o := range c.Objects {
		selector, _ := clusters.At(o, "spec", "selector").(clusters.Object)
		if o["kind"] != "Gateway" || selector == nil {
			continue
		}
		labels := map[string]string{}
		for k, v := range selector {
			labels[k] = fmt.Sprint(v)
		}
		var listens []string
		for _, s := range clusters.List(o, "spec", "servers") {
			listens = append(listens, fmt.Sprint("http.", clusters.At(s, "port", "number")))
		}
		namespace := clusters.At(o, "metadata", "namespace").(string)
		askers = append(askers, asker{oracle.Proxy{Namespace: namespace, Labels: labels, Gateway: true}, listens})
	}
	return askers
}
