package istio

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
	"github.com/mirrorgate/mirrorgate/test/judges/istio/oracle"
)

// known reads testdata/NAME.txtar. Its file expect has a line for each mirror that clients meet: route, field path
// and "ready", "not ready" or "no cluster".
func known(t *testing.T, name string) gate.Case {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	require.NoError(t, err)
	base, err := os.ReadFile(filepath.Join("testdata", "base.yaml"))
	require.NoError(t, err)
	c := gate.Case{Cluster: clusters.Cluster{Objects: objects(t, base)}, Answers: gate.Answers{}}
	for _, f := range archive.Files {
		switch f.Name {
		case "cluster.yaml":
			c.Cluster.Objects = append(c.Cluster.Objects, objects(t, f.Data)...)
		case "routes.yaml":
			c.Cluster.Routes = objects(t, f.Data)
		case "expect":
			for line := range strings.Lines(string(f.Data)) {
				words := strings.Fields(line)
				require.Greater(t, len(words), 2, line)
				answer, ok := gate.ParseAnswer(strings.Join(words[2:], " "))
				require.True(t, ok, line)
				c.Answers[words[0]+" "+words[1]] = answer
			}
		default:
			t.Fatalf("%s: what is %s?", name, f.Name)
		}
	}
	return c
}

func objects(t *testing.T, text []byte) []clusters.Object {
	t.Helper()
	raws, err := manifest.Objects(text)
	require.NoError(t, err)
	var out []clusters.Object
	for _, raw := range raws {
		out = append(out, clusters.Parse(raw))
	}
	return out
}

// Clusters that were written by hand, one for each rule of Istio's: Istio says what is expected, mirrorgate says
// the same, and what it stores is equivalent.
func TestKnownClusters(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			c := known(t, name)
			for _, o := range slices.Concat(c.Cluster.Objects, c.Cluster.Routes) {
				if refused(o) {
					t.Errorf("Istio refuses %s: %v", clusters.Name(o), oracle.Check(clusters.JSON(o)))
				}
			}
			answers := answersOf(t, c.Cluster)
			if *update {
				expect(t, file, answers)
				return
			}
			assert.Equal(t, c.Answers, answers, "the answers of Istio (%d)", len(answers))
			found, err := gate.Disagreements(gate.Case{Cluster: c.Cluster, Answers: answers})
			require.NoError(t, err)
			assert.Empty(t, found)
			assert.Empty(t, equivalent(t, c.Cluster))
		})
	}
}

// expect writes Istio's answers into the file of a known cluster.
func expect(t *testing.T, file string, answers gate.Answers) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	require.NoError(t, err)
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(answers)) {
		fmt.Fprintln(&text, key, answers[key])
	}
	for i := range archive.Files {
		if archive.Files[i].Name == "expect" {
			archive.Files[i].Data = []byte(text.String())
		}
	}
	require.NoError(t, os.WriteFile(file, txtar.Format(archive), 0o600))
}

// A mirror that is judged the wrong way round is seen.
func TestReadinessSeesEveryDifference(t *testing.T) {
	c := known(t, "ready")
	require.NotEmpty(t, c.Answers)
	for key := range maps.Keys(c.Answers) {
		wrong := gate.Case{Cluster: c.Cluster, Answers: maps.Clone(c.Answers)}
		if wrong.Answers[key] == gate.Ready {
			wrong.Answers[key] = gate.NotReady
		} else {
			wrong.Answers[key] = gate.Ready
		}
		found, err := gate.Disagreements(wrong)
		require.NoError(t, err)
		assert.Len(t, found, 1, key)
	}
}
