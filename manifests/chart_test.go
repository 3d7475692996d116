package manifests

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the chart's README")

// TestTheChartsReadmeHasItsValues holds the table in the chart's README against values.yaml and its comments. With
// -update it writes it.
func TestTheChartsReadmeHasItsValues(t *testing.T) {
	raw, err := os.ReadFile("chart/values.yaml")
	require.NoError(t, err)
	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal(raw, &doc))
	var rows strings.Builder
	writeValues(&rows, doc.Content[0], "", "")
	want := fmt.Sprintf(`# Helm chart of mirrorgate

It installs the same objects as kustomize: see [docs/install.md](../../docs/install.md#with-helm). The table is made from
[values.yaml](values.yaml); [values.schema.json](values.schema.json) refuses unknown and wrong values with their path.

| value | default | |
|---|---|---|
%s`, rows.String())
	if *update {
		require.NoError(t, os.WriteFile("chart/README.md", []byte(want), 0o600))
		return
	}
	have, err := os.ReadFile("chart/README.md")
	require.NoError(t, err)
	require.Equal(t, want, string(have), "go test ./manifests -update writes it")
}

// writeValues writes a row for each value that is no object with keys, with its comment or that of the keys above
// it.
func writeValues(rows *strings.Builder, n *yaml.Node, at, comment string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path, says := strings.TrimPrefix(at+"."+key.Value, "."), comment
		if key.HeadComment != "" {
			paragraphs := strings.Split(key.HeadComment, "\n\n")
			says = strings.ReplaceAll(strings.ReplaceAll(paragraphs[len(paragraphs)-1], "# ", ""), "\n", " ")
		}
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 {
			writeValues(rows, value, path, says)
			continue
		}
		text, err := yaml.Marshal(value)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(rows, "| `%s` | `%s` | %s |\n", path, strings.TrimSpace(string(text)), says)
	}
}
