// Package gatewayapi holds mirrorgate against the CRDs of the Gateway API, of several versions and both channels.
// docs/design/judges.md says what it asks.
package gatewayapi

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/test/judges/cases"
	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/crd"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
)

// releases are the versions of sigs.k8s.io/gateway-api whose CRDs judge, with the checksums of the modules.
var releases = map[string]string{
	"v1.0.0": "h1:iPTStSv41+d9p0xFydll6d7f7MOBGuqXM6p2/zVYMAs=",
	"v1.2.1": "h1:fZZ/+RyRb+Y5tGkwxFKuYuSRQHu9dZtbjenblleOLHM=",
	"v1.4.0": "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=",
	"v1.6.3": "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
}

// What a CRD accepts as written, it accepts as mirrorgate stores it. What it refuses is refused: if mirrorgate parked
// it, the fault would show when the variant comes.
func TestCRDs(t *testing.T) {
	for release, sum := range releases {
		dir := download(t, release, sum)
		for _, channel := range []string{"standard", "experimental"} {
			for kind, plural := range map[string]string{"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes"} {
				version := "v1"
				if release == "v1.0.0" && kind == "GRPCRoute" {
					if version = "v1alpha2"; channel == "standard" {
						continue // it is experimental there
					}
				}
				t.Run(fmt.Sprint(release, " ", channel, " ", kind), func(t *testing.T) {
					t.Parallel()
					text, err := os.ReadFile(filepath.Join(dir, "config", "crd", channel, "gateway.networking.k8s.io_"+plural+".yaml"))
					require.NoError(t, err)
					schema, err := crd.Read(text, kind, version)
					require.NoError(t, err)
					judge(t, schema, kind, version)
				})
			}
		}
	}
}

// download returns the folder of the module in a version, after it was checked.
func download(t *testing.T, version, sum string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "sigs.k8s.io/gateway-api@"+version)
	cmd.Dir = t.TempDir() // outside of any module: this one needs none of them
	cmd.Stderr = os.Stderr
	answer, err := cmd.Output()
	require.NoError(t, err, string(answer))
	var module struct{ Dir, Sum string }
	require.NoError(t, json.Unmarshal(answer, &module))
	require.Equal(t, sum, module.Sum, "the checksum of sigs.k8s.io/gateway-api %s", version)
	return module.Dir
}

func judge(t *testing.T, schema *crd.Schema, kind, version string) {
	t.Helper()
	accepted, refused := 0, 0
	cases.Question{
		Random: func(seed uint64) clusters.Cluster {
			m := clusters.Seeded(seed)
			c := m.GatewayRoute(kind, version)
			if !m.OneIn(3) {
				m.Damage(c.Routes[0])
			}
			return c
		},
		Whole: func(c clusters.Cluster) bool { return len(c.Routes) > 0 },
		Judge: func(t *testing.T, c clusters.Cluster) []string {
			t.Helper()
			ok, fault := compare(t, schema, c)
			if ok {
				accepted++
			} else {
				refused++
			}
			if fault == "" {
				return nil
			}
			return []string{fault}
		},
	}.Ask(t)
	for file, c := range goldens(t, kind, version) {
		if _, fault := compare(t, schema, c); fault != "" {
			t.Errorf("%s: %s", file, fault)
		}
	}
	t.Logf("%d routes accepted as written, %d refused", accepted, refused)
	if *cases.Count >= 100 && !t.Failed() {
		assert.NotZero(t, accepted)
		assert.NotZero(t, refused)
	}
}

// goldens returns the routes of a kind in the golden files of policy, by file, with no variant there.
func goldens(t *testing.T, kind, version string) map[string]clusters.Cluster {
	t.Helper()
	files, err := filepath.Glob("../../../internal/policy/testdata/*/route.yaml")
	require.NoError(t, err)
	found := map[string]clusters.Cluster{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		raws, err := manifest.Objects(text)
		require.NoError(t, err)
		for _, raw := range raws {
			if o := clusters.Parse(raw); o["kind"] == kind {
				o["apiVersion"] = "gateway.networking.k8s.io/" + version
				found[file] = clusters.Cluster{Routes: []clusters.Object{o}}
			}
		}
	}
	require.NotEmpty(t, found)
	return found
}

// compare reports whether a CRD accepts the route of a cluster, and how the answer about the stored route differs.
func compare(t *testing.T, schema *crd.Schema, c clusters.Cluster) (accepted bool, difference string) {
	t.Helper()
	g, err := gate.New(clusters.Text(c.Objects))
	require.NoError(t, err)
	accepted, difference, err = g.Compare(t.Context(), schema, clusters.JSON(c.Routes[0]))
	require.NoError(t, err)
	return accepted, difference
}
