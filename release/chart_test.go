package main

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	chartutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// render returns the files that a chart makes from values.
func render(t *testing.T, c *chart.Chart, values map[string]any) map[string]string {
	t.Helper()
	in, err := chartutil.ToRenderValues(c, values, common.ReleaseOptions{Name: "mirrorgate", Namespace: "mirrorgate-system"}, nil)
	require.NoError(t, err)
	made, err := engine.Render(c, in)
	require.NoError(t, err)
	require.Contains(t, made["mirrorgate/templates/objects.yaml"], "kind: Deployment")
	return made
}

func TestPackedChartRendersTheSameFilesAsTheFolder(t *testing.T) {
	folder := filepath.Join("..", "manifests", "chart")
	file, err := writeChart(folder, t.TempDir(), "v1.2.3")
	require.NoError(t, err)
	require.Equal(t, "mirrorgate-1.2.3.tgz", filepath.Base(file))
	packed, err := loader.Load(file)
	require.NoError(t, err)
	require.Equal(t, "1.2.3", packed.Metadata.Version)
	written, err := loader.Load(folder)
	require.NoError(t, err)
	for name, values := range map[string]map[string]any{
		"no values": {},
		"everything": {
			"certs": map[string]any{"source": "cert-manager"}, "proxy": map[string]any{"enabled": true},
			"prometheus": map[string]any{"enabled": true}, "networkPolicy": map[string]any{"enabled": true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			have := render(t, packed, values)
			require.Contains(t, have["mirrorgate/templates/objects.yaml"], "image: mirrorgate/mirrorgate:v1.2.3\n")
			// The folder belongs to no release, so its tag has to be set.
			tagged := maps.Clone(values)
			tagged["image"] = map[string]any{"tag": "v1.2.3"}
			want := render(t, written, tagged)
			notes := "mirrorgate/templates/NOTES.txt"
			want[notes] = strings.Replace(want[notes], "mirrorgate latest ", "mirrorgate v1.2.3 ", 1)
			require.Equal(t, want, have)
		})
	}
}

func TestChartHasAVersionThatHelmAccepts(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "v1.2.3-rc.1": "1.2.3-rc.1", "v1.2.3-4-gabc": "1.2.3-4-gabc",
		"0123456": "0.0.0-devel-0123456", "1234567": "0.0.0-devel-1234567", "037a708-dirty": "0.0.0-devel-037a708-dirty", "devel": "0.0.0-devel-devel",
	} {
		require.Equal(t, want, chartVersion(version))
		require.NoError(t, (&chart.Metadata{APIVersion: "v2", Name: "mirrorgate", Version: want}).Validate())
	}
}
