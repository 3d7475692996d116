package istio

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
)

// The VirtualServices of the demo and of the golden files of policy are judged as well, with no variant there and
// with their own.
func TestOurOwnRoutes(t *testing.T) {
	routes := 0
	for _, pattern := range []string{"internal/policy/testdata/vs-*/route.yaml", "internal/demo/documents/istio-virtualservice/mirror-route.yaml"} {
		files, err := filepath.Glob(filepath.Join("..", "..", "..", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			c := folder(t, file)
			routes += len(c.Routes)
			t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
				assert.Empty(t, accepted(equivalent)(t, c))
				assert.Empty(t, accepted(equivalent)(t, clusters.Cluster{Routes: c.Routes}))
			})
		}
	}
	assert.Greater(t, routes, 20)
}

// folder returns the VirtualServices in a file, and the cluster that the files beside it describe.
func folder(t *testing.T, route string) clusters.Cluster {
	t.Helper()
	var c clusters.Cluster
	files, err := filepath.Glob(filepath.Join(filepath.Dir(route), "httpbin*.yaml"))
	require.NoError(t, err)
	for _, file := range append(files, route) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, o := range objects(t, text) {
			if clusters.At(o, "metadata", "namespace") == nil {
				o["metadata"].(clusters.Object)["namespace"] = "default"
			}
			if o["kind"] == "VirtualService" {
				c.Routes = append(c.Routes, o)
			} else {
				c.Objects = append(c.Objects, o)
			}
		}
	}
	c.Routes = slices.DeleteFunc(c.Routes, func(r clusters.Object) bool {
		return clusters.At(r, "metadata", "annotations", "mirrorgate.dev/parked") != nil // written by nobody
	})
	return c
}
