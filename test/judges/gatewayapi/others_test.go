package gatewayapi

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/crd"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
)

// grafts is how often each manifest of others is judged with mirrors in it.
const grafts = 3

// The routes in the Gateway API's own releases, examples and conformance tests, are written by other people. Of those
// that the release's CRDs accept none is denied, none without a mirror changes, and with mirrors grafted into their
// rules the CRDs accept and refuse the same as before.
func TestManifestsOfOthers(t *testing.T) {
	routes := 0
	for release, sum := range releases {
		root := download(t, release, sum)
		schemas := map[string]*crd.Schema{}
		require.NoError(t, filepath.WalkDir(root, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".yaml" {
				return err
			}
			for _, route := range routesOf(t, file) {
				schema := schemaOf(t, schemas, root, route)
				if schema == nil {
					continue
				}
				normal, err := schema.Normal(clusters.JSON(route))
				require.NoError(t, err)
				if schema.Check(t.Context(), normal) != nil {
					continue
				}
				route = clusters.Parse(normal)
				routes++
				t.Run(release+strings.TrimPrefix(file, root)+" "+clusters.Name(route), func(t *testing.T) { judgeOther(t, schema, route) })
			}
			return nil
		}))
	}
	t.Logf("%d routes", routes)
	require.Greater(t, routes, 300)
}

// judgeOther judges a route as it is and with mirrors.
func judgeOther(t *testing.T, schema *crd.Schema, route clusters.Object) {
	t.Helper()
	g, err := gate.New()
	require.NoError(t, err)
	raw := clusters.JSON(route)
	denial, err := g.Validate(t.Context(), raw)
	require.NoError(t, err)
	assert.Empty(t, denial)
	if !bytes.Contains(raw, []byte("RequestMirror")) {
		stored, err := g.Mutate(t.Context(), raw)
		require.NoError(t, err)
		assert.JSONEq(t, string(raw), string(stored))
	}
	for seed := range uint64(grafts) {
		grafted := clusters.Clone(route)
		clusters.Seeded(seed).Graft(grafted)
		_, difference := compare(t, schema, clusters.Cluster{Routes: []clusters.Object{grafted}})
		assert.Empty(t, difference)
	}
}

// routesOf returns the routes in a file. One that is no YAML has none.
func routesOf(t *testing.T, file string) (routes []clusters.Object) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	if !bytes.Contains(text, []byte("kind: HTTPRoute")) && !bytes.Contains(text, []byte("kind: GRPCRoute")) {
		return nil
	}
	raws, err := manifest.Objects(text)
	if err != nil {
		return nil
	}
	for _, raw := range raws {
		o := clusters.Parse(raw)
		metadata, ok := o["metadata"].(clusters.Object)
		if (o["kind"] == "HTTPRoute" || o["kind"] == "GRPCRoute") && ok {
			if metadata["namespace"] == nil {
				metadata["namespace"] = "default"
			}
			routes = append(routes, o)
		}
	}
	return routes
}

// schemaOf returns the experimental schema that a release has for a route's version, nil for none.
func schemaOf(t *testing.T, schemas map[string]*crd.Schema, root string, route clusters.Object) *crd.Schema {
	t.Helper()
	kind, _ := route["kind"].(string)
	group, version, _ := strings.Cut(route["apiVersion"].(string), "/")
	key := kind + version
	if _, known := schemas[key]; !known && group == "gateway.networking.k8s.io" {
		text, err := os.ReadFile(filepath.Join(root, "config", "crd", "experimental", group+"_"+strings.ToLower(kind)+"s.yaml"))
		require.NoError(t, err)
		schemas[key], _ = crd.Read(text, kind, version) // nil for a version that is not served any more
	}
	return schemas[key]
}
